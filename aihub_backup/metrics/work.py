"""What is told of running work, workers, the scheduler, schedules and recoveries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Max, Min, Q
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from aihub_backup.core.models import Environment, Job, Node
from aihub_backup.core.models.job import LEASED, JobState
from aihub_backup.metrics.family import Family, Labels, counter, gauge, moment
from backups.models import Schedule, SlotState
from backups.services import cron
from recovery.models import Purpose, RecoveryPart, RecoveryState

KINDS = ("backup", "verification", "recovery")
RECOVERIES = {Purpose.RECOVERY: "restore", Purpose.TEST: "test", Purpose.ROLLBACK: "rollback"}
ENDED = (
    RecoveryState.COMPLETED, RecoveryState.COMPLETED_WITH_WARNINGS, RecoveryState.FAILED, RecoveryState.CANCELLED,
    RecoveryState.REJECTED, RecoveryState.ROLLED_BACK, RecoveryState.ROLLBACK_FAILED,
)  # fmt: skip

_PATHS = {
    "backup": "backup_part__source", "verification": "verification__part__source",
    "recovery": "recovery__parts__part__source",
}  # fmt: skip


def families(known: Mapping[UUID, Labels]) -> Iterator[Family]:
    """All of them."""
    yield from _running()
    yield from _queues()
    yield _scheduler()
    yield from _schedules()
    yield _recoveries(known)


def _running() -> Iterator[Family]:
    active: Counter[Labels] = Counter()
    signs: dict[Labels, float] = {}
    for kind, path in _PATHS.items():
        held = Job.objects.filter(state__in=LEASED).exclude(**{path: None})
        names = (f"{path}__name", f"{path}__environment__name", "heartbeat_at")
        for name, environment, heartbeat in held.values_list(*names):
            active[kind, environment] += 1
            signs[kind, name, environment] = moment(heartbeat)
    for environment in Environment.objects.values_list("name", flat=True):
        for kind in KINDS:
            active[kind, environment] += 0
    yield gauge("aihub_runs_active", "Runs being executed now", ("kind", "environment"), active.items())
    yield gauge(
        "aihub_run_heartbeat_timestamp_seconds", "Last sign of life of the active run (absent when idle)",
        ("kind", "source", "environment"), signs.items(),
    )  # fmt: skip


def _queues() -> Iterator[Family]:
    nodes = list(Node.objects.filter(enabled=True))
    alive = [node for node in nodes if node.alive]
    online = dict.fromkeys(settings.AIHUB_JOB_QUEUES, len(alive)) | {node.queue: int(node.alive) for node in nodes}
    yield gauge("aihub_workers_online", "Hosts whose workers showed themselves lately", ("queue",), _one(online))
    waiting = Job.objects.filter(state=JobState.QUEUED, not_before__lte=timezone.now())
    depth, oldest = dict.fromkeys(online, 0), dict.fromkeys(online, 0.0)
    for queue, node, count, first in waiting.values_list("queue", "node__name").annotate(
        count=Count("pk"), first=Min("not_before")
    ).order_by():  # fmt: skip
        name = f"node.{node}" if node else queue
        age = (timezone.now() - first).total_seconds()
        depth[name], oldest[name] = depth.get(name, 0) + count, max(oldest.get(name, 0.0), age)
    yield gauge("aihub_queue_depth", "Jobs that wait", ("queue",), _one(depth))
    yield gauge("aihub_queue_oldest_seconds", "Longest wait of a job that is due", ("queue",), _one(oldest))


def _scheduler() -> Family:
    last = PeriodicTask.objects.filter(enabled=True).aggregate(last=Max("last_run_at"))["last"]
    return gauge(
        "aihub_beat_heartbeat_timestamp_seconds", "Scheduler sign of life (0 = never)", (), [((), moment(last))]
    )


def _schedules() -> Iterator[Family]:
    due = Min("slots__due_at", filter=Q(slots__state=SlotState.DUE))
    rows = list(Schedule.objects.select_related("environment").annotate(first_due=due))
    names = ("schedule", "environment")
    yield gauge(
        "aihub_schedule_enabled", "Schedule is active", names, ((_labels(row), float(row.enabled)) for row in rows)
    )
    yield gauge(
        "aihub_schedule_next_deadline_timestamp_seconds", "Next slot + grace; a run moves it on", names,
        ((_labels(row), deadline) for row in rows if row.enabled and (deadline := _deadline(row, row.first_due))),
    )  # fmt: skip


def _deadline(row: Schedule, first_due: Any) -> float:
    """Of the oldest slot that nobody has run; else of the next one after the moment up to which all is decided."""
    coming = [first_due] if first_due else cron.following(row.cron_expression, row.zone, row.decided_until, 1)
    return moment(coming[0] + timedelta(seconds=row.grace_seconds)) if coming else 0.0


def _recoveries(known: Mapping[UUID, Labels]) -> Family:
    ended = RecoveryPart.objects.filter(recovery__state__in=ENDED)
    read = ended.values_list("part__source", "recovery__purpose", "recovery__state").annotate(count=Count("pk"))
    counts: dict[Labels, int] = {}
    for source, purpose, state, count in read.order_by():
        counts[*known[source], RECOVERIES[Purpose(purpose)], state] = count
    return counter("aihub_recovery_runs", "Finished recoveries", ("source", "environment", "kind", "status"), counts)


def _labels(row: Schedule) -> Labels:
    return row.name, row.environment.name if row.environment else ""


def _one(numbers: dict[str, Any]) -> Iterator[tuple[Labels, float]]:
    return (((name,), float(number)) for name, number in numbers.items())
