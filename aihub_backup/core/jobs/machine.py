"""Claiming a job, doing it, and writing down how it ended."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q

from aihub_backup.core import processes
from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import clock, drain
from aihub_backup.core.jobs.handlers import Handler, handler_for
from aihub_backup.core.jobs.lease import Cancelled, Lease, LostLease, Stopping
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import LEASED, JobState
from aihub_backup.core.redaction import scrub

log = logging.getLogger(__name__)

# More than max_attempts: as long as nobody knows whether the commit happened, "failed" may be a lie.
UNSETTLED_ATTEMPTS = 3

LOST = Failure("The worker that held this job is gone.", permanent=False, code="worker-lost")
_NOT_RUNG: dict[str, Any] = {"rung_at": None, "rings": 0}
_PATIENCE = (1, 2, 4, 8)  # seconds between tries to write an end into a database that restarts; shorter than a lease


# --- taking ---------------------------------------------------------------------------------------------------------


def claim(job_id: UUID, owner: str | None = None) -> Lease | None:
    """The lease of a due, queued job that this node may run; None when another was first or it is not to be run now."""
    asked = processes.boottime()  # before the statement: the lease counts from its arrival, never from earlier
    here = Q(node=None) | Q(node__name=settings.AIHUB_NODE)
    free = Job.objects.filter(
        here, pk=job_id, state=JobState.QUEUED, not_before__lte=clock.now(), cancel_requested=False
    )
    with transaction.atomic():  # our own UPDATE holds the row, so what we read back is what we wrote
        if not Job.objects.filter(pk__in=free.values("pk"), state=JobState.QUEUED).update(**_claimed(owner)):
            return None
        return Lease(Job.objects.select_related("node").get(pk=job_id), asked)


def run(job_id: UUID) -> bool:
    """Claim the job and do it to its end, whatever that is; False when there was nothing to claim."""
    lease = claim(job_id)
    if lease is None:
        return False
    work(lease)
    return True


def answer(job_id: UUID) -> bool:
    """The bell rang for this job: do the most urgent due job of its queue (often this one). False: nothing to do."""
    rung = Job.objects.filter(pk=job_id).values("queue", "node").first()
    if rung is None:
        return False
    if drain.asked():  # this ring is used up; let somebody else hear one
        Job.objects.filter(pk=job_id, state=JobState.QUEUED).update(**_NOT_RUNG)
        return False
    waiting = Job.objects.filter(**rung, state=JobState.QUEUED, not_before__lte=clock.now())
    best = waiting.order_by("-priority", "created_at").values_list("pk", flat=True)[:10]
    lease = next(filter(None, map(claim, list(best))), None)
    if lease is None:
        return False
    # Before the work, which may take hours or be killed: the ring was this job's, and it may not have been for it.
    Job.objects.filter(pk=job_id, state=JobState.QUEUED).update(**_NOT_RUNG)
    work(lease)
    return True


def _claimed(owner: str | None) -> dict[str, Any]:
    return {
        "state": JobState.RUNNING, "lease_owner": owner or str(processes.me()), "lease_epoch": F("lease_epoch") + 1,
        "lease_expires_at": clock.after(settings.AIHUB_JOB_LEASE_SECONDS), "heartbeat_at": clock.now(),
        "suspected_heartbeat_at": None, "attempts": F("attempts") + 1, "started_at": clock.now(), "progress": {},
    }  # fmt: skip


# --- doing ----------------------------------------------------------------------------------------------------------


def work(lease: Lease) -> None:
    """Run the handler under the lease and write down the end. Never raises what the handler raises."""
    with lease:
        try:
            handler = handler_for(lease.job.kind)
        except Failure as failure:
            _fail(lease.job, lease.epoch, failure, Handler())
            return
        try:
            handler.run(lease)
            lease.finish()
        except Exception as error:
            _end(lease, handler, error)


def _end(lease: Lease, handler: Handler, error: Exception) -> None:
    job = lease.job
    if lease.lost or isinstance(error, LostLease):
        _drop(lease, handler)
    elif lease.committing:
        settle(job, lease.epoch, as_failure(error), handler)
    elif lease.cancel_requested or isinstance(error, Cancelled):
        cancelled(job, lease.epoch, handler)
    elif isinstance(error, Stopping):
        _hand_back(job, lease.epoch, error, handler)
    else:
        _fail(job, lease.epoch, as_failure(error), handler)


def _drop(lease: Lease, handler: Handler) -> None:
    """The lease is gone, or may be. Where the row is still ours nobody else knows yet, so it goes back at once; what
    was committing goes to the watchdog, which asks under a lease of its own."""
    log.warning("job %s (%s): the lease was lost; the result is dropped", lease.job.pk, lease.job.kind)
    if lease.committing:
        lease.rows().filter(state=JobState.COMMITTING).update(lease_owner="", lease_expires_at=clock.now())
    else:
        _fail(lease.job, lease.epoch, LOST, handler)


def as_failure(error: Exception) -> Failure:
    """Any error as a Failure: ours as it is, one with a `permanent` flag in its words, a surprise without its words."""
    if isinstance(error, Failure):
        return error
    permanent = getattr(error, "permanent", None)
    if isinstance(permanent, bool):
        code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(error).__name__).lower()
        return Failure(str(error), permanent=permanent, code=code)
    log.error("a job ended with an unforeseen error", exc_info=error)
    words = f"An unforeseen error ended the work ({type(error).__name__}); the worker's log has the details."
    return Failure(words, permanent=False, code="internal-error")


# --- ending ---------------------------------------------------------------------------------------------------------


def settle(job: Job, epoch: int, failure: Failure, handler: Handler) -> None:
    """The job stopped while committing: ask the handler what really happened, then complete, retry or fail it."""
    happened: bool | None
    try:
        happened = handler.settle(job)
    except Exception as error:
        log.warning("job %s (%s): nobody could tell whether it was committed: %s", job.pk, job.kind, scrub(str(error)))
        happened = None
    if happened:
        done = {"state": JobState.COMPLETED, "finished_at": clock.now(), "error_code": "", "error_message": ""}
        conclude(job, epoch, done, lambda _job: None)
    elif happened is None:
        unsettled(job, epoch, failure, handler)
    else:
        _fail(job, epoch, failure, handler)


def unsettled(job: Job, epoch: int, failure: Failure, handler: Handler) -> None:
    """Nobody knows whether the commit happened. The next attempt finds out by itself, so give it some more of them."""
    retry = Failure(failure.message, permanent=False, code=failure.code)
    _fail(job, epoch, retry, handler, most=job.max_attempts + UNSETTLED_ATTEMPTS)


def cancelled(job: Job, epoch: int, handler: Handler) -> None:
    """running or cancelling → cancelled; nothing when the job is not ours any more."""
    ended = {"state": JobState.CANCELLED, "finished_at": clock.now(), "cancel_requested": True}
    conclude(job, epoch, ended, handler.cancelled)


def lost(job: Job, epoch: int, failure: Failure, handler: Handler) -> None:
    """The holder is gone: try again soon, unless the job has killed its holders too often."""
    _fail(job, epoch, failure, handler)


def _fail(job: Job, epoch: int, failure: Failure, handler: Handler, most: int | None = None) -> None:
    told = _error(failure)
    if failure.permanent or job.attempts >= (most or job.max_attempts):
        ended = {"state": JobState.FAILED, "finished_at": clock.now(), **told}
        moved = conclude(job, epoch, ended, lambda row: handler.failed(row, failure))
    else:
        again = {"state": JobState.QUEUED, "not_before": clock.after(pause(job.attempts)), **_NOT_RUNG}
        moved = conclude(job, epoch, {**again, **told}, lambda row: handler.requeued(row, failure))
    if not moved:  # a cancel may have come between our last look and now; then that is how it ends
        cancelled(job, epoch, handler)


def _hand_back(job: Job, epoch: int, failure: Failure, handler: Handler) -> None:
    """The worker stops: the attempt does not count. No ring now, because this very worker might still take it: the
    next pass rings, and so does the next worker that starts."""
    again = {"state": JobState.QUEUED, "not_before": clock.now(), "attempts": F("attempts") - 1, **_NOT_RUNG}
    if not conclude(job, epoch, again, lambda row: handler.requeued(row, failure)):
        cancelled(job, epoch, handler)


def pause(attempts: int) -> float:
    """Seconds before the next attempt, after so many: doubling, up to a bound."""
    first, most = settings.AIHUB_JOB_RETRY_SECONDS, settings.AIHUB_JOB_RETRY_MOST_SECONDS
    return float(min(most, first * 2 ** max(0, attempts - 1)))


def conclude(job: Job, epoch: int, fields: dict[str, Any], hook: Callable[[Job], None]) -> bool:
    """Move the job out of its lease and run the hook in the same transaction; False when the epoch is over.

    A hook that fails must not leave the row lying: then the job moves without it, and the log says so.
    """
    try:
        return _insist(partial(_conclude, job, epoch, fields, hook))
    except (OperationalError, InterfaceError):  # nothing can be written now; the watchdog will find the row
        raise
    except Exception:
        log.exception("job %s (%s): its handler could not follow it to “%s”", job.pk, job.kind, fields["state"])
        return _insist(partial(_conclude, job, epoch, fields, lambda _job: None))


def _insist(write: Callable[[], bool]) -> bool:
    """Try again on a new connection while the database does not answer."""
    for pause_before_next in _PATIENCE:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            log.warning("the database did not take the end of a job: %s", error)
            connection.close()
            time.sleep(pause_before_next)
    return write()


def _conclude(job: Job, epoch: int, fields: dict[str, Any], hook: Callable[[Job], None]) -> bool:
    released = {"lease_expires_at": None, "lease_owner": "", "suspected_heartbeat_at": None}
    with transaction.atomic():
        before = [state for state, after in Job.MOVES.items() if fields["state"] in after and state in LEASED]
        held = Job.objects.filter(pk=job.pk, lease_epoch=epoch, state__in=before)
        if not held.update(**released, **fields):
            return False
        job.refresh_from_db()
        hook(job)
    return True


def _error(failure: Failure) -> dict[str, Any]:
    words = scrub(failure.message)[:4000]
    return {"error_code": failure.code[:64], "error_message": words, "error_permanent": failure.permanent}
