"""Queueing a job and ringing for it. A lost ring is repeated, a double one finds nothing to do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import clock
from aihub_backup.core.jobs.handlers import kinds
from aihub_backup.core.models import Job, Node
from aihub_backup.core.models.job import JobState

log = logging.getLogger(__name__)

TASK = "aihub_backup.core.tasks.run_job"
FIRST_RINGS = 500  # jobs nobody rang for yet, in one pass
AGAIN_A_QUEUE = 20  # repeated rings for one queue in one pass: one ring brings the most urgent job, whichever it names
SLOWER_AFTER = 5  # doublings of the pause between repeated rings


def enqueue(
    kind: str,
    *,
    target_id: UUID | None = None,
    queue: str,
    node: Node | None = None,
    priority: int = 0,
    max_attempts: int = 3,
    not_before: datetime | None = None,
) -> Job:
    """Add a job in the caller's transaction and ring for it after the commit. `queue` is one of AIHUB_JOB_QUEUES.

    With a node, only that node's workers take it. Higher priority first, then first come, first served.
    """
    if queue not in settings.AIHUB_JOB_QUEUES:
        raise ValueError(f"there is no queue {queue!r}")
    if kind not in kinds():
        raise Failure(f"Nobody knows how to do a “{kind}” job; is its app installed?", code="unknown-kind")
    job = Job.objects.create(
        kind=kind, target_id=target_id, queue=queue, node=node, priority=priority, max_attempts=max_attempts,
        not_before=not_before or timezone.now(),
    )  # fmt: skip
    if not_before is None:
        ring(job)
    return job


def ring(job: Job) -> None:
    """Ring once the present transaction is committed."""
    transaction.on_commit(partial(_ring, job.pk, job.doorbell), robust=True)


def ring_unrung() -> int:
    """Ring for due jobs that nobody rang for or nobody came for; the number of rings that went out."""
    due = Job.objects.filter(state=JobState.QUEUED, not_before__lte=clock.now()).select_related("node")
    due = due.order_by("-priority", "created_at")
    fresh = due.filter(rung_at=None)[:FIRST_RINGS]
    stale = due.filter(rung_at__lt=clock.after(-settings.AIHUB_JOB_RING_SECONDS))[:FIRST_RINGS]
    rung = 0
    for job in [*fresh, *_worth_repeating(stale)]:
        if not _ring(job.pk, job.doorbell):
            break  # the broker is down; asking it five hundred times would take minutes
        rung += 1
    return rung


def _ring(job_id: UUID, queue: str) -> bool:
    """Send the message; False when the broker does not take it (the next pass tries again)."""
    try:
        current_app.send_task(TASK, args=[str(job_id)], queue=queue, retry=False)
    except Exception as error:  # every broker has errors of its own, and none of them may hurt the caller
        log.warning("the broker took no message for job %s: %s", job_id, error)
        return False
    Job.objects.filter(pk=job_id, state=JobState.QUEUED).update(rung_at=clock.now(), rings=F("rings") + 1)
    return True


def _worth_repeating(jobs: Iterable[Job]) -> list[Job]:
    """Not too many for one queue, and the same job ever more rarely: all workers may simply be busy for hours."""
    chosen, queues = [], Counter[str]()
    for job in jobs:
        pause = timedelta(seconds=settings.AIHUB_JOB_RING_SECONDS * 2 ** min(max(job.rings - 1, 0), SLOWER_AFTER))
        patient = job.rung_at is not None and timezone.now() - job.rung_at < pause
        if not patient and queues[job.doorbell] < AGAIN_A_QUEUE:
            queues[job.doorbell] += 1
            chosen.append(job)
    return chosen
