"""Carrying a recovery out: prove what is needed, build it up beside the target, validate it, give it its name.

An attempt that was lost leaves what it has built up, and the next one goes on there: parts that are whole are kept, of
the others the engine proves what stands and fetches the rest. The end of the recovery, whatever it is, removes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy

from aihub_backup.core.audit import SYSTEM, record
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.core.jobs import Cancelled, Handler, Lease
from aihub_backup.core.models import Job
from aihub_backup.core.processes import Child
from aihub_backup.core.states import LostRace
from backups.engine.disk import printable
from backups.models.backup import STORED
from backups.services import opening, placing, repositories
from backups.services.failing import clear, columns
from backups.services.running import perform
from recovery.models import Recovery, RecoveryPart, RecoveryState, TargetKind
from recovery.models.recovery import ACTIVE, WORKING
from recovery.services import selections, stages, targets

LEVEL = 1  # the objects a recovery needs are there with their size; reading them proves the rest
PROBLEMS_TOLD = 3
ODDITIES_KEPT = 200


class RecoveryHandler(Handler):
    """The job of one recovery."""

    label = gettext_lazy("Recovery")

    def run(self, lease: Lease) -> None:
        """All of it. Whatever happens, nothing half is left under the target's name."""
        recovery = _of(lease.job)
        if recovery.state not in ACTIVE:
            return  # an attempt before this one was settled
        if _has_its_name(recovery):
            _accept(recovery, lease)
        else:
            run_of(recovery, lease).everything()

    def settle(self, job: Job) -> bool:
        """Lost while the result got its name: either it has it, or the stage still waits."""
        recovery = _of(job)
        if not _has_its_name(recovery):
            return False
        if recovery.state in ACTIVE:
            _accept(recovery, None)
        return True

    def failed(self, job: Job, failure: Failure) -> None:
        """Given up."""
        recovery = _of(job)
        recovery.move_to(RecoveryState.FAILED, finished_at=timezone.now(), **columns(failure))
        record("recovery.failed", recovery, by=SYSTEM, code=failure.code, sentence=failure.message)
        transaction.on_commit(partial(_sweep, recovery))

    def cancelled(self, job: Job) -> None:
        """Somebody asked for the end."""
        recovery = _of(job)
        recovery.move_to(RecoveryState.CANCELLED, finished_at=timezone.now())
        record("recovery.cancelled", recovery, by=SYSTEM, asked_by=job.cancel_requested_by)
        transaction.on_commit(partial(_sweep, recovery))

    def requeued(self, job: Job, failure: Failure) -> None:
        """Again, later; why is shown until then."""
        recovery = _of(job)
        if recovery.state in WORKING:
            recovery.move_to(RecoveryState.QUEUED, **columns(failure))


def _of(job: Job) -> Recovery:
    return Recovery.objects.select_related("node", "job", "backup").get(job=job)


def run_of(recovery: Recovery, lease: Lease) -> Run:
    """An attempt of the kind its target asks for."""
    from recovery.services.databases import DatabaseRun

    return (DatabaseRun if recovery.target_kind == TargetKind.NEW_DATABASE else Run)(recovery, lease)


