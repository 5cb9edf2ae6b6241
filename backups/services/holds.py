"""What people say about holds, told to the repository's log too: a console that has lost its rows must know of them."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext_lazy

from aihub_backup.core.audit import SYSTEM, record
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from backups.models import Backup, BackupPart, Repository, RepositoryState
from backups.models.backup import STORED
from backups.services import opening, repositories, untold
from backups.services.failing import columns
from backups.services.running import perform


def note(backup: Backup) -> None:
    """In the transaction that changed the hold: one job for each repository that holds, or will hold, a part of it.

    A repository that another console has taken over cannot be told; the backup's part there and the audit say so.
    Refused (taken-over) where that goes for all of them: nobody would keep the hold.
    """
    parts = _one_each(backup)
    # Locked: a take-over tells what holds it finds, and one that is placed meanwhile would be told by nobody.
    ids = sorted(part.repository_id for part in parts)
    states = dict(Repository.objects.select_for_update().filter(pk__in=ids).order_by("pk").values_list("pk", "state"))
    ours = [part for part in parts if states[part.repository_id] != RepositoryState.TAKEN_OVER]
    untold.tell(ours)
    for part in parts:
        if part not in ours:
            _pass_over(part, alone=not ours)


def cannot_be_told(backup: Backup) -> list[str]:
    """Names of the repositories with parts of it whose log this console cannot tell of a hold."""
    return [part.repository.name for part in _one_each(backup) if part.repository.state == RepositoryState.TAKEN_OVER]


def _one_each(backup: Backup) -> list[BackupPart]:
    """A part for each of the repositories."""
    parts = backup.parts.filter(state__in=untold.HOLDING).select_related("backup", "repository__storage__node")
    return list({part.repository_id: part for part in parts.order_by("pk")}.values())


def _pass_over(part: BackupPart, *, alone: bool) -> None:
    try:
        repositories.must_be_ours(part.repository)
    except Refused as refusal:
        if alone:
            raise
        _not_told(part, refusal)


def _not_told(part: BackupPart, failure: Failure) -> None:
    if failure.code in untold.REFUSED:  # another console may delete what we hold: that has to be seen
        BackupPart.objects.filter(pk=part.pk, state__in=STORED).update(**columns(failure))
    record("backup.hold.untold", part.backup, by=SYSTEM, code=failure.code, sentence=failure.message)


class HoldHandler(Handler):
    """The job of one repository. It writes what is true when it runs, so of several the last one is right."""

    label = gettext_lazy("Hold of a backup, told to the log")

    def run(self, lease: Lease) -> None:
        """Write the record, unless the log says the same already."""
        part = _of(lease.job)
        repositories.must_take(part.repository)
        backup = part.backup
        until = backup.hold_until.timestamp() if backup.hold_until else None
        done = perform({
            "job": "hold", "repository": opening.repository(part.repository),
            "holds": {str(backup.pk): {"until": until, "reason": backup.hold_reason}},
        }, lease=lease)  # fmt: skip
        with transaction.atomic():
            repositories.remember(part.repository, done["leaves"])
            lease.finish()

    def failed(self, job: Job, failure: Failure) -> None:
        """The hold stands in our rows; only a console without them would not know of it."""
        part = _of(job)
        repositories.learn(part.repository, failure)
        _not_told(part, failure)


def _of(job: Job) -> BackupPart:
    return BackupPart.objects.select_related("repository__storage__node", "backup").get(pk=str(job.target_id))
