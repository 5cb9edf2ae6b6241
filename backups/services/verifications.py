"""What people do with integrity checks."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from backups.models import (
    Backup,
    BackupPart,
    PartState,
    Repair,
    Repository,
    Storage,
    Trigger,
    Verification,
    VerificationState,
)
from backups.models.backup import STORED
from backups.models.verification import CONCLUSIVE, VERIFICATION_ACTIVE
from backups.services import lookup, opening, repositories
from backups.services.failing import clear, columns, printable_paths
from backups.services.running import perform

JOB = "verification"
QUEUE = "backup"
RESTORE_TEST = 4


def request(
    backup: Backup,
    *,
    level: int,
    by: Actor,
    trigger: str = Trigger.API,
    parts: Sequence[BackupPart] | None = None,
    storage: Storage | None = None,
) -> list[Verification]:
    """Check the recovery points of a backup (or some of its parts): one Verification and one job for each.

    Level 1 objects are there, 2 their SHA-256, 3 everything decrypted; level 4 is a restore test and refused with
    the way to it. A `storage` that is named must be where the parts are: there are no other copies to look at.
    A check that is active already is returned as it is.
    Invalid (level, storage), Refused: backup-deleted, not-restorable (nothing was stored).
    """
    depth = known_level(level)
    given = list(backup.parts.select_related("repository__storage__node", "source")) if parts is None else parts
    chosen = [part for part in given if part.state in STORED]
    if not chosen:
        raise _nothing_to_check(given)
    _refuse_elsewhere(chosen, storage)
    with transaction.atomic():
        return [_ask(part, depth, part.repository.storage, by, trigger) for part in chosen]


def known_level(level: int) -> int:
    """1, 2 or 3. Invalid for everything else; 4 is told where it belongs."""
    if level == RESTORE_TEST:
        sentence = _(
            "Level 4 is a restore test, not an integrity check, and not available yet: recover to a new place"
            " (POST /api/v1/backup/recover), look at what came back and remove it."
        )
        raise Invalid(sentence, errors={"level": sentence})
    if isinstance(level, bool) or level not in (1, 2, 3):
        sentence = _("The level is 1 (objects are there), 2 (SHA-256 of every object) or 3 (everything decrypted).")
        raise Invalid(sentence, errors={"level": sentence})
    return level


def cancel(verification: Verification, *, by: Actor) -> Verification:
    """End it. Refused (“not-cancellable”) when it has ended."""
    with transaction.atomic():
        if verification.job is None or verification.state not in VERIFICATION_ACTIVE:
            raise Refused(_("The check has ended and cannot be cancelled any more."), code="not-cancellable")
        jobs.cancel(verification.job, by=by)
        verification.refresh_from_db()
        if verification.state == VerificationState.RUNNING:
            verification.move_to(VerificationState.CANCELLING)
        record("verification.cancel", verification, by=by)
    return verification


def listing() -> QuerySet[Verification]:
    """Every check, newest first, with part, source, backup and storage fetched along; not the list of damaged packs,
    which may be long."""
    fetched = Verification.objects.select_related("part__source__environment", "part__backup", "storage", "job")
    return fetched.defer("damaged")


def get(reference: UUID | str) -> Verification:
    """One check. NotFound."""
    return lookup.find(listing(), reference)


def latest(part: BackupPart) -> Verification | None:
    """The newest check of the part that found something out."""
    return newest_conclusive(checks_of(part))


def checks_of(part: BackupPart) -> Sequence[Verification]:
    """All of the part, as they were read beside it; read now if they were not."""
    found: list[Verification] | None = vars(part).get("checks_read")
    return list(part.verifications.all()) if found is None else found


def newest_conclusive(checks: Iterable[Verification]) -> Verification | None:
    """The same of checks in hand."""
    ended = [one for one in checks if one.state in CONCLUSIVE]
    return max(ended, key=lambda one: (one.finished_at or one.created_at, one.pk), default=None)


def damaged_packs(repository: Repository) -> list[str]:
    """SHA-256 of the packs that checks found damaged, as hex: a backup stores anew what lies only in them. Of what was
    found before the last repair only that counts which it could not heal."""
    failed = Verification.objects.filter(part__repository=repository, state=VerificationState.FAILED)
    repaired = Repair.objects.filter(repository=repository, preview=False, job__state=JobState.COMPLETED)
    found, last = failed, repaired.select_related("job").first()
    if last is not None:
        found = failed.filter(finished_at__gt=last.job.finished_at)
    told = [*found.values_list("problems", "damaged"), *([_left_by(last)] if last else [])]
    return sorted({digest for problems, damaged in told for digest in (*damaged, *_blamed(problems))})


def _left_by(repair: Repair) -> tuple[list[dict[str, Any]], list[str]]:
    return repair.found.get("problems", []), repair.found.get("damaged", [])


def _blamed(problems: Sequence[Mapping[str, Any]]) -> list[str]:
    """All that rows of earlier versions tell."""
    names = {str(one["object"]) for one in problems}
    return [name.rpartition("/")[2] for name in names if name.startswith("packs/")]


# --- asking ---------------------------------------------------------------------------------------------------------


def _ask(part: BackupPart, level: int, storage: Storage, by: Actor, trigger: str) -> Verification:
    running = Verification.objects.filter(part=part, storage=storage, level=level, state__in=VERIFICATION_ACTIVE)
    if (active := running.first()) is not None:
        return active
    try:
        with transaction.atomic():
            return _add(part, level, storage, by, trigger)
    except IntegrityError:  # another request was faster between our look and our row
        return running.get()


def _add(part: BackupPart, level: int, storage: Storage, by: Actor, trigger: str) -> Verification:
    key = uuid.uuid4()
    job = jobs.enqueue(JOB, target_id=key, queue=QUEUE, node=storage.node)
    check = Verification.objects.create(
        pk=key, part=part, storage=storage, job=job, level=level, trigger=trigger, requested_by_kind=by.kind,
        requested_by_id=by.user_id or "", requested_by_name=by.name[:200],
    )  # fmt: skip
    record("verification.request", check, by=by, level=level, backup=str(part.backup_id))
    return check


def _refuse_elsewhere(parts: Sequence[BackupPart], storage: Storage | None) -> None:
    for part in parts:
        if storage is not None and storage.pk != part.repository.storage_id:
            told = _(
                "The storage “%(storage)s” holds nothing of “%(source)s”; it is in “%(other)s”. Leave the storage out"
                " to check it there."
            )
            sentence = told % {"storage": storage, "source": part.source, "other": part.repository.storage}
            raise Invalid(sentence, errors={"storage": sentence})


def _nothing_to_check(parts: Sequence[BackupPart]) -> Refused:
    if parts and all(part.state in (PartState.DELETED, PartState.DELETING, PartState.EXPIRED) for part in parts):
        return Refused(_("This backup was deleted; there is nothing left to verify."), code="backup-deleted")
    told = _("This backup holds no finished recovery point yet, so there is nothing to verify.")
    return Refused(told, code="not-restorable")


# --- doing ----------------------------------------------------------------------------------------------------------


class VerificationHandler(Handler):
    """The job of one check."""

    label = gettext_lazy("Verification")

    def run(self, lease: Lease) -> None:
        """Let the runner check, write down what it found."""
        check = _begun(lease.job)
        problems: list[dict[str, Any]] = []
        result = perform(_job(check), lease=lease, events=lambda event: _collect(event, problems))
        _close(check, result, problems, lease)

    def failed(self, job: Job, failure: Failure) -> None:
        """Nothing could be found out."""
        check = _of(job)
        check.move_to(VerificationState.ERROR, finished_at=timezone.now(), **columns(failure))
        record("verification.error", check, by=SYSTEM, code=failure.code, sentence=failure.message)
        repositories.learn(check.part.repository, failure)

    def cancelled(self, job: Job) -> None:
        """Somebody asked for the end."""
        _of(job).move_to(VerificationState.CANCELLED, finished_at=timezone.now())

    def requeued(self, job: Job, failure: Failure) -> None:
        """Again, later."""
        check = _of(job)
        if check.state == VerificationState.RUNNING:
            check.move_to(VerificationState.QUEUED, **columns(failure))


def _of(job: Job) -> Verification:
    rows = Verification.objects.select_related("part__repository__storage__node", "part__source", "storage")
    return rows.get(job=job)


def _begun(job: Job) -> Verification:
    check = _of(job)
    if check.state == VerificationState.QUEUED:
        check.move_to(VerificationState.RUNNING, started_at=timezone.now())
    return check


def _job(check: Verification) -> dict[str, Any]:
    return {
        "job": "verify", "repository": opening.repository(check.part.repository),
        "snapshots": [check.part.snapshot_id], "level": check.level,
    }  # fmt: skip


def _collect(event: Mapping[str, Any], problems: list[dict[str, Any]]) -> None:
    if event.get("event") == "problem":
        told = {name: event[name] for name in ("object", "message", "snapshots", "paths_count")}
        problems.append({**told, "paths": printable_paths(event["paths"])})


def _close(check: Verification, result: Mapping[str, Any], problems: list[dict[str, Any]], lease: Lease) -> None:
    count = int(result["problems"])
    found = {
        "problems": problems, "problems_count": count, "damaged": result["damaged"],
        "objects_checked": result["objects"], "bytes_checked": result["bytes"], "finished_at": timezone.now(),
        **clear(),
    }  # fmt: skip
    state = VerificationState.FAILED if count else VerificationState.PASSED
    with transaction.atomic():
        check.move_to(state, **found)
        repositories.remember(check.part.repository, result["leaves"])
        record(f"verification.{state}", check, by=SYSTEM, level=check.level, problems=count)
        lease.finish()