class Run:
    """One attempt."""

    SHARES: ClassVar[int] = 0  # of the progress; 0: as many as there are parts
    place: stages.Stage  # from stage() on

    def __init__(self, recovery: Recovery, lease: Lease) -> None:
        self.recovery, self.lease = recovery, lease
        related = ("part__repository__storage__node", "part__source__environment", "part__backup")
        self.parts = list(recovery.parts.select_related(*related))
        self._whole: set[UUID] = set()  # parts that an attempt before this one has finished
        self._bare = False  # is the stage a new one in which nothing was restored yet?

    def everything(self) -> None:
        """From the points to the name."""
        with self.stage():
            self.prepare()
            self.restore()
            self.validate()
            self.publish()

    @contextlib.contextmanager
    def stage(self) -> Iterator[None]:
        """The place to build up in: what the attempt before has left, or a new one. Only the end removes it."""
        recovery = self.recovery
        targets.judge_here(recovery.target_path, recovery.node, by=recovery.asker)
        before, recovery.stage = recovery.stage, stages.place(recovery.target_path, recovery.pk, self.lease.epoch)
        recovery.tree_inode = ""
        if before and os.path.dirname(before) != os.path.dirname(recovery.stage):
            stages.remove(before)  # directories on the way to the target have come or gone
        recovery.save(update_fields=["stage", "tree_inode"])
        self.place = self._left_by(before) or self._begun()
        try:
            yield
        except Exception:
            if self._bare and not self.lease.lost:  # else it may be another attempt's by now
                stages.remove(recovery.stage)
            raise
        stages.remove(recovery.stage)

    def _left_by(self, before: str) -> stages.Stage | None:
        """The stage of the attempt before; None when there is none, or when a part stands there of which nobody has
        written down what it holds (its attempt was killed in that moment)."""
        left = stages.take_over(self.recovery.stage) if before else None
        stand = [part for part in self.parts if stages.holds(self.recovery.stage, part.place)]
        if left is None or not all(part.restored_at for part in stand):
            return None
        self._whole = {part.pk for part in stand}
        return left

    def _begun(self) -> stages.Stage:
        """A new stage. Nothing counts as restored."""
        self.recovery.parts.update(restored_at=None, stats={}, item_errors=[])
        self._bare = True
        return stages.make(self.recovery.stage, directories=any(part.place for part in self.parts))

    def prepare(self) -> None:
        """Are the points still there, with every object they need?"""
        self._move(RecoveryState.PREPARING, started_at=self.recovery.started_at or timezone.now(), **clear())
        for number, part in enumerate(self.parts):
            part.part.refresh_from_db(fields=["state"])
            if part.part.state not in STORED:
                told = f"{part.part.source} ({part.part.get_state_display()})"
                raise Refused(f"The recovery point of {told} is gone; choose another one.", code="not-restorable")
            self._prove(part, number)

    def restore(self) -> None:
        """Every part into its place in the stage."""
        self._move(RecoveryState.RESTORING)
        self._bare = False
        for number, part in enumerate(self.parts):
            if part.pk in self._whole:
                self._keep(part, number)
            else:
                self._restore(part, number)
        if not any(part.stats.get("items") for part in self.parts) or self._nothing_chosen():
            words = "Nothing in the recovery point matches what you asked for; look at its contents for right paths."
            raise Refused(words, code="not-restorable")

    def validate(self) -> None:
        """Read back what was written, and let the strategies look at what it is. The refusal names what was looked at
        alone: names inside the backup are for those who may browse it, and stay in the findings."""
        self._move(RecoveryState.VALIDATING)
        self.tidy()
        self.recovery.findings = findings = self.findings()
        self.recovery.save(update_fields=["findings"])
        bad = [finding for finding in findings if not finding["passed"]]
        if bad:
            told = ", ".join(f"{finding['part']} ({finding['check']})" for finding in bad[:PROBLEMS_TOLD])
            words = f"What was restored did not pass the validation, so it was not kept: {told}. Its findings say why."
            raise Refused(words, code="invalid-result")

    def tidy(self) -> None:
        """Of parts beside each other nothing but they may get the target's name."""
        if places := [part.place for part in self.parts if part.place]:
            stages.tidy(self.place, places)

    def findings(self) -> list[dict[str, Any]]:
        """What is looked at, part by part."""
        return [finding for number, part in enumerate(self.parts) for finding in self._validate(part, number)]

    def publish(self) -> None:
        """The point of no return: one rename, then the rows."""
        recovery = self.recovery
        place = targets.judge_here(recovery.target_path, recovery.node, by=recovery.asker)
        self.lease.commit_guard()
        self._remember_tree()
        stages.publish(self.place, place)
        self.close()

    def close(self) -> None:
        """One transaction: the recovery, the event, the job."""
        _close(self.recovery, self.lease)

    def _remember_tree(self) -> None:
        """Only of this attempt's stage: one that was suspended too long must not overwrite what its successor told."""
        own = Recovery.objects.filter(pk=self.recovery.pk, stage=self.recovery.stage)
        own.update(tree_inode=stages.identity(self.place))

    # --- the runner's part ---

    def _prove(self, part: RecoveryPart, number: int) -> None:
        problems: list[str] = []

        def hear(event: Mapping[str, Any]) -> None:
            if event.get("event") == "problem":
                problems.append(str(event["message"]))

        job = {"job": "verify", "snapshots": [part.part.snapshot_id], "level": LEVEL}
        result = self._perform(number, job, part, hear)
        if result["problems"]:
            told = "; ".join(problem.rstrip(".") for problem in problems[:PROBLEMS_TOLD])
            words = f"The repository no longer holds all that {part.part.source} needs: {told}. Choose another point."
            raise Refused(words, code="not-restorable")

    def _restore(self, part: RecoveryPart, number: int) -> None:
        oddities: list[dict[str, Any]] = []
        job = {
            "job": "restore", "snapshot": part.part.snapshot_id, "target": self._place(part),
            "stage": self.place.told(), "options": {"leave": True}, **self._selected(part),
        }  # fmt: skip
        result = self._perform(number, job, part, partial(_collect, oddities))
        part.stats = {name: value for name, value in result.items() if name not in ("target", "leaves", "current")}
        part.item_errors, part.restored_at = oddities, timezone.now()
        part.save(update_fields=["stats", "item_errors", "restored_at"])

    def _keep(self, part: RecoveryPart, number: int) -> None:
        """A part that is whole; the validation reads all of it, whoever wrote it."""
        size, items = part.stats["bytes"], part.stats["items"]
        facts = {"bytes_done": size, "bytes_total": size, "bytes_kept": size, "items_done": items, "items_total": items}
        self._share(part, number).progress({"phase": "restoring", **facts})
        part.stats["kept"] = size
        part.save(update_fields=["stats"])

    def _validate(self, part: RecoveryPart, number: int) -> list[dict[str, Any]]:
        job = {
            "job": "validate", "snapshot": part.part.snapshot_id, "target": self._place(part),
            "stage": self.place.told(),
            "kind": part.part.source.kind, "facts": part.part.facts, "lost": part.stats.get("failed", 0),
            "bytes": part.stats.get("bytes"), "whole": not self.recovery.include and not self.recovery.exclude,
            **self._selected(part),
        }  # fmt: skip
        result = self._perform(number, job, part, None)
        return [{"part": part.part.source.name, **finding} for finding in result["findings"]]

    def _perform(self, number: int, job: dict[str, Any], part: RecoveryPart, hear: Any) -> dict[str, Any]:
        spec = opening.repository(part.part.repository)
        try:
            return perform({"repository": spec, **job}, lease=self._share(part, number), events=hear)
        except Failure as failure:
            repositories.learn(part.part.repository, failure)
            raise

    def _share(self, part: RecoveryPart, number: int) -> Share:
        return Share(self.lease, number, self.SHARES or len(self.parts), part.part.source.name)

    def _selected(self, part: RecoveryPart) -> dict[str, Any]:
        base = selections.base_of(part.part)
        include, exclude = selections.patterns(self.recovery, base)
        return {"base": base, "include": include, "exclude": exclude}

    def _place(self, part: RecoveryPart) -> bytes:
        return os.fsencode(stages.tree(self.recovery.stage, part.place))

    def _nothing_chosen(self) -> bool:
        """With a choice, directories on the way alone are nothing."""
        chosen = bool(self.recovery.include)
        found = sum(part.stats.get("files", 0) + part.stats.get("others", 0) for part in self.parts)
        return chosen and not found and not any(part.stats.get("directories", 0) > 1 for part in self.parts)

    def _move(self, state: str, **fields: object) -> None:
        """The next state; when a cancel moved the row first, that is how it ends."""
        if self.recovery.state == state:
            return
        try:
            self.recovery.move_to(state, **fields)
        except LostRace:
            self.lease.check()
            raise Cancelled("The recovery was cancelled.") from None


