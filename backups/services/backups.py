"""What people do with backups."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Prefetch, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from aihub_backup.core import jobs
from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.models import AuditEvent, Node
from aihub_backup.core.states import LostRace
from backups.models import (
    Backup,
    BackupPart,
    BackupState,
    BackupType,
    PartState,
    Policy,
    Repository,
    Source,
    Trigger,
    Verification,
)  # fmt: skip
from backups.models.backup import ACTIVE
from backups.services import deletion, guards, holds, lookup, loops, placing, repositories, scope, states
from backups.services.restorable import restorable
from backups.services.sources import labels, must_be_tried
from backups.services.verifications import known_level

__all__ = [
    "cancel", "delete", "get", "hold", "listing", "progress", "release", "request", "restorable",
]  # fmt: skip

PART_JOB = "backup-part"
QUEUE = "backup"
# Kept in the note of a schedule's slot, and told in the reader's language there.
BUSY = gettext_noop("A backup of “%(source)s” is already %(state)s; wait for its end or cancel it.")


@dataclass(frozen=True)
class _Task:
    """One part to be: everything that was decided before the first row is written."""

    source: Source
    repository: Repository
    node: Node | None
    attempts: int


def request(
    type: str,  # noqa: A002  # the word of the API
    *,
    by: Actor,
    trigger: str = Trigger.API,
    sources: Sequence[Source] | None = None,
    family: str = "",
    within: QuerySet[Source] | None = None,
    repository: Repository | None = None,
    policy: Policy | None = None,
    label: str = "",
    tags: Mapping[str, str] | None = None,
    verify: int | None = None,
    hold_until: datetime | None = None,
    priority: int = 0,
) -> Backup:
    """Ask for a run. Writes Backup, parts, jobs and the audit event in one transaction and rings.

    `type` is one of the eight; `sources` are the ones named, None means those of the table in `services.scope`,
    taken from `within` (what the caller may see; None: all). `family` (database|files|redis|config|logs) narrows
    the types full, incremental and differential. `verify` is the level after the run, None: the policy's. Of sources
    that nobody named, those that cannot be taken are left out and told (`left_out`), as long as one is left.
    Invalid (unknown type), Refused: source-not-ready (nothing in scope, kit not proven, …), operation-in-progress.
    """
    kind = scope.known_type(type)
    chosen = scope.choose(kind, sources, family, within)
    tasks, left_out = _tasks(chosen, repository, policy, all_or_none=sources is not None)
    _refuse_busy(chosen)
    backup = Backup(
        type=kind, label=_label(label), tags=labels(tags), policy=policy or _common([s.policy for s in chosen]),
        environment=_common([s.environment for s in chosen]), verify_level=_verify(verify, policy, chosen),
        trigger=trigger, hold_until=_future(hold_until), requested_by_kind=by.kind,
        requested_by_id=by.user_id or "", requested_by_name=by.name[:200], left_out=left_out,
    )  # fmt: skip
    told = {"left_out": sorted(left_out)} if left_out else {}
    try:
        with transaction.atomic():
            _write(backup, tasks, priority)
            taken = [task.source.name for task in tasks]
            record("backup.request", backup, by=by, type=kind, sources=taken, trigger=trigger, **told)
    except IntegrityError:
        _refuse_busy(chosen)  # another request was faster between our look and our row
        raise
    return backup


def listing() -> QuerySet[Backup]:
    """Every backup, newest first, with what a list shows (parts, sources, jobs) fetched along.

    Of places, policies and sources there are few: once each, not beside every one of five hundred rows.
    """
    parts = BackupPart.objects.select_related("job").prefetch_related("source__environment", "repository")
    return Backup.objects.prefetch_related("environment", "policy", Prefetch("parts", parts))


# Of a part what a list tells: five hundred rows have many columns, some of which are made from JSON.
_TOLD = ("backup", "source", "repository", "job", "state", "mode", "items", "size_bytes", "stored_bytes",
         "warnings_count", "errors_count", "data_as_of", "created_at", "started_at", "finished_at", "error_code",
         "error_message", "error_permanent", "job__progress", "job__heartbeat_at")  # fmt: skip


def listing_in_short() -> QuerySet[Backup]:
    """The same for a list of many, with the checks: what a list does not tell is not read."""
    sources = Source.objects.only("name", "kind", "environment").prefetch_related("environment")
    checks = Verification.objects.only("part", "state", "level", "created_at", "finished_at")
    parts = BackupPart.objects.select_related("job").only(*_TOLD).prefetch_related(
        Prefetch("source", sources), Prefetch("repository", Repository.objects.only("name", "state")),
        Prefetch("verifications", checks, to_attr="checks_read"),
    )  # fmt: skip
    # Into lists: for each of a thousand rows a manager and a query of its own are made, if only to hold what was read.
    return Backup.objects.prefetch_related("environment", "policy", Prefetch("parts", parts, to_attr="parts_read"))


def parts_of(backup: Backup) -> list[BackupPart]:
    """As they were read beside it; read now if they were not."""
    found: list[BackupPart] | None = vars(backup).get("parts_read")
    return list(backup.parts.all()) if found is None else found


def get(reference: UUID | str) -> Backup:
    """The backup with parts, jobs and verifications. NotFound."""
    checks = Verification.objects.select_related("job", "storage")
    return lookup.find(listing().prefetch_related(Prefetch("parts__verifications", checks)), reference)


def events(backup: Backup) -> QuerySet[AuditEvent]:
    """The audit's rows about it, its parts and their checks, newest first."""
    rows = BackupPart.objects.filter(backup=backup).values_list("pk", "verifications")
    keys = {str(backup.pk), *(str(key) for row in rows for key in row if key)}
    return AuditEvent.objects.filter(target_id__in=keys).order_by("-at", "-pk")


