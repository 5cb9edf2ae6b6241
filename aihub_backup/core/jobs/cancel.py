"""Asking a job to end."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.core.jobs import clock
from aihub_backup.core.jobs.handlers import Handler, handler_for
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from aihub_backup.core.states import LostRace

_TRIES = 5  # the job may move under our hands a few times, not for ever


def cancel(job: Job, *, by: Actor) -> None:
    """End a queued job now, ask a running one to end; asking twice is harmless.

    Refused (“not-cancellable”) when it is past its point of no return or has ended otherwise.
    """
    for _attempt in range(_TRIES):
        job.refresh_from_db()
        if job.state in (JobState.CANCELLING, JobState.CANCELLED):
            return
        if _asked(job, by):
            return
    raise LostRace(f"{job} keeps moving; try again.")


def _asked(job: Job, by: Actor) -> bool:
    """False when the job moved meanwhile."""
    asked = {"cancel_requested": True, "cancel_requested_by": by.name[:200]}
    if job.state == JobState.QUEUED:
        return _end(job, asked)
    if job.state == JobState.RUNNING:
        return _move(job, {"state": JobState.CANCELLING, **asked})
    told = _("The job is %(state)s and cannot be cancelled any more.")
    raise Refused(told % {"state": job.get_state_display()}, code="not-cancellable")


def _end(job: Job, asked: dict[str, object]) -> bool:
    with transaction.atomic():
        if not _move(job, {"state": JobState.CANCELLED, "finished_at": clock.now(), **asked}):
            return False
        _handler(job).cancelled(job)
        return True


def _move(job: Job, fields: dict[str, object]) -> bool:
    if not Job.objects.filter(pk=job.pk, state=job.state, lease_epoch=job.lease_epoch).update(**fields):
        return False
    job.refresh_from_db()
    return True


def _handler(job: Job) -> Handler:
    try:
        return handler_for(job.kind)
    except Failure:  # its app is gone; the job may go too
        return Handler()