class Share:
    """A lease as the runner of one of several parts sees it: its progress is a share of the whole, and its commit puts
    something into our own stage only, so it needs no word of the job."""

    def __init__(self, lease: Lease, number: int, count: int, name: str) -> None:
        self._lease, self._number, self._count, self._name = lease, number, count, name

    def own(self, child: Child) -> None:
        """Its process dies with the lease."""
        self._lease.own(child)

    def check(self) -> None:
        """The lease's own word."""
        self._lease.check()

    def commit_guard(self) -> None:
        """Go on, as long as the lease is ours and nobody cancelled."""
        self._lease.check()

    def progress(self, facts: Mapping[str, Any]) -> None:
        """With the number of the part beside it."""
        told = {"part": self._name, "part_number": self._number + 1, "part_count": self._count}
        self._lease.progress({**facts, **told})


def _collect(oddities: list[dict[str, Any]], event: Mapping[str, Any]) -> None:
    if event.get("event") == "item" and len(oddities) < ODDITIES_KEPT:
        told = {name: event[name] for name in ("action", "message", "severity")}
        oddities.append({"path": printable(event["path"]), **told})


# --- closing --------------------------------------------------------------------------------------------------------


def _has_its_name(recovery: Recovery) -> bool:
    from recovery.services import databases

    if recovery.target_kind == TargetKind.NEW_DATABASE:
        return databases.named(recovery)
    return placing.here(recovery.node) and stages.published(recovery.tree_inode, recovery.target_path)


