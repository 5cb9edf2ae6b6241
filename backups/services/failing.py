"""How a failure is written into a row, and how byte paths are written into JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aihub_backup.core.failures import Failure
from aihub_backup.core.redaction import scrub
from backups.engine.disk import printable


def columns(failure: Failure) -> dict[str, Any]:
    """The columns of `CarriesError`."""
    return {
        "error_code": failure.code[:64], "error_message": scrub(failure.message)[:4000],
        "error_permanent": failure.permanent,
    }  # fmt: skip


def clear() -> dict[str, Any]:
    """The same columns, empty."""
    return {"error_code": "", "error_message": "", "error_permanent": None}


def printable_paths(paths: Iterable[bytes]) -> list[str]:
    """Several of them."""
    return [printable(path) for path in paths]
