"""Finding jobs whose holder is gone, and putting each of them where it truthfully belongs."""

from __future__ import annotations

import logging
from typing import NamedTuple

from django.conf import settings
from django.db.models import BooleanField, Case, F, Q, Value, When

from aihub_backup.core import processes
from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import clock, machine
from aihub_backup.core.jobs.handlers import Handler, handler_for
from aihub_backup.core.jobs.lease import Lease
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import LEASED, JobState
from aihub_backup.core.processes import Identity, Presence

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What a pass has done: jobs looked at, jobs taken from a holder that is gone."""

    held: int
    recovered: int


def watchdog() -> Found:
    """One pass over every held job. Any number of watchdogs may run at once."""
    held = sorted(_held(), key=lambda job: job.state == JobState.COMMITTING)  # last: reading a repository takes time
    return Found(len(held), sum(_recover_if_gone(job) for job in held))


def _held() -> list[Job]:
    ended = Q(lease_expires_at=None) | Q(lease_expires_at__lt=clock.now())
    over = Case(When(ended, then=Value(True)), default=Value(False), output_field=BooleanField())
    return list(Job.objects.filter(state__in=LEASED).annotate(over=over).select_related("node"))


def _recover_if_gone(job: Job) -> bool:
    try:
        return _gone(job) and _recover(job)
    except Exception:  # one sick job must not keep the watchdog from the others
        log.exception("the watchdog could not recover job %s (%s)", job.pk, job.kind)
        return False


def _gone(job: Job) -> bool:
    """Is the holder gone? A process that can be seen is asked; otherwise the lease's own time decides."""
    owner = Identity.parse(job.lease_owner)
    seen = processes.presence(owner, one_host=clock.one_host()) if owner else Presence.UNKNOWN
    over: bool = job.over  # type: ignore[attr-defined]  # annotated in _held
    if seen is Presence.DEAD:
        return True
    if seen is Presence.ALIVE and clock.one_host():
        return over and _silent_since_last_pass(job)
    return over


def _silent_since_last_pass(job: Job) -> bool:
    """The holder lives but its lease is over. On SQLite that may be a step of the host's clock: the next heartbeat
    mends it. Only a holder without a heartbeat between two passes is given up."""
    if job.suspected_heartbeat_at is not None and job.suspected_heartbeat_at == job.heartbeat_at:
        return True
    Job.objects.filter(pk=job.pk, lease_epoch=job.lease_epoch).update(suspected_heartbeat_at=F("heartbeat_at"))
    return False


def _recover(job: Job) -> bool:
    epoch = _take_over(job)
    if epoch is None:
        return False
    log.warning("job %s (%s): its holder %s is gone", job.pk, job.kind, job.lease_owner)
    handler = _handler(job)
    if job.state == JobState.CANCELLING:
        machine.cancelled(job, epoch, handler)
    elif job.state == JobState.COMMITTING:
        _settle(job, epoch, handler)
    else:
        machine.lost(job, epoch, machine.LOST, handler)
    return True


def _take_over(job: Job) -> int | None:
    """A new epoch: from here on the old holder can write nothing, and no other watchdog does the same."""
    epoch = job.lease_epoch + 1
    taken = {
        "lease_epoch": epoch, "lease_owner": str(processes.me()), "heartbeat_at": clock.now(),
        "lease_expires_at": clock.after(settings.AIHUB_JOB_LEASE_SECONDS), "suspected_heartbeat_at": None,
    }  # fmt: skip
    rows = Job.objects.filter(pk=job.pk, lease_epoch=job.lease_epoch, state=job.state)
    return epoch if rows.update(**taken) else None


def _settle(job: Job, epoch: int, handler: Handler) -> None:
    if job.node and job.node.name != settings.AIHUB_NODE:
        machine.unsettled(job, epoch, machine.LOST, handler)  # only that node can look; its next attempt will
        return
    job.lease_epoch = epoch
    with Lease(job):  # reading a repository may take longer than a lease
        machine.settle(job, epoch, machine.LOST, handler)


def _handler(job: Job) -> Handler:
    try:
        return handler_for(job.kind)
    except Failure as failure:
        log.error("job %s: %s", job.pk, failure)
        return Handler()