def progress(backup: Backup, read: Sequence[BackupPart] | None = None) -> dict[str, Any]:
    """The parts' progress together: {phase, bytes_done, bytes_total, items_done, items_total, ratio, bytes_per_second,
    eta_seconds, heartbeat_at, indeterminate}; unknown values are None. `read`: the parts, where they are in hand."""
    parts = parts_of(backup) if read is None else read
    told = [_progress_of(part) for part in parts]
    bytes_done, bytes_total = _sum(told, "bytes_done"), _sum(told, "bytes_total")
    rate = sum(float(one.get("bytes_per_second") or 0) for one in told) or None
    left = bytes_total - bytes_done if bytes_total is not None and bytes_done is not None else None
    return {
        "phase": next((one["phase"] for one in told if one.get("phase")), None),
        "bytes_done": bytes_done, "bytes_total": bytes_total,
        "items_done": _sum(told, "items_done"), "items_total": _sum(told, "items_total"),
        "ratio": _ratio(parts, bytes_done, bytes_total), "bytes_per_second": rate,
        "eta_seconds": round(max(0, left) / rate) if backup.active and rate and left is not None else None,
        "heartbeat_at": max((p.job.heartbeat_at for p in parts if p.job and p.job.heartbeat_at), default=None),
        "indeterminate": backup.active and not bytes_total,
    }  # fmt: skip


def cancel(backup: Backup, *, by: Actor, reason: str = "") -> Backup:
    """End what is queued, ask what runs to end. Refused (“not-cancellable”) when nothing can be cancelled any more."""
    with transaction.atomic():
        parts = list(backup.parts.filter(state__in=ACTIVE).select_related("job"))
        if not [part for part in parts if _cancelled(part, by)]:
            raise Refused(_("Nothing of this backup can be cancelled any more."), code="not-cancellable")
        states.refresh(backup.pk)
        record("backup.cancel", backup, by=by, reason=reason)
    backup.refresh_from_db()
    return backup


def hold(backup: Backup, *, until: datetime, by: Actor, reason: str = "") -> Backup:
    """Nobody may delete it before then. Invalid when the moment has passed or is earlier than the present hold."""
    future = _future(until)
    with transaction.atomic():  # the row is locked: a deletion that begins at this moment sees the hold, or we see it
        present = Backup.objects.select_for_update().get(pk=backup.pk)
        if present.state in (BackupState.DELETING, BackupState.DELETED):
            raise Refused(_("This backup was deleted; there is nothing left to hold."), code="backup-deleted")
        if present.held and present.hold_until and future and future < present.hold_until:
            told = _("The hold would become shorter; release it instead.")
            raise Invalid(told, errors={"hold_until": _("Too early.")})
        return _held(backup, "backup.hold", future, reason, by)


def release(backup: Backup, *, by: Actor, reason: str = "") -> Backup:
    """End the hold."""
    return _held(backup, "backup.release", None, reason, by)


def delete(backup: Backup, *, by: Actor, reason: str = "") -> Backup:
    """Forget its recovery points (a job writes that into the repository's log); an active one is cancelled instead.

    Refused: on-hold, immutable, in-use, last-restorable-point (the only point of an enabled source), backup-deleted.
    """
    if backup.active:
        return cancel(backup, by=by, reason=reason)
    deletion.begin(backup, by=by, reason=reason)
    backup.refresh_from_db()
    return backup


