"""Commands that are other programs of this project: their words go through untouched."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from aihub_backup.cli.exits import CommandFailed


def engine(words: Sequence[str]) -> NoReturn:
    """The engine's own command line."""
    become("backups.engine", words)


def rescue(words: Sequence[str]) -> NoReturn:
    """The file that a stranger would start, isolated as on a machine without this project."""
    program = Path(__file__).resolve().parents[2] / "backups" / "rescue.py"
    os.execv(sys.executable, [sys.executable, "-I", str(program), *words])  # noqa: S606  no shell is meant


def bench(words: Sequence[str]) -> NoReturn:
    """The measurements."""
    become("benchmarks", words)


def manage(words: Sequence[str]) -> NoReturn:
    """Django's management commands."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")
    become("django", words)


def become(module: str, words: Sequence[str]) -> NoReturn:
    """Replace this process by `python -m module`."""
    if importlib.util.find_spec(f"{module}.__main__") is None:
        raise CommandFailed(f"this checkout has no program {module}.")
    os.execv(sys.executable, [sys.executable, "-m", module, *words])  # noqa: S606  no shell is meant
