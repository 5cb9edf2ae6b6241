"""What people do with recoveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from aihub_backup.core import audit, jobs, nodes
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, NotFound, Refused
from aihub_backup.core.models import Node
from aihub_backup.core.states import LostRace
from backups.engine.errors import InvalidPattern
from backups.engine.patterns import PathFilter
from backups.models import Backup, BackupPart, Source, Trigger
from backups.services import guards
from recovery.models import Purpose, Recovery, RecoveryPart, RecoveryState, RecoveryType, TargetKind
from recovery.models.recovery import ACTIVE, BEFORE_THE_START, WORKING
from recovery.services import databases, points, targets

JOB = "recovery"
LONGEST_NAME = 200  # bytes; file systems take 255, and ours must fit into a column
FAIL = "fail"  # the one way to meet what is already there, as long as nothing may be there

_LATER = {
    TargetKind.IN_PLACE: "Recovering in place",
    TargetKind.SOURCE: "Recovering into another source",
    TargetKind.DOWNLOAD: "Recovering as a download",
}


@dataclass(frozen=True)
class Target:
    """Where to bring it.

    new_place     an absolute path on a node's disk (None: the node that reaches the data)
    new_database  a name that the source's server does not have yet; roles it lacks are made where make_roles says so
    """

    kind: str = TargetKind.NEW_PLACE
    path: str = ""
    node: Node | None = None
    database: str = ""
    make_roles: bool = False


@dataclass(frozen=True)
class Plan:
    """A recovery that was not asked for yet: nothing of it is stored."""

    recovery: Recovery
    parts: list[BackupPart]


def request(
    kind: str,
    *,
    by: Actor,
    target: Target,
    reason: str,
    trigger: str = Trigger.API,
    backup: Backup | None = None,
    source: Source | None = None,
    at: datetime | None = None,
    parts: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    conflict: str = FAIL,
    purpose: str = Purpose.RECOVERY,
) -> Recovery:
    """Ask for a recovery. Writes the Recovery, its parts, a job and the audit event in one transaction and rings.

    Either `backup` with or without the names of some `parts`, or `source` with or without a moment. `include` are
    paths (partial) or patterns (selective); a leading slash means the path as it was on the host, without one it is
    counted from the source's root. Invalid for contradictions; Denied: the console's own database,
    unless on its host; Refused: backup-deleted, not-restorable,
    point-in-time-out-of-range, target-incompatible, target-busy, not-available (in place, download, restore tests).
    """
    plan = preview(
        kind, by=by, target=target, reason=reason, trigger=trigger, backup=backup, source=source, at=at, parts=parts,
        include=include, exclude=exclude, conflict=conflict, purpose=purpose,
    )  # fmt: skip
    return _queued(plan.recovery, plan.parts, by)


def preview(
    kind: str,
    *,
    by: Actor,
    target: Target,
    reason: str = "",
    trigger: str = Trigger.API,
    backup: Backup | None = None,
    source: Source | None = None,
    at: datetime | None = None,
    parts: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    conflict: str = FAIL,
    purpose: str = Purpose.RECOVERY,
) -> Plan:
    """What `request` would do with the same words, without doing it; raises what it would raise."""
    _refuse_later(target, conflict, purpose)
    _check_selection(kind, parts, include, exclude)
    chosen = points.choose(kind, backup=backup, source=source, at=at, parts=parts)
    guards.must_not_be_read((part.source for part in chosen.parts), by=by)
    if target.kind == TargetKind.NEW_DATABASE:
        path = databases.judged(target.database, chosen.parts, selected=bool(include or exclude))
        node = _node(chosen.parts, target.node or chosen.parts[0].source.node)
    else:
        node = _node(chosen.parts, target.node)
        path = _judged(target.path, node, by)
    recovery = Recovery(
        type=kind, purpose=purpose, backup=chosen.backup, point_in_time=at, include=list(include),
        exclude=list(exclude), target_kind=target.kind, target_path=path, target_database=target.database,
        make_roles=target.make_roles, node=node, reason=reason, trigger=trigger,
        requested_by_kind=by.kind, requested_by_id=by.user_id or "", requested_by_name=by.name[:200],
        notices=chosen.notices,
    )  # fmt: skip
    return Plan(recovery, chosen.parts)


def listing() -> QuerySet[Recovery]:
    """Every recovery, newest first, with what a list shows fetched along."""
    rows = Recovery.objects.select_related("backup", "node", "job")
    return rows.prefetch_related("parts__part__source__environment").order_by("-created_at", "-id")


def get(reference: UUID | str) -> Recovery:
    """The recovery with its parts. NotFound."""
    found = listing().filter(pk=reference).first()
    if found is None:
        raise NotFound(f"There is no recovery {reference}.")
    return found


def cancel(recovery: Recovery, *, by: Actor, reason: str = "") -> Recovery:
    """End it: at once when it has not begun, else as soon as the worker hears of it. Asking twice is harmless.

    Refused (“not-cancellable”) when it has ended or is giving the result its name.
    """
    recovery.refresh_from_db()
    if recovery.state == RecoveryState.CANCELLING:
        return recovery
    if recovery.state not in BEFORE_THE_START | WORKING or recovery.job is None:
        told = _("The recovery is %(state)s and cannot be cancelled any more.")
        raise Refused(told % {"state": recovery.get_state_display()}, code="not-cancellable")
    with transaction.atomic():
        audit.record("recovery.cancel_requested", recovery, by=by, reason=reason)
        jobs.cancel(recovery.job, by=by)
        _follow(recovery)
    return recovery


def refuse_rollback(recovery: Recovery) -> Refused:
    """Why there is nothing to roll back: the way it came left what was there before untouched."""
    what = "database" if recovery.target_kind == TargetKind.NEW_DATABASE else "directory"
    if recovery.active:
        words = _("This recovery has not ended; cancel it instead (DELETE), and nothing stays behind.")
    else:
        words = (
            f"This recovery wrote to a new place ({recovery.target_path}) and replaced nothing, so there is nothing to"
            f" roll back to; remove that {what} if you do not need it. Rollback comes with recovering in place."
        )
    return Refused(words, code="rollback-unavailable")


# --- checking -------------------------------------------------------------------------------------------------------


def _refuse_later(target: Target, conflict: str, purpose: str) -> None:
    if target.kind in _LATER:
        cure = "Recover to a new place (target: kind “new_place” with a path) and move the data from there."
        words = f"{_LATER[TargetKind(target.kind)]} is not available yet. {cure}"
        raise Refused(words, code="not-available", facts={"pointer": "/target/kind"})
    if conflict != FAIL:
        told = _("A new place is empty, so “%(word)s” has no meaning there; use “%(fail)s” or leave it out.")
        raise Refused(told % {"word": conflict, "fail": FAIL}, code="not-available", facts={"pointer": "/conflict"})
    if purpose == Purpose.TEST:
        words = _(
            "A restore test that is isolated and cleans up after itself is not available yet. Take the purpose"
            " “recovery”, look at what came back and remove it."
        )
        raise Refused(words, code="not-available", facts={"pointer": "/purpose"})


def _check_selection(kind: str, parts: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> None:
    given = {"parts": parts, "include": include, "exclude": exclude}
    if kind == RecoveryType.FULL:
        cure = _("Leave it out, or take the type “partial” or “selective”.")
        errors = {name: cure for name in given if given[name]}
        if errors:
            raise Invalid(_("A full recovery brings everything back."), errors=errors)
    if kind == RecoveryType.PARTIAL and not parts and not include:
        errors = {"parts": _("Name some parts …"), "include": _("… or some paths.")}
        raise Invalid(_("A partial recovery needs parts, or paths to include."), errors=errors)
    if kind == RecoveryType.SELECTIVE and not include and not exclude:
        errors = {"include": _("Give patterns to include …"), "exclude": _("… or to leave out.")}
        raise Invalid(_("A selective recovery needs patterns."), errors=errors)
    for name in ("include", "exclude"):
        _check_patterns(name, given[name])


def _check_patterns(name: str, patterns: Sequence[str]) -> None:
    try:
        PathFilter(patterns if name == "include" else (), patterns if name == "exclude" else ())
    except InvalidPattern as error:
        raise Invalid(str(error), errors={name: str(error)}) from None


def _node(parts: Sequence[BackupPart], wanted: Node | None) -> Node:
    """The one host that can carry it out. Refused when there is none, or when the choice is not ours."""
    holders = {part.repository.node for part in parts if part.repository.node is not None}
    for holder in holders:
        if (wanted or holder) != holder or len(holders) > 1:
            told = _(
                "It cannot be recovered there: the data is on the node “%(node)s”, whose disk no other node reaches."
                " Take a target on that node."
            )
            raise Refused(told % {"node": holder}, code="target-incompatible")
    return wanted or next(iter(holders), None) or _only_node()


def _only_node() -> Node:
    known = list(Node.objects.filter(enabled=True)[:2])
    if len(known) > 1:
        words = _("There are several nodes; say on whose disk the target is (target: node).")
        raise Refused(words, code="target-incompatible", facts={"pointer": "/target/node"})
    return known[0] if known else nodes.here()


def _judged(path: str, node: Node, by: Actor) -> str:
    normal = targets.normal(path)
    if node.name == settings.AIHUB_NODE:
        targets.judge_here(normal, node, by=by)
    else:
        targets.judge(normal, node, by=by)
    for other in Recovery.objects.filter(node=node, state__in=ACTIVE):
        if targets.overlap(normal, other.target_path):
            told = _("The recovery %(recovery)s is writing to %(place)s; wait for it or choose another place.")
            words = told % {"recovery": other.pk, "place": other.target_path}
            raise Refused(words, code="target-busy", facts={"pointer": "/target/path"})
    return normal


# --- writing --------------------------------------------------------------------------------------------------------


def _queued(recovery: Recovery, parts: Sequence[BackupPart], by: Actor) -> Recovery:
    try:
        with transaction.atomic():
            recovery.job = jobs.enqueue(JOB, target_id=recovery.pk, queue="recovery", node=recovery.node)
            recovery.save(force_insert=True)
            RecoveryPart.objects.bulk_create(_rows(recovery, parts))
            audit.record(
                "recovery.requested", recovery, by=by, type=recovery.type, backup=str(recovery.backup_id),
                to=recovery.target_path, parts=[part.source.name for part in parts], reason=recovery.reason,
            )  # fmt: skip
    except IntegrityError:
        told = _("Another recovery to %(place)s was asked for at this moment; choose another place.")
        words = told % {"place": recovery.target_path}
        raise Refused(words, code="target-busy", facts={"pointer": "/target/path"}) from None
    return get(recovery.pk)


def _rows(recovery: Recovery, parts: Sequence[BackupPart]) -> list[RecoveryPart]:
    """One part goes directly into the target, each of several into a directory named after its source."""
    places = [_directory(part.source) if len(parts) > 1 else "" for part in parts]
    return [
        RecoveryPart(recovery=recovery, part=part, place=place, position=position)
        for position, (part, place) in enumerate(zip(parts, places, strict=True))
    ]


def _directory(source: Source) -> str:
    """The source's name as a directory's: a slash would be a path, a leading dot would hide it or lead elsewhere."""
    plain = source.name.replace("%", "%25").replace("/", "%2F")
    plain = f"%2E{plain[1:]}" if plain.startswith(".") else plain
    return plain if len(plain.encode()) <= LONGEST_NAME else str(source.pk)


def _follow(recovery: Recovery) -> None:
    """The row after its job was cancelled: the handler has ended a queued one; a running one is on its way."""
    recovery.refresh_from_db()
    if recovery.state not in WORKING:
        return
    try:
        recovery.move_to(RecoveryState.CANCELLING)
    except LostRace:  # the worker moved it a moment ago; it looks at the job before it goes on
        recovery.refresh_from_db()
