"""What is counted over all runs there ever were: those that ended long ago once an hour (that there are no more and no
fewer is asked once a minute), not at every scrape."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.cache import cache
from django.db.models import Case, CharField, Count, Q, Sum, Value, When
from django.utils import timezone

from aihub_backup.core.models.job import JobState
from backups.models import BackupPart
from backups.models.backup import ACTIVE

_KEPT, _SURE = 2 * 3_600, 60  # seconds; the next hour asks for another one


class Counted(NamedTuple):
    """Runs that ended alike. Ids in hex: a cache reads no UUID quickly."""

    source: str
    type: str
    status: str
    repository: str
    runs: int
    added: int  # bytes


def all_runs() -> list[Counted]:
    """Every run there was; those of one kind may be counted in several rows."""
    until = _settled()  # once: at the turn of an hour a second look would leave one out
    return [*_long_ago(until), *_counted(Q(finished_at__gte=until) | Q(finished_at=None))]


def _settled() -> datetime:
    """The beginning of the hour before this one: whoever writes down an end now does not write one before it."""
    return timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def _long_ago(until: datetime) -> list[Counted]:
    """Such a run never changes, so the same number of them says the same: they are counted again only when there are
    more or fewer of them than the last time, which is asked once a minute: an adoption brings some."""
    rows, sure = (f"metrics:{name}:{until:%Y-%m-%dT%H}" for name in ("runs", "sure"))
    known = cache.get_many([rows, sure])
    if rows not in known or sure not in known:
        known[rows] = _numbered(until, known.get(rows))
        cache.set(rows, known[rows], timeout=_KEPT)
        cache.set(sure, True, timeout=_SURE)
    return [Counted(*row) for row in known[rows][1]]


def _numbered(until: datetime, known: tuple[int, list[Any]] | None) -> tuple[int, list[Any]]:
    number = BackupPart.objects.filter(finished_at__lt=until).count()
    if known and known[0] == number:
        return known
    return number, [tuple(row) for row in _counted(Q(finished_at__lt=until))]


def _counted(when: Q) -> list[Counted]:
    odd = Q(warnings_count__gt=0) | Q(errors_count__gt=0) | ~Q(item_errors=[])
    status = Case(
        When(data_as_of__isnull=False, then=Case(
            When(odd, then=Value("completed_with_warnings")), default=Value("completed"))),
        When(job__state=JobState.CANCELLED, then=Value("cancelled")),
        default=Value("failed"), output_field=CharField(),
    )  # fmt: skip
    ended = BackupPart.objects.filter(when).exclude(state__in=ACTIVE).annotate(status=status).order_by()
    alike = ended.values_list("source", "backup__type", "status", "repository")
    rows = alike.annotate(count=Count("*"), added=Sum("stored_bytes"))
    return [Counted(one.hex, kind, status, at.hex, count, added or 0) for one, kind, status, at, count, added in rows]
