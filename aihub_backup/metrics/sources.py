"""What is told of each source and its runs. A fixed number of queries, however many sources there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, DateTimeField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from aihub_backup.metrics.family import Family, Labels, counter, gauge, moment
from aihub_backup.metrics.settled import Counted
from backups.models import Backup, BackupPart, BackupState, PartState, Policy, Source
from backups.models.verification import VerificationState
from backups.services import evidence, objectives, restorable
from disaster.models import RTO_MINUTES, DRConfig

SOURCE = ("source", "environment")
RUN = ("source", "environment", "type", "status")
STATUSES = ("completed", "completed_with_warnings", "failed", "cancelled")


class Row(NamedTuple):
    """A source as far as its series ask."""

    pk: UUID
    labels: Labels  # of all of its series
    environment_id: UUID
    policy: Policy | None


def names() -> dict[UUID, Labels]:
    """(name, environment) of every source, also of those that are archived."""
    return {key: tuple(told) for key, *told in Source.objects.values_list("pk", "name", "environment__name")}


def families(past: Iterable[Counted], known: Mapping[UUID, Labels]) -> Iterator[Family]:
    """All of them."""
    yield _runs(past, known)
    rows, last = _rows(), _last_of_each()
    yield from _points(rows, last)
    yield from _targets(rows)
    yield from _checks(rows, last)


def _rows() -> list[Row]:
    found = Source.objects.filter(archived_at=None).order_by("name")
    policies = Policy.objects.in_bulk()  # there are few
    told = found.values_list("pk", "name", "environment__name", "environment_id", "policy_id")
    return [Row(pk, (name, at), environment, policies.get(policy)) for pk, name, at, environment, policy in told]


# --- runs -----------------------------------------------------------------------------------------------------------


def _runs(past: Iterable[Counted], known: Mapping[UUID, Labels]) -> Family:
    """How a run ended is told by what never changes again: a part that expires or is deleted later still counts."""
    counts = _by_labels(past, {key.hex: told for key, told in known.items()})
    counts.update(_missed())
    told = "Finished backup runs by final status (completed, completed_with_warnings, failed, cancelled, missed)"
    return counter("aihub_backup_runs", told, RUN, counts)


def _by_labels(past: Iterable[Counted], known: Mapping[str, Labels]) -> dict[Labels, int]:
    """From a source's first run of a type on every status is told: Prometheus sees no increase in a new series."""
    counts: dict[Labels, int] = {}
    for source, kind, status, _repository, runs, _added in past:
        run = (*known[source], kind)
        if (*run, status) not in counts:
            counts.update(dict.fromkeys(((*run, other) for other in STATUSES), 0))
        counts[*run, status] += runs
    return counts


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
    failures: int  # since the newest success
    passed: datetime | None
    check: str | None  # the state of the newest that found something out


def _last_of_each() -> dict[UUID, Last]:
    """In two queries, each answered by jumps into an index: what is older is not read. Whose newest run and check went
    well is known by these; of the few others it takes a closer look."""
    run = BackupPart.objects.filter(source=OuterRef("pk")).order_by("-created_at", "-pk")
    found = Source.objects.order_by().values_list(
        "pk", _first(evidence.points_of_a_source(), "data_as_of"),
        evidence.newest(run, {"point": "data_as_of", "at": "finished_at"}),
        evidence.newest(evidence.checks_of_a_source(), {"state": "state", "at": "finished_at"}),
    )  # fmt: skip
    known = {source: _well(*rest) for source, *rest in found}
    doubtful = [source for source, last in known.items() if last is None]
    return {source: last for source, last in known.items() if last} | (_looked_at(doubtful) if doubtful else {})


def _well(point: datetime | None, run: Mapping[str, Any] | None, check: Mapping[str, Any] | None) -> Last | None:
    if (run and not (run["point"] and run["at"])) or (check and check["state"] != VerificationState.PASSED):
        return None
    success, passed = (evidence.moment(one["at"]) if one else None for one in (run, check))
    return Last(point, success, 0, passed, check["state"] if check else None)