# --- deciding -------------------------------------------------------------------------------------------------------


def _tasks(
    chosen: Sequence[Source], repository: Repository | None, policy: Policy | None, *, all_or_none: bool
) -> tuple[list[_Task], dict[str, str]]:
    """One for each source, and why there is none for the others. Refused when there is none at all."""
    tasks, refusals = [], dict[str, Refused]()
    for source in chosen:
        try:
            tasks.append(_task(source, repository, policy))
        except Refused as refusal:
            if all_or_none:
                raise
            refusals[source.name] = refusal
    if not tasks:
        raise next(iter(refusals.values()))
    return tasks, {name: refusal.message for name, refusal in refusals.items()}


def _task(source: Source, given: Repository | None, policy: Policy | None) -> _Task:
    must_be_tried(source)
    repository = given or source.repository or repositories.default()
    repositories.must_be_writable(repository)
    loops.refuse(source, repository)
    guards.must_go_home(source, repository)
    promise = policy or source.policy
    return _Task(source, repository, placing.node_for(source, repository), promise.max_attempts if promise else 3)


def _refuse_busy(sources: Sequence[Source]) -> None:
    busy = BackupPart.objects.filter(source__in=sources, state__in=ACTIVE).select_related("source").first()
    if busy is not None:
        told = _(BUSY)
        raise Refused(
            told % {"source": busy.source, "state": busy.get_state_display()}, code="operation-in-progress",
            facts={"backup": str(busy.backup_id)},
        )  # fmt: skip


def _common(values: Sequence[Any]) -> Any:
    """The one value that all share; None when they differ."""
    return values[0] if len(set(values)) == 1 else None


def _verify(given: int | None, policy: Policy | None, sources: Sequence[Source]) -> int:
    if given is not None:
        return known_level(given) if given else 0
    if policy is not None:
        return policy.verify_level
    return max(source.policy.verify_level if source.policy else 0 for source in sources)


def _label(text: str) -> str:
    if len(text) > 200:
        raise Invalid(_("The label is too long."), errors={"label": _("This must be at most 200 characters long.")})
    return text


def _future(moment: datetime | None) -> datetime | None:
    if moment is not None and moment <= timezone.now():
        raise Invalid(_("A hold ends in the future."), errors={"hold_until": _("This moment has passed already.")})
    return moment


# --- writing --------------------------------------------------------------------------------------------------------


def _write(backup: Backup, tasks: Sequence[_Task], priority: int) -> None:
    backup.save(force_insert=True)
    for task in tasks:
        _add_part(backup, task, scope.mode(BackupType(backup.type)), priority)


def _add_part(backup: Backup, task: _Task, mode: str, priority: int) -> None:
    key = uuid.uuid4()
    job = jobs.enqueue(
        PART_JOB, target_id=key, queue=QUEUE, node=task.node, priority=priority, max_attempts=task.attempts
    )
    BackupPart.objects.create(pk=key, backup=backup, source=task.source, repository=task.repository, job=job, mode=mode)


def _cancelled(part: BackupPart, by: Actor) -> bool:
    """Ask the part's job to end; False when it is past its point of no return."""
    if part.job is None:
        return False
    try:
        jobs.cancel(part.job, by=by)
        part.refresh_from_db()
        if part.state == PartState.RUNNING:
            part.move_to(PartState.CANCELLING)
    except Refused as refusal:
        return isinstance(refusal, LostRace)
    return True


def _held(backup: Backup, action: str, until: datetime | None, reason: str, by: Actor) -> Backup:
    backup.hold_until, backup.hold_reason = until, reason[:500] if until else ""
    with transaction.atomic():
        backup.save(update_fields=["hold_until", "hold_reason"])
        record(action, backup, by=by, until=until, reason=reason)
        holds.note(backup)
    return backup


# --- showing --------------------------------------------------------------------------------------------------------


def _progress_of(part: BackupPart) -> dict[str, Any]:
    if part.stored:
        return {"bytes_done": part.size_bytes, "bytes_total": part.size_bytes, "items_done": part.items,
                "items_total": part.items}  # fmt: skip
    return part.progress


def _sum(told: Sequence[Mapping[str, Any]], key: str) -> int | None:
    """The sum where every part knows it."""
    values = [one.get(key) for one in told]
    return sum(int(value) for value in values if value is not None) if None not in values and values else None


def _ratio(parts: Sequence[BackupPart], done: int | None, total: int | None) -> float | None:
    if parts and all(part.state not in ACTIVE for part in parts):
        return 1.0 if all(part.stored for part in parts) else None
    return round(min(1.0, done / total), 4) if done is not None and total else None
