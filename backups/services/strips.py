"""What the last days were like: one cell a day, the worst that happened in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from django.db.models import Count
from django.db.models.functions import TruncDate
from django.utils import timezone

from backups.models import BackupPart, PartState, ScheduleSlot, SlotState, Source

DAYS = 30
_WORST_FIRST = ("failed", "missed", "warning", "ok")
_OF_PART = {
    PartState.COMPLETED: "ok", PartState.EXPIRED: "ok", PartState.DELETED: "ok", PartState.DELETING: "ok",
    PartState.COMPLETED_WITH_WARNINGS: "warning", PartState.FAILED: "failed",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A day: ok, warning, failed, missed, or none when nothing ended."""

    day: date
    state: str


Strip = list[Cell]


def strips(sources: Sequence[Source]) -> dict[UUID, Strip]:
    """The last 30 days of each source, oldest first, in two queries. Missed are slots of schedules that name it."""
    happened: dict[tuple[UUID, date], set[str]] = {}
    for source, day, state in [*_parts(sources), *_missed(sources)]:
        happened.setdefault((source, day), set()).add(state)
    return {source.pk: [_cell(day, happened.get((source.pk, day), set())) for day in days()] for source in sources}


def days() -> list[date]:
    """The last 30 days up to today, oldest first."""
    today = timezone.localdate()
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


def together(several: Iterable[Strip]) -> Strip:
    """One strip of several: the worst of each day."""
    columns = zip(*several, strict=True)
    return [_cell(column[0].day, {cell.state for cell in column}) for column in columns]


def counts(sources: Sequence[Source]) -> tuple[int, int]:
    """How many runs of the last 30 days ended with a recovery point, and how many failed."""
    rows = BackupPart.objects.filter(source__in=sources, created_at__date__gte=days()[0])
    told = dict(rows.values_list("state").annotate(count=Count("pk")))
    good = sum(told.get(state, 0) for state, word in _OF_PART.items() if word in ("ok", "warning"))
    return good, told.get(PartState.FAILED, 0)


def _cell(day: date, happened: set[str]) -> Cell:
    return Cell(day, next((state for state in _WORST_FIRST if state in happened), "none"))


def _parts(sources: Sequence[Source]) -> list[tuple[UUID, date, str]]:
    rows = BackupPart.objects.filter(source__in=sources, created_at__date__gte=days()[0], state__in=_OF_PART)
    told = rows.annotate(day=TruncDate("created_at")).values_list("source", "day", "state").distinct().order_by()
    return [(source, day, _OF_PART[PartState(state)]) for source, day, state in told]


def _missed(sources: Sequence[Source]) -> list[tuple[UUID, date, str]]:
    slots = ScheduleSlot.objects.filter(state=SlotState.MISSED, schedule__sources__in=sources)
    rows = slots.filter(due_at__date__gte=days()[0]).annotate(day=TruncDate("due_at"))
    told = rows.values_list("schedule__sources", "day").distinct().order_by()
    known = {source.pk for source in sources}
    return [(source, day, "missed") for source, day in told if source in known]
