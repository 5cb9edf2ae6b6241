"""What is told of each source and its runs. A fixed number of queries, however many sources there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db.models import Case, CharField, Count, Exists, Max, OuterRef, Q, QuerySet, Value, When
from django.utils import timezone

from aihub_backup.core.models.job import JobState
from aihub_backup.metrics.family import Family, Labels, counter, gauge, moment
from backups.models import Backup, BackupPart, BackupState, PartState, Source, Verification
from backups.models.backup import ACTIVE
from backups.models.verification import CONCLUSIVE, VerificationState
from backups.services import objectives, restorable
from disaster.models import RTO_MINUTES, DRConfig

SOURCE = ("source", "environment")
RUN = ("source", "environment", "type", "status")
STATUSES = ("completed", "completed_with_warnings", "failed", "cancelled")


def families() -> Iterator[Family]:
    """All of them."""
    read = Source.objects.filter(archived_at=None).only("name", "environment", "policy")
    rows = list(read.prefetch_related("environment", "policy"))  # few of both: once each, not beside every source
    yield _runs(rows)
    yield from _points(rows)
    yield from _targets(rows)
    yield from _checks(rows)


def labels(source: Source) -> Labels:
    """The labels of one source."""
    return source.name, source.environment.name


# --- runs -----------------------------------------------------------------------------------------------------------


def _runs(rows: list[Source]) -> Family:
    """How a run ended is told by what never changes again: a part that expires or is deleted later still counts."""
    known = {key: tuple(names) for key, *names in Source.objects.values_list("pk", "name", "environment__name")}
    counts: Counter[Labels] = Counter({(*labels(row), "", name): 0 for row in rows for name in STATUSES})
    for source, *values, count in [*_long_ended(), *_ended(finished_at__gte=_settled()), *_ended(finished_at=None)]:
        counts[(*known[source], *values)] += count
    counts += _missed()
    told = "Finished backup runs by final status (completed, completed_with_warnings, failed, cancelled, missed)"
    return counter("aihub_backup_runs", told, RUN, counts)


def _ended(**when: Any) -> list[tuple[Any, ...]]:
    """(source, type, status, count) of runs that ended then."""
    odd = Q(warnings_count__gt=0) | Q(errors_count__gt=0) | ~Q(item_errors=[])
    status = Case(
        When(data_as_of__isnull=False, then=Case(
            When(odd, then=Value("completed_with_warnings")), default=Value("completed"))),
        When(job__state=JobState.CANCELLED, then=Value("cancelled")),
        default=Value("failed"), output_field=CharField(),
    )  # fmt: skip
    ended = BackupPart.objects.filter(**when).exclude(state__in=ACTIVE).annotate(status=status)
    return list(ended.values_list("source", "backup__type", "status").annotate(count=Count("*")).order_by())


def _long_ended() -> list[tuple[Any, ...]]:
    """Before yesterday. Such a run never changes, so the same number of them ended the same way: they are counted by
    status again only when there are more or fewer of them than the last time."""
    until = _settled()
    key = f"metrics:runs:{until:%Y-%m-%d}:{BackupPart.objects.filter(finished_at__lt=until).count()}"
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


def _points(rows: list[Source]) -> Iterator[Family]:
    counted = restorable.restorable_parts().values("source").annotate(newest=Max("data_as_of"), count=Count("*"))
    points = {one["source"]: one for one in counted.order_by()}
    yield gauge(
        "aihub_source_last_restorable_timestamp_seconds", "Data time of the newest restorable point (0 = none)", SOURCE,
        ((labels(row), moment(points[row.pk]["newest"] if row.pk in points else None)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_restorable_points", "Restorable points kept", SOURCE,
        ((labels(row), points[row.pk]["count"] if row.pk in points else 0) for row in rows),
    )  # fmt: skip
    ever = BackupPart.objects.filter(data_as_of__isnull=False)
    last = _by_source(ever.values_list("source").annotate(last=Max("finished_at")).order_by())
    yield gauge(
        "aihub_source_last_success_timestamp_seconds", "Finish time of the newest successful backup", SOURCE,
        ((labels(row), moment(last.get(row.pk))) for row in rows),
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


def _checks(rows: list[Source]) -> Iterator[Family]:
    ended = Verification.objects.filter(state__in=CONCLUSIVE, source__in=[row.pk for row in rows])
    grouped = ended.values_list("source", "state").annotate(last=Max("finished_at")).order_by()
    last = {(source, state): when for source, state, when in grouped}
    yield gauge(
        "aihub_source_last_verified_timestamp_seconds", "Last passed verification (0 = none)", SOURCE,
        ((labels(row), moment(last.get((row.pk, VerificationState.PASSED)))) for row in rows),
    )  # fmt: skip
    known = [row for row in rows if any((row.pk, state) in last for state in CONCLUSIVE)]
    yield gauge(
        "aihub_source_last_verification_status", "Newest verification passed (1) or found damage (0)", SOURCE,
        ((labels(row), float(_passed(row.pk, last))) for row in known),
    )  # fmt: skip
    promised = [(row, row.policy.verify_interval_hours) for row in rows if row.policy]
    yield gauge(
        "aihub_source_verify_target_seconds", "Verify interval", SOURCE,
        ((labels(row), 3600 * hours) for row, hours in promised if hours),
    )  # fmt: skip


def _passed(source: UUID, last: dict[tuple[UUID, str], datetime]) -> bool:
    passed, failed = (moment(last.get((source, state))) for state in CONCLUSIVE)
    return passed > failed


def _by_source(rows: QuerySet[BackupPart, Any]) -> dict[Any, Any]:
    return dict(rows)
