"""What is told of each source and its runs. A fixed number of queries, however many sources there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.core.cache import cache
from django.db.models import Case, CharField, Count, Exists, OuterRef, Q, QuerySet, Subquery, Value, When
from django.utils import timezone

from aihub_backup.core.models.job import JobState
from aihub_backup.metrics.family import Family, Labels, counter, gauge, moment
from backups.models import Backup, BackupPart, BackupState, PartState, Source
from backups.models.backup import ACTIVE
from backups.models.verification import VerificationState
from backups.services import evidence, objectives, restorable
from disaster.models import RTO_MINUTES, DRConfig

SOURCE = ("source", "environment")
RUN = ("source", "environment", "type", "status")
STATUSES = ("completed", "completed_with_warnings", "failed", "cancelled")


def families() -> Iterator[Family]:
    """All of them."""
    read = Source.objects.filter(archived_at=None).only("name", "environment", "policy")
    rows = list(read.prefetch_related("environment", "policy"))  # few of both: once each, not beside every source
    yield _runs()
    last = _last_of_each()
    yield from _points(rows, last)
    yield from _targets(rows)
    yield from _checks(rows, last)


def labels(source: Source) -> Labels:
    """The labels of one source."""
    return source.name, source.environment.name


# --- runs -----------------------------------------------------------------------------------------------------------


def _runs() -> Family:
    """How a run ended is told by what never changes again: a part that expires or is deleted later still counts."""
    until = _settled()  # once: at midnight a second look would leave a day out
    ended = [*_long_ended(until), *_ended(finished_at__gte=until), *_ended(finished_at=None)]
    counts = _by_labels(ended)
    counts.update(_missed())
    told = "Finished backup runs by final status (completed, completed_with_warnings, failed, cancelled, missed)"
    return counter("aihub_backup_runs", told, RUN, counts)


def _by_labels(ended: list[tuple[Any, ...]]) -> dict[Labels, int]:
    """From a source's first run of a type on every status is told: Prometheus sees no increase in a new series."""
    known = {key.hex: tuple(names) for key, *names in Source.objects.values_list("pk", "name", "environment__name")}
    counts: dict[Labels, int] = {}
    for source, kind, status, count in ended:
        run = (*known[source], kind)
        if (*run, status) not in counts:
            counts.update(dict.fromkeys(((*run, other) for other in STATUSES), 0))
        counts[*run, status] += count
    return counts


def _ended(**when: Any) -> list[tuple[Any, ...]]:
    """(source, type, status, count) of runs that ended then; the source in hex, as the cache reads no UUID quickly."""
    odd = Q(warnings_count__gt=0) | Q(errors_count__gt=0) | ~Q(item_errors=[])
    status = Case(
        When(data_as_of__isnull=False, then=Case(
            When(odd, then=Value("completed_with_warnings")), default=Value("completed"))),
        When(job__state=JobState.CANCELLED, then=Value("cancelled")),
        default=Value("failed"), output_field=CharField(),
    )  # fmt: skip
    ended = BackupPart.objects.filter(**when).exclude(state__in=ACTIVE).annotate(status=status)
    rows = ended.values_list("source", "backup__type", "status").annotate(count=Count("*")).order_by()
    return [(source.hex, *rest) for source, *rest in rows]


def _long_ended(until: datetime) -> list[tuple[Any, ...]]:
    """Before yesterday. Such a run never changes, so the same number of them ended the same way: they are counted by
    status again only when there are more or fewer of them than the last time."""
    key = f"metrics:ended:{until:%Y-%m-%d}:{BackupPart.objects.filter(finished_at__lt=until).count()}"
    found: list[tuple[Any, ...]] | None = cache.get(key)
    if found is None:
        found = _ended(finished_at__lt=until)
        cache.set(key, found, timeout=2 * 86_400)
    return found


def _settled() -> datetime:
    """Yesterday's midnight: whoever writes down an end now does not write one before it."""
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=1)


def _missed() -> Counter[Labels]:
    """A slot nobody ran has no source: it never came so far."""
    missed = Backup.objects.filter(parts=None, slots__isnull=False).exclude(state=BackupState.QUEUED)
    rows = missed.values_list("environment__name", "type").annotate(count=Count("pk")).order_by()
    return Counter({("", environment or "", kind, "missed"): count for environment, kind, count in rows})


