"""Doing one part of a backup: from the claimed job to the closed row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy

from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from backups.engine.disk import printable
from backups.models import BackupPart, Mode, PartState
from backups.models.backup import ACTIVE, STORED
from backups.services import facts, guards, opening, repositories, sealing, sources, states, verifications
from backups.services.failing import clear, columns
from backups.services.running import perform, workdir

CANDIDATES = 5  # recovery points offered as the one to compare with: the newest may have been forgotten meanwhile
SETTLE_PATIENCE = 900.0  # seconds for finding out whether a commit happened


class PartHandler(Handler):
    """The job of one part."""

    label = gettext_lazy("Backup of a source")

    def run(self, lease: Lease) -> None:
        """Start the runner, let it commit while the lease holds, close the row."""
        part = _begun(lease.job)
        if part.state not in ACTIVE:
            return  # an attempt before this one was settled
        repositories.must_take(part.repository)
        guards.must_not_hold_console(part.source)  # where the files are; links may have been made since
        sealing.with_own(part, lease)
        oddities: list[dict[str, Any]] = []
        with workdir(str(part.pk)) as place:
            result = perform(_job(part, lease, place), lease=lease, events=lambda event: _collect(event, oddities))
        _close(part, result, oddities, lease)

    def settle(self, job: Job) -> bool:
        """Lost while committing: the repository's log knows whether the part is there."""
        part = _of(job)
        found = perform({
            "job": "find", "repository": opening.repository(part.repository), "snapshot": part.snapshot_id,
        }, patience=SETTLE_PATIENCE)  # fmt: skip
        if found["found"] and part.state in ACTIVE:
            _close(part, {**found, "stats": found["facts"].get("stats", {})}, [], None)
        return bool(found["found"])

    def failed(self, job: Job, failure: Failure) -> None:
        """Given up."""
        part = _of(job)
        part.move_to(PartState.FAILED, finished_at=timezone.now(), **columns(failure))
        states.refresh(part.backup_id)
        record("backup.part.failed", part, by=SYSTEM, code=failure.code, sentence=failure.message)
        repositories.learn(part.repository, failure)

    def cancelled(self, job: Job) -> None:
        """Somebody asked for the end."""
        part = _of(job)
        part.move_to(PartState.CANCELLED, finished_at=timezone.now())
        states.refresh(part.backup_id)
        record("backup.part.cancelled", part, by=SYSTEM, asked_by=job.cancel_requested_by)

    def requeued(self, job: Job, failure: Failure) -> None:
        """Again, later; why is shown until then."""
        part = _of(job)
        if part.state == PartState.RUNNING:
            part.move_to(PartState.QUEUED, **columns(failure))
            states.refresh(part.backup_id)


def _of(job: Job) -> BackupPart:
    related = ("backup__policy", "source__policy", "source__environment", "repository__storage__node", "job")
    return BackupPart.objects.select_related(*related).get(job=job)


# --- before ---------------------------------------------------------------------------------------------------------


def _begun(job: Job) -> BackupPart:
    part = _of(job)
    if part.state == PartState.QUEUED:
        with transaction.atomic():
            part.move_to(PartState.RUNNING, started_at=part.started_at or timezone.now())
            states.refresh(part.backup_id)
    return part


def _job(part: BackupPart, lease: Lease, place: str) -> dict[str, Any]:
    mode, parents = comparison(part)
    return {
        "job": "backup", "snapshot": part.snapshot_id, "mode": mode, "parents": parents, "workdir": place,
        "repository": opening.repository(part.repository), "source": sources.strategy_spec(part.source),
        "options": _options(part), "damaged": verifications.damaged_packs(part.repository),
        "facts": facts.of_part(part, mode), "lease_epoch": lease.epoch,
    }  # fmt: skip


def comparison(part: BackupPart) -> tuple[str, list[str]]:
    """(mode, ids of snapshots to compare with, the best first).

    A full part takes nothing as unchanged; what it is compared with only tells what changed. An incremental or
    differential one without anything to compare with reads everything, so it is a full one and is called so.
    """
    points = BackupPart.objects.filter(source=part.source, repository=part.repository, state__in=STORED)
    if part.mode == Mode.DIFFERENTIAL:
        points = points.filter(mode=Mode.FULL)
    newest = points.exclude(pk=part.pk).order_by("-data_as_of").values_list("pk", flat=True)
    parents = [str(key) for key in newest[:CANDIDATES]]
    return (part.mode if parents else Mode.FULL), parents


def _options(part: BackupPart) -> dict[str, Any]:
    policy = part.promise
    options = {"codec": part.repository.codec, "level": part.repository.level}
    return options | ({"verify_every": policy.decode_every} if policy else {})


# --- after ----------------------------------------------------------------------------------------------------------


def _collect(event: Mapping[str, Any], oddities: list[dict[str, Any]]) -> None:
    if event.get("event") == "item":
        told = {name: event[name] for name in ("action", "message", "severity")}
        oddities.append({"path": printable(event["path"]), **told})


def _close(part: BackupPart, result: Mapping[str, Any], oddities: list[dict[str, Any]], lease: Lease | None) -> None:
    """One transaction: the part with what it counted, the backup, the log's leaves, the event, the check, the job."""
    stats = dict(result["stats"])
    odd = bool(stats.get("warnings") or stats.get("errors") or oddities)
    state = PartState.COMPLETED_WITH_WARNINGS if odd else PartState.COMPLETED
    with transaction.atomic():
        if part.state == PartState.QUEUED:  # settled by the watchdog after it had gone back to the queue
            part.move_to(PartState.RUNNING)
        part.move_to(state, **_counts(result, stats), item_errors=oddities, **clear())
        states.refresh(part.backup_id)
        repositories.remember(part.repository, result["leaves"])
        record("backup.part.completed", part, by=SYSTEM, state=state, bytes=part.size_bytes, added=part.stored_bytes)
        _verify_afterwards(part)
        if lease is not None:
            lease.finish()


def _counts(result: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    told = result["facts"]
    base = BackupPart.objects.filter(pk=result["parent"]).first() if result.get("parent") else None
    return {
        "stats": stats, "facts": told.get("captured", {}), "mode": told.get("mode", Mode.FULL), "base": base,
        "items": result["items"], "size_bytes": result["size"], "stored_bytes": stats.get("bytes_stored"),
        "warnings_count": stats.get("warnings", 0), "errors_count": stats.get("errors", 0),
        "log_record": result["record"], "data_as_of": datetime.fromtimestamp(told.get("as_of", result["time"]), UTC),
        "finished_at": datetime.fromtimestamp(result["time"], UTC),  # as the log knows it, whoever asks it later
    }  # fmt: skip


def _verify_afterwards(part: BackupPart) -> None:
    backup = part.backup
    if backup.verify_level:
        who = Actor(backup.requested_by_id or None, backup.requested_by_name, backup.requested_by_kind)
        verifications.request(backup, level=backup.verify_level, by=who, trigger=backup.trigger, parts=[part])