def _looked_at(sources: list[UUID]) -> dict[UUID, Last]:
    runs = BackupPart.objects.filter(source=OuterRef("pk"), data_as_of__isnull=False).order_by("-created_at", "-pk")
    points, checks = evidence.points_of_a_source(), evidence.checks_of_a_source()
    passed = checks.filter(state=VerificationState.PASSED)
    found = Source.objects.filter(pk__in=sources).values_list(
        "pk", _first(points, "data_as_of"), _first(runs, "finished_at"), _failures(), _first(passed, "finished_at"),
        _first(checks, "state"),
    )  # fmt: skip
    return {source: Last(*rest) for source, *rest in found.order_by()}


def _failures() -> Coalesce:
    """How many failed after the newest success of the source; all of them where nothing ever succeeded."""
    of = OuterRef("pk")
    better = BackupPart.objects.filter(source=OuterRef(of), data_as_of__isnull=False)
    last = better.order_by("-created_at").values("created_at")[:1]
    since = Coalesce(Subquery(last), Value(datetime.min.replace(tzinfo=UTC)), output_field=DateTimeField())
    failed = BackupPart.objects.filter(source=of, state=PartState.FAILED, created_at__gt=since)
    count = failed.order_by().values("source").annotate(count=Count("*")).values("count")
    return Coalesce(Subquery(count), 0)


def _first(rows: QuerySet[Any, Any], name: str) -> Subquery:
    return Subquery(rows.values(name)[:1])


def _points(rows: list[Row], last: Mapping[UUID, Last]) -> Iterator[Family]:
    counts = restorable.counts()
    yield gauge(
        "aihub_source_last_restorable_timestamp_seconds", "Data time of the newest restorable point (0 = none)", SOURCE,
        ((row.labels, moment(last[row.pk].point)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_restorable_points", "Restorable points kept", SOURCE,
        ((row.labels, counts[row.pk]) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_last_success_timestamp_seconds", "Finish time of the newest successful backup", SOURCE,
        ((row.labels, moment(last[row.pk].success)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_consecutive_failures", "Failed runs since the last success", SOURCE,
        ((row.labels, last[row.pk].failures) for row in rows),
    )  # fmt: skip


# --- targets --------------------------------------------------------------------------------------------------------


def _targets(rows: list[Row]) -> Iterator[Family]:
    rpo, rto = objectives.rpo(rows), dict(DRConfig.objects.values_list("environment", "rto_minutes"))
    yield gauge(
        "aihub_source_rpo_target_seconds", "RPO objective (default 3600)", SOURCE,
        ((row.labels, rpo[row.pk].total_seconds()) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_rto_target_seconds", f"RTO objective (default {RTO_MINUTES * 60})", SOURCE,
        ((row.labels, 60 * _rto_minutes(row, rto)) for row in rows),
    )  # fmt: skip


def _rto_minutes(source: Row, environments: Mapping[UUID, int]) -> int:
    """The policy's word goes before the environment's."""
    own = source.policy.rto_target_minutes if source.policy else None
    return own or environments.get(source.environment_id, RTO_MINUTES)


# --- checks ---------------------------------------------------------------------------------------------------------


def _checks(rows: list[Row], last: Mapping[UUID, Last]) -> Iterator[Family]:
    yield gauge(
        "aihub_source_last_verified_timestamp_seconds", "Last passed verification (0 = none)", SOURCE,
        ((row.labels, moment(last[row.pk].passed)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_source_last_verification_status", "Newest verification passed (1) or found damage (0)", SOURCE,
        ((row.labels, float(check == VerificationState.PASSED)) for row in rows if (check := last[row.pk].check)),
    )  # fmt: skip
    promised = [(row, row.policy.verify_interval_hours) for row in rows if row.policy]
    yield gauge(
        "aihub_source_verify_target_seconds", "Verify interval", SOURCE,
        ((row.labels, 3600 * hours) for row, hours in promised if hours),
    )  # fmt: skip