# --- points ---------------------------------------------------------------------------------------------------------


class Last(NamedTuple):
    """What came last to a source, if it ever came."""

    point: datetime | None  # data time of the newest that could be restored
    success: datetime | None
    passed: datetime | None
    check: str | None  # the state of the newest that found something out


def _last_of_each() -> dict[UUID, Last]:
    """In one query, each answered by a jump into an index: what is older is not read."""
    runs = BackupPart.objects.filter(source=OuterRef("pk"), data_as_of__isnull=False).order_by("-created_at", "-pk")
    points, checks = evidence.points_of_a_source(), evidence.checks_of_a_source()
    passed = checks.filter(state=VerificationState.PASSED)
    found = Source.objects.values_list(
        "pk", _first(points, "data_as_of"), _first(runs, "finished_at"), _first(passed, "finished_at"),
        _first(checks, "state"),
    )  # fmt: skip
    return {source: Last(*rest) for source, *rest in found.order_by()}


def _first(rows: QuerySet[Any, Any], name: str) -> Subquery:
    return Subquery(rows.values(name)[:1])


def _points(rows: list[Source], last: Mapping[UUID, Last]) -> Iterator[Family]:
    counts = restorable.counts()
    yield gauge(
        "aihub_source_last_restorable_timestamp_seconds", "Data time of the newest restorable point (0 = none)", SOURCE,
        ((labels(row), moment(last[row.pk].point)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_restorable_points", "Restorable points kept", SOURCE,
        ((labels(row), counts[row.pk]) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_last_success_timestamp_seconds", "Finish time of the newest successful backup", SOURCE,
        ((labels(row), moment(last[row.pk].success)) for row in rows),
    )  # fmt: skip
    yield _failures(rows)


def _failures(rows: list[Source]) -> Family:
    since = BackupPart.objects.filter(
        source=OuterRef("source"), data_as_of__isnull=False, created_at__gt=OuterRef("created_at")
    )
    failed = BackupPart.objects.filter(~Exists(since), state=PartState.FAILED)
    counts = dict(failed.values_list("source").annotate(count=Count("pk")).order_by())
    return gauge(
        "aihub_source_consecutive_failures", "Failed runs since the last success", SOURCE,
        ((labels(row), counts.get(row.pk, 0)) for row in rows),
    )  # fmt: skip


# --- targets --------------------------------------------------------------------------------------------------------


def _targets(rows: list[Source]) -> Iterator[Family]:
    rpo, rto = objectives.rpo(rows), dict(DRConfig.objects.values_list("environment", "rto_minutes"))
    yield gauge(
        "aihub_source_rpo_target_seconds", "RPO objective (default 3600)", SOURCE,
        ((labels(row), rpo[row.pk].total_seconds()) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_rto_target_seconds", f"RTO objective (default {RTO_MINUTES * 60})", SOURCE,
        ((labels(row), 60 * _rto_minutes(row, rto)) for row in rows),
    )  # fmt: skip


def _rto_minutes(source: Source, environments: Mapping[UUID, int]) -> int:
    """The policy's word goes before the environment's."""
    own = source.policy.rto_target_minutes if source.policy else None
    return own or environments.get(source.environment_id, RTO_MINUTES)


# --- checks ---------------------------------------------------------------------------------------------------------


def _checks(rows: list[Source], last: Mapping[UUID, Last]) -> Iterator[Family]:
    yield gauge(
        "aihub_source_last_verified_timestamp_seconds", "Last passed verification (0 = none)", SOURCE,
        ((labels(row), moment(last[row.pk].passed)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_last_verification_status", "Newest verification passed (1) or found damage (0)", SOURCE,
        ((labels(row), float(check == VerificationState.PASSED)) for row in rows if (check := last[row.pk].check)),
    )  # fmt: skip
    promised = [(row, row.policy.verify_interval_hours) for row in rows if row.policy]
    yield gauge(
        "aihub_source_verify_target_seconds", "Verify interval", SOURCE,
        ((labels(row), 3600 * hours) for row, hours in promised if hours),
    )  # fmt: skip
