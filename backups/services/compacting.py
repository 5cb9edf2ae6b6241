"""Giving back the space that only forgotten backups needed: asked for by people and once a day, done by a job.

A run marks packs, and may delete them when every job that was at work then has ended. It waits a moment for that and no
longer, because a worker that waits does no backups; who was at work stands in its progress, and a later run deletes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import ACTIVE, LEASED, JobState
from backups.engine.choosing import BUDGET, UNUSED
from backups.models import BackupPart, Repository, RepositoryState, Verification
from backups.services import opening, placing, repositories, usage, verifications
from backups.services.running import perform

log = logging.getLogger(__name__)

JOB = "compaction"
QUEUE = "backup"
PRIORITY = -10  # whatever waits for a worker besides goes first
PATIENCE = 30.0  # seconds that a run waits for those at work
PREVIEW_PATIENCE = 60.0  # seconds; somebody looks at a page
EVERY = timedelta(hours=24)
AGAIN = timedelta(minutes=10)  # between two looks whether those at work have ended
REMEMBERED = 50  # runs whose marks may still wait
FOUND = ("carried", "freed", "deleted", "spared", "marked")

Holder = tuple[str, int]  # id of a job, epoch of its lease


def preview(repository: Repository) -> dict[str, Any]:
    """What a run would do now, in bytes as they are stored: {"stored", "unused", "leaving" (marked earlier), "carried",
    "freed", "outdated" (under older master keys), "renewed" (of them, brought under the new one), "packs", "orphans",
    "stale" (how many index objects, under older keys, would be written anew)}. Reads the trees of all recovery points.
    Refused as `request` is; Unavailable when it takes too long to be waited for."""
    repositories.must_take(repository)
    placing.must_be_here(repository.node, f"the repository “{repository}”")
    return perform({"job": "compact_preview", **_spec(repository)}, patience=PREVIEW_PATIENCE)


def request(repository: Repository, *, by: Actor, reason: str = "") -> Job:
    """The job that gives space back; the one that is at it already, if there is one. Refused when nothing may be
    written to the repository."""
    repositories.must_take(repository)
    with transaction.atomic():
        Repository.objects.select_for_update().get(pk=repository.pk)  # of two requests the second sees the first's job
        if (job := latest(repository)) is not None and job.state in ACTIVE:
            return job
        record("repository.compact", repository, by=by, **({"reason": reason} if reason else {}))
        return jobs.enqueue(JOB, target_id=repository.pk, queue=QUEUE, node=repository.node, priority=PRIORITY)


def cancel(repository: Repository, *, by: Actor) -> Job:
    """End it; what it has carried over is used by the next run. Refused (“not-cancellable”) when none is at work."""
    job = latest(repository)
    if job is None or not job.active:
        told = _("No space of “%(repository)s” is being given back now.")
        raise Refused(told % {"repository": repository}, code="not-cancellable")
    with transaction.atomic():
        jobs.cancel(job, by=by)
        record("repository.compact.cancel", repository, by=by)
    return job


def latest(repository: Repository) -> Job | None:
    """The job that gives space back, or did last; None when there never was one."""
    return _runs(repository).first()


def compact_due() -> list[Job]:
    """Ask for a run in every repository where one is due: once a day, and as soon as those who were at work at an
    earlier run have ended. The run itself judges whether there is enough to give back. Safe to call at any time."""
    asked: list[Job] = []
    for repository in Repository.objects.filter(state=RepositoryState.OK, storage__enabled=True):
        try:
            if _due(repository):
                asked.append(request(repository, by=SYSTEM))
        except Failure as failure:  # one repository must not keep the others from it
            log.warning("the space of %s cannot be given back: %s", repository, failure)
    return asked


def _due(repository: Repository) -> bool:
    run = latest(repository)
    if run is None:
        return BackupPart.objects.filter(repository=repository).exists()
    if run.state in ACTIVE:
        return False
    since = timezone.now() - (run.finished_at or run.created_at)
    return since >= EVERY or (since >= AGAIN and _may_go_on(repository, run))


def _may_go_on(repository: Repository, run: Job) -> bool:
    """Did the last run leave marks whose holders have all ended since? One that failed would fail again."""
    left = set(run.progress.get("waiting", ())) if run.state == JobState.COMPLETED else set()
    return bool(left) and not left.isdisjoint(_marks(repository)["ended"])


# --- who was at work ------------------------------------------------------------------------------------------------


def at_work(repository: Repository, but: Job) -> list[Holder]:
    """Every job that holds a lease now and may have opened the repository, before now: all but those that are known to
    be about another one."""
    held = Job.objects.filter(state__in=LEASED).exclude(pk=but.pk).exclude(kind=JOB)
    elsewhere = BackupPart.objects.exclude(repository=repository).filter(job__in=held).values("job")
    checks = Verification.objects.exclude(part__repository=repository).filter(job__in=held).values("job")
    found = held.exclude(pk__in=elsewhere).exclude(pk__in=checks).values_list("pk", "lease_epoch")
    return [(str(key), epoch) for key, epoch in found]


def still(holders: list[Holder]) -> list[Holder]:
    """Those of them that hold the same lease now."""
    now = Job.objects.filter(pk__in=[key for key, _epoch in holders], state__in=LEASED)
    held = {(str(key), epoch) for key, epoch in now.values_list("pk", "lease_epoch")}
    return [(key, epoch) for key, epoch in holders if (key, epoch) in held]


def _marks(repository: Repository) -> dict[str, list[str]]:
    """Marks that earlier runs put: those whose jobs at work have all ended, and those where one has not."""
    told: dict[str, list[str]] = {"ended": [], "held": []}
    for waiting in _waiting(repository):
        held = still([(str(key), int(epoch)) for key, epoch in waiting["holders"]])
        told["held" if held else "ended"] += waiting["marks"]
    return told


def _waiting(repository: Repository) -> Iterator[dict[str, Any]]:
    """What runs have written down that could not delete at once, up to one that deleted what they marked."""
    for progress in _runs(repository).values_list("progress", flat=True)[:REMEMBERED]:
        if progress.get("settled"):
            return
        if progress.get("marks"):
            yield progress


def _runs(repository: Repository) -> QuerySet[Job]:
    return Job.objects.filter(kind=JOB, target_id=repository.pk).order_by("-created_at")


# --- doing ----------------------------------------------------------------------------------------------------------


class CompactHandler(Handler):
    """The job of one run. Killed anywhere it loses nothing; the next run goes on with what the log says."""

    label = gettext_lazy("Giving space back")

    def run(self, lease: Lease) -> None:
        """Let the runner work, answer what only the database knows, write down what became of it."""
        repository = repositories.of_job(lease.job)
        repositories.must_take(repository)
        answers = _Answers(repository, lease)
        job = {"job": "compact", **_spec(repository), **_marks(repository), "patience": PATIENCE}
        result = perform(job, lease=lease, answers=answers.to)
        told = {name: result[name] for name in FOUND}
        settled = answers.ended or not result["marked"]
        lease.progress({**told, "plan": result["plan"], "waiting": result["waiting"], "settled": settled})
        with transaction.atomic():
            repositories.remember(repository, result["leaves"])
            usage.measured(repository, result["stored"])
            record("repository.compacted", repository, by=SYSTEM, **told)
            lease.finish()

    def failed(self, job: Job, failure: Failure) -> None:
        """Nothing is lost; the next run goes on."""
        repository = repositories.of_job(job)
        record("repository.compact.failed", repository, by=SYSTEM, code=failure.code, sentence=failure.message)
        repositories.learn(repository, failure)

    def cancelled(self, job: Job) -> None:
        """Somebody asked for the end."""
        record("repository.compact.cancelled", repositories.of_job(job), by=SYSTEM, asked_by=job.cancel_requested_by)


class _Answers:
    """What the runner asks of the database."""

    def __init__(self, repository: Repository, lease: Lease) -> None:
        self._repository, self._lease = repository, lease
        self._holders: list[Holder] | None = None
        self.ended = False

    def to(self, question: Mapping[str, Any]) -> bool:
        """Is the lease still ours? Have all ended who were at work when the marks had been put?"""
        if question["what"] == "holding":
            return not self._lease.lost and self._lease.rows().filter(state=JobState.RUNNING).exists()
        if self._holders is None:
            self._holders = at_work(self._repository, self._lease.job)
            self._lease.progress({"marks": list(question["marks"]), "holders": self._holders})
        self.ended = not still(self._holders)
        return self.ended


def _spec(repository: Repository) -> dict[str, Any]:
    options = {"unused": UNUSED, "budget": BUDGET, "codec": repository.codec, "level": repository.level}
    return {
        "repository": opening.repository(repository), "options": options,
        "damaged": verifications.damaged_packs(repository),
    }  # fmt: skip
