"""Deleting backups: the repository's log forgets a recovery point, then the row says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

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
from aihub_backup.core.models.job import ACTIVE as JOB_ACTIVE
from backups.models import Backup, BackupPart, PartState, Source, Verification
from backups.models.backup import STORED
from backups.models.verification import VERIFICATION_ACTIVE
from backups.services import opening, repositories, states, users
from backups.services.failing import clear, columns
from backups.services.restorable import restorable
from backups.services.running import perform

JOB = "backup-forget"
QUEUE = "control"
SETTLE_PATIENCE = 900.0  # seconds

_NEVER_STORED = frozenset({PartState.FAILED, PartState.CANCELLED})
_DELETABLE = STORED | _NEVER_STORED | {PartState.EXPIRED, PartState.DELETING}


def begin(backup: Backup, *, by: Actor, reason: str) -> None:
    """Move the parts on their way out, one job for each that holds something. Asking again repeats what has failed.

    The rules are looked at under locks: of two deletions at the same moment the second sees what the first has left.
    """
    with transaction.atomic():
        present = _locked(backup)
        parts = list(_parts(present))
        _must_be_deletable(present, parts)
        for part in parts:
            _send_away(part)
        states.refresh(backup.pk)
        record("backup.delete", backup, by=by, reason=reason)


class ForgetHandler(Handler):
    """The job of one recovery point that is to be forgotten."""

    label = gettext_lazy("Deletion of a backup")

    def run(self, lease: Lease) -> None:
        """Write the forget record, close the row."""
        part = _of(lease.job)
        repositories.must_take(part.repository)
        result = perform({
            "job": "forget", "repository": opening.repository(part.repository),
            "snapshots": [part.snapshot_id], "reason": "deleted",
        }, lease=lease)  # fmt: skip
        with transaction.atomic():
            _close(part)
            repositories.remember(part.repository, result["leaves"])
            lease.finish()

    def settle(self, job: Job) -> bool:
        """Lost while committing: forgotten is what the log does not hold any more."""
        part = _of(job)
        found = perform({
            "job": "find", "repository": opening.repository(part.repository), "snapshot": part.snapshot_id,
        }, patience=SETTLE_PATIENCE)  # fmt: skip
        if not found["found"] and part.state == PartState.DELETING:
            with transaction.atomic():
                _close(part)
        return not found["found"]

    def failed(self, job: Job, failure: Failure) -> None:
        """It stays on its way out, with the reason; asking for the deletion again tries again. Where another console
        has taken the repository over that would be for ever, so it is a recovery point again."""
        part = _of(job)
        if failure.code == "taken-over":
            _put_back(part, failure)
        BackupPart.objects.filter(pk=part.pk).update(**columns(failure))
        record("backup.part.delete.failed", part, by=SYSTEM, code=failure.code, sentence=failure.message)
        repositories.learn(part.repository, failure)


# --- may it go? -----------------------------------------------------------------------------------------------------


def _locked(backup: Backup) -> Backup:
    """The backup as it is now, held with its sources (in one order for all, so that nobody waits in a circle)."""
    sources = Source.objects.filter(pk__in=backup.parts.values("source"))
    list(sources.select_for_update().order_by("pk").values_list("pk"))
    return Backup.objects.select_for_update().get(pk=backup.pk)


def _parts(backup: Backup) -> QuerySet[BackupPart]:
    related = ("source__policy", "repository__storage__node", "backup__policy")
    return backup.parts.filter(state__in=_DELETABLE).select_related(*related)


def _must_be_deletable(backup: Backup, parts: Sequence[BackupPart]) -> None:
    if not parts:
        raise Refused(_("This backup was deleted already."), code="backup-deleted")
    _refuse_held(backup)
    _refuse_used(parts)
    for part in parts:
        _refuse_immutable(part)
    for part in parts:
        _refuse_unwritable(part, several=len({one.repository_id for one in parts}) > 1)
    for part in parts:
        _refuse_last(part)  # last: its cure is another backup, which such a repository would not take


def _refuse_held(backup: Backup) -> None:
    if backup.held:
        told = _("This backup is held until %(until)s UTC.") % {"until": f"{backup.hold_until:%Y-%m-%d %H:%M}"}
        raise Refused(told, code="on-hold")


def _refuse_immutable(part: BackupPart) -> None:
    days = part.promise.immutable_days if part.promise else 0
    until = part.backup.created_at + timedelta(days=days)
    if until > timezone.now():
        told = _("The policy “%(policy)s” keeps this backup of “%(source)s” immutable until %(until)s UTC.")
        facts = {"policy": part.promise, "source": part.source, "until": f"{until:%Y-%m-%d %H:%M}"}
        raise Refused(told % facts, code="immutable")


def _refuse_used(parts: Sequence[BackupPart]) -> None:
    if Verification.objects.filter(part__in=parts, state__in=VERIFICATION_ACTIVE).exists():
        raise Refused(_("This backup is being verified; wait for the end or cancel the check."), code="in-use")
    if words := users.sentence(parts):
        raise Refused(words, code="in-use")


def _refuse_unwritable(part: BackupPart, *, several: bool) -> None:
    """Of a set in several repositories none of the others forgets its part: half a set is no recovery point."""
    if part.state not in STORED:
        return
    try:
        repositories.must_take(part.repository)
    except Refused as refusal:
        if not several:
            raise
        told = _(
            "The part of “%(source)s” lies in “%(repository)s”, so nothing of this backup is deleted, not even from the"
            " other repositories."
        )
        words = told % {"source": part.source, "repository": part.repository}
        raise Refused(f"{refusal.message} {words}", code=refusal.code, facts=refusal.facts) from None


def _refuse_last(part: BackupPart) -> None:
    if part.state not in STORED or not part.source.in_service:
        return
    others = BackupPart.objects.filter(source=part.source, state__in=STORED).exclude(backup=part.backup)
    if not any(restorable([other])[0] for other in _to_be_judged(others)):
        told = _(
            "This is the last restorable point of the source “%(source)s”; make another backup first, or archive the"
            " source."
        )
        raise Refused(told % {"source": part.source}, code="last-restorable-point")


def _to_be_judged(parts: QuerySet[BackupPart]) -> QuerySet[BackupPart]:
    """The newest first: most often it decides."""
    return parts.select_related("repository").prefetch_related("verifications").order_by("-data_as_of")


# --- going ----------------------------------------------------------------------------------------------------------


def _send_away(part: BackupPart) -> None:
    stored = part.state not in _NEVER_STORED
    if part.state != PartState.DELETING:
        part.move_to(PartState.DELETING)
    if not stored:
        part.move_to(PartState.DELETED)
    elif not Job.objects.filter(kind=JOB, target_id=part.pk, state__in=JOB_ACTIVE).exists():
        jobs.enqueue(JOB, target_id=part.pk, queue=QUEUE, node=part.repository.node)


def _of(job: Job) -> BackupPart:
    rows = BackupPart.objects.select_related("source", "repository__storage__node", "backup")
    return rows.get(pk=job.target_id)  # type: ignore[misc]  # a job of this kind always has a target


def _put_back(part: BackupPart, failure: Failure) -> None:
    odd = part.warnings_count or part.errors_count
    part.move_to(PartState.COMPLETED_WITH_WARNINGS if odd else PartState.COMPLETED, **columns(failure))
    states.refresh(part.backup_id)


def _close(part: BackupPart) -> None:
    part.move_to(PartState.DELETED, **clear())
    states.refresh(part.backup_id)
    record("backup.part.deleted", part, by=SYSTEM)
