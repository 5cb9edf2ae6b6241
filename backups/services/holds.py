"""What people say about holds, told to the repository's log too: a console that has lost its rows must know of them."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext_lazy

from aihub_backup.core.audit import SYSTEM, record
from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from backups.models import Backup, BackupPart
from backups.services import opening, repositories, untold
from backups.services.failing import columns
from backups.services.running import perform


def note(backup: Backup) -> None:
    """In the transaction that changed the hold: one job for each repository that holds, or will hold, a part of it.

    Refused (taken-over) where another console, which does not know our rows, would not keep it.
    """
    parts = backup.parts.filter(state__in=untold.HOLDING).select_related("repository__storage__node").order_by("pk")
    one_each = {part.repository_id: part for part in parts}.values()
    for part in one_each:
        repositories.must_be_ours(part.repository)
    untold.tell(one_each)


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
        if failure.code == "taken-over":  # the other console may delete what we hold: that has to be seen
            BackupPart.objects.filter(pk=part.pk).update(**columns(failure))
        repositories.learn(part.repository, failure)
        record("backup.hold.untold", part.backup, by=SYSTEM, code=failure.code, sentence=failure.message)


def _of(job: Job) -> BackupPart:
    return BackupPart.objects.select_related("repository__storage__node", "backup").get(pk=str(job.target_id))
