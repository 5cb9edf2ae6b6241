"""What the last days were like: one cell a day, the worst that happened in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDate
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from backups.models import BackupPart, PartState, Schedule, ScheduleSlot, SlotState, Source
from backups.services import scope

DAYS = 30
_WORST_FIRST = ("failed", "missed", "warning", "ok")
_OF_PART: dict[str, str] = {
    PartState.COMPLETED: "ok", PartState.EXPIRED: "ok", PartState.DELETED: "ok", PartState.DELETING: "ok",
    PartState.COMPLETED_WITH_WARNINGS: "warning", PartState.FAILED: "failed",
}  # fmt: skip
_NOTHING: frozenset[str] = frozenset()


class Cell(NamedTuple):
    """A day: ok, warning, failed, missed, or none when nothing ended."""

    day: date
    state: str


Strip = list[Cell]


def strips(sources: Sequence[Source]) -> dict[UUID, Strip]:
    """The last 30 days of each source, oldest first, in three or four queries. Missed are slots of schedules that mean
    it."""
    happened: dict[UUID, dict[date, set[str]]] = {source.pk: {} for source in sources}
    for source, day, state in [*_parts(sources), *_missed(sources)]:
        happened[source].setdefault(day, set()).add(state)
    shown = days()
    return {key: [_cell(day, told.get(day, _NOTHING)) for day in shown] for key, told in happened.items()}


def days() -> list[date]:
    """The last 30 days up to today, oldest first."""
    today = timezone.localdate()
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


class Together(NamedTuple):
    """The last 30 days of many sources."""

    strip: Strip  # the worst of each day, whichever source it befell
    good: int  # runs that ended with a recovery point
    failed: int


def together(sources: QuerySet[Source]) -> Together:
    """Of them all, from one look at the runs of these days and one at the slots."""
    keys = sources.order_by().values("pk")
    runs = _ended().filter(source__in=keys).annotate(day=Day("created_at")).order_by()
    rows = runs.values_list("day", "state").annotate(count=Count("*"))
    counted = [(day, _OF_PART[state], count) for day, state, count in rows]
    named = _skipped().filter(schedule__sources__in=keys).values_list("day", flat=True).distinct().order_by()
    unnamed = _of_unnamed()
    missed = {*named, *(day for _source, day in _meant(unnamed, sources if unnamed else ()))}
    happened: dict[date, set[str]] = {}
    for day, word in [*((day, word) for day, word, _count in counted), *((day, "missed") for day in missed)]:
        happened.setdefault(day, set()).add(word)
    failed = sum(count for _day, word, count in counted if word == "failed")
    good = sum(count for _day, _word, count in counted) - failed
    return Together([_cell(day, happened.get(day, _NOTHING)) for day in days()], good, failed)


def _cell(day: date, happened: Collection[str]) -> Cell:
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
    return [(source, day, _OF_PART[state]) for source, day, state in told]


def _missed(sources: Sequence[Source]) -> list[tuple[UUID, date, str]]:
    known = {source.pk for source in sources}
    told = _skipped().filter(schedule__sources__in=known).values_list("schedule__sources", "day").distinct().order_by()
    named = [(source, day) for source, day in told if source in known]
    return [(source, day, "missed") for source, day in (*named, *_meant(_of_unnamed(), sources))]


def _of_unnamed() -> list[tuple[Schedule, set[date]]]:
    """Schedules that name no sources, with the days of their missed slots."""
    told = _skipped().filter(schedule__sources=None).values_list("schedule", "day").distinct().order_by()
    found: dict[UUID, set[date]] = {}
    for key, day in told:
        found.setdefault(key, set()).add(day)
    return [(row, found[row.pk]) for row in Schedule.objects.filter(pk__in=found)] if found else []


def _meant(missed: Sequence[tuple[Schedule, set[date]]], sources: Iterable[Source]) -> list[tuple[UUID, date]]:
    """A source is meant by its kind, environment and tags, as it is today, and not before it was there."""
    return [
        (source.pk, day)
        for source in sources
        for schedule, days_of in missed
        if scope.means(schedule, source)
        for day in days_of
        if day >= timezone.localdate(source.created_at)
    ]


class Day(TruncDate):
    """The day of a moment. On SQLite Django calls Python for each row; in UTC the text of the moment begins with it."""

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **context: Any) -> Any:
        """Its first ten letters, where the time zone is UTC."""
        if timezone.get_current_timezone_name() != "UTC":
            return super().as_sql(compiler, connection, **context)
        sql, parameters = compiler.compile(self.lhs)
        return f"substr({sql}, 1, 10)", parameters
