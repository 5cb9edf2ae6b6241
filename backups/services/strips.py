"""What the last days were like: one cell a day, the worst that happened in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDate
from django.db.models.sql.compiler import SQLCompiler
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


def whole(sources: QuerySet[Source]) -> Strip:
    """One strip of them all: the worst of each day, whichever source it befell."""
    happened: dict[date, set[str]] = {}
    parts = _ended().filter(source__in=sources.order_by().values("pk")).annotate(day=Day("created_at"))
    for day, state in parts.values_list("day", "state").distinct().order_by():
        happened.setdefault(day, set()).add(_OF_PART[PartState(state)])
    missed = _skipped().filter(schedule__sources__in=sources.order_by().values("pk"))
    for day in missed.values_list("day", flat=True).distinct().order_by():
        happened.setdefault(day, set()).add("missed")
    return [_cell(day, happened.get(day, set())) for day in days()]


def counts(sources: QuerySet[Source]) -> tuple[int, int]:
    """How many runs of the last 30 days ended with a recovery point, and how many failed."""
    rows = BackupPart.objects.filter(source__in=sources.order_by().values("pk"), created_at__gte=_begin())
    told = dict(rows.values_list("state").annotate(count=Count("pk")))
    good = sum(told.get(state, 0) for state, word in _OF_PART.items() if word in ("ok", "warning"))
    return good, told.get(PartState.FAILED, 0)


def _cell(day: date, happened: set[str]) -> Cell:
    return Cell(day, next((state for state in _WORST_FIRST if state in happened), "none"))


def _begin() -> datetime:
    """Midnight of the first day."""
    return timezone.make_aware(datetime.combine(days()[0], time()))


def _ended() -> QuerySet[BackupPart]:
    return BackupPart.objects.filter(created_at__gte=_begin(), state__in=_OF_PART)


def _skipped() -> QuerySet[Any, Any]:
    """Missed slots with their day."""
    slots = ScheduleSlot.objects.filter(state=SlotState.MISSED, due_at__gte=_begin())
    return slots.annotate(day=Day("due_at"))


def _parts(sources: Sequence[Source]) -> list[tuple[UUID, date, str]]:
    rows = _ended().filter(source__in=sources).annotate(day=Day("created_at"))
    told = rows.values_list("source", "day", "state").distinct().order_by()
    return [(source, day, _OF_PART[PartState(state)]) for source, day, state in told]


def _missed(sources: Sequence[Source]) -> list[tuple[UUID, date, str]]:
    known = {source.pk for source in sources}
    told = _skipped().filter(schedule__sources__in=known).values_list("schedule__sources", "day").distinct().order_by()
    return [(source, day, "missed") for source, day in told if source in known]


class Day(TruncDate):
    """The day of a moment. On SQLite Django calls Python for each row; in UTC the text of the moment begins with it."""

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **context: Any) -> Any:
        """Its first ten letters, where the time zone is UTC."""
        if timezone.get_current_timezone_name() != "UTC":
            return super().as_sql(compiler, connection, **context)
        sql, parameters = compiler.compile(self.lhs)
        return f"substr({sql}, 1, 10)", parameters
