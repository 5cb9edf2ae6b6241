"""Trying out what people configured, and writing down how that went."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any, Protocol, TypeVar, cast

from django.db import models, transaction
from django.utils import timezone

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Failure
from backups.services import placing

PATIENCE = 120.0  # seconds somebody who waits gives a place or a source to answer


class Tried(Protocol):
    """A row that can be tried out."""

    pk: Any
    node: Any
    options: Any
    secrets: Any
    tested_at: Any
    test_error: Any


R = TypeVar("R", bound=Tried)


def carry_out(row: R, reach: Callable[[R], None], *, by: Actor, found: Iterable[str] = ()) -> R:
    """Reach it and store the result: `tested_at`, `test_error`, and the fields `found` that `reach` has filled in.

    A failure is the result, nothing to raise. Refused when only another node reaches it.
    """
    must_be_here(row)
    try:
        reach(row)
        row.test_error = ""
    except Failure as failure:
        row.test_error = failure.message
    row.tested_at = timezone.now()
    stored = cast(models.Model, row)
    with transaction.atomic():
        present: Any = type(stored)._base_manager.select_for_update().get(pk=row.pk)
        if (present.options, present.secrets) != (row.options, row.secrets):
            return cast(R, present)  # somebody changed it meanwhile: what was found out is of something else
        stored.save(update_fields=["tested_at", "test_error", *found, "updated_at"])
        record(f"{stored._meta.model_name}.test", stored, by=by, error=row.test_error)
    return row


def if_moved(row: R, changed: Container[str], test: Callable[..., R], *, by: Actor) -> R:
    """`test` what has other options now, unless only another node reaches it. For whoever has just changed it, after
    that is stored: a place may take minutes to answer, and no row is locked so long."""
    return test(row, by=by) if "options" in changed and placing.here(row.node) else row


def must_be_here(row: Tried) -> None:
    """Refused, with the cure, when only another node reaches it."""
    placing.must_be_here(row.node, f"the {cast(models.Model, row)._meta.verbose_name} “{row}”")


def forget(row: Tried) -> tuple[str, str]:
    """Forget the last trial, which was of something else; the fields that changed by that."""
    row.tested_at, row.test_error = None, ""
    return "tested_at", "test_error"