def _accept(recovery: Recovery, lease: Lease | None) -> None:
    """An attempt before this one got through and could not write it down."""
    _close(recovery, lease)
    if recovery.target_kind != TargetKind.NEW_DATABASE:
        stages.remove(recovery.stage)


def _close(recovery: Recovery, lease: Lease | None) -> None:
    """One transaction: the recovery with what it counted, the event, the job."""
    counts = _counts(recovery)
    odd = counts["warnings_count"] or counts["errors_count"]
    state = RecoveryState.COMPLETED_WITH_WARNINGS if odd else RecoveryState.COMPLETED
    with transaction.atomic():
        if recovery.state == RecoveryState.QUEUED:  # it had gone back to the queue before somebody looked
            recovery.move_to(RecoveryState.VALIDATING)
        recovery.move_to(state, finished_at=timezone.now(), **counts, **clear())
        told = {"state": state, "bytes": counts["size_bytes"], "to": recovery.target_path}
        record("recovery.completed", recovery, by=SYSTEM, **told)
        if lease is not None:
            lease.finish()


def _counts(recovery: Recovery) -> dict[str, int]:
    stats = [part.stats for part in recovery.parts.all()]

    def total(name: str) -> int:
        return sum(int(one.get(name) or 0) for one in stats)

    return {
        "items": total("items"), "size_bytes": total("bytes"),
        "warnings_count": total("warnings"), "errors_count": total("failed"),
    }  # fmt: skip


def _sweep(recovery: Recovery) -> None:
    """After the end was written down: nothing of the stage may stay. Of another host's disk we can only tell."""
    if not recovery.stage:
        return
    from recovery.services import databases

    if recovery.target_kind == TargetKind.NEW_DATABASE:
        what, gone = f"The database {recovery.stage} on the server", databases.sweep(recovery)
    else:
        what, gone = recovery.stage, placing.here(recovery.node) and stages.remove(recovery.stage)
    if not gone:
        words = f"{what} may hold an unfinished copy; remove it."
        Recovery.objects.filter(pk=recovery.pk).update(left_behind=words)
