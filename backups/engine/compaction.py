"""Giving back the space of what no snapshot needs any more, without trusting clocks or locks.

1. What lives in the deadest packs is stored anew in other packs, and index objects tell of these.
2. A record `mark` names the old packs; whoever opens the repository from now on relies on none of them.
3. Everybody who opened it before comes to the end of the work (or of the lease).
4. The log is read again; marked packs that have come into use are let go.
5. A record `sweep` condemns the others. The log is read once more: a snapshot that was committed meanwhile and needs
   one of them gets its blobs carried over first. Then index objects and packs are deleted, and a record says “done”.

When new keys were drawn, what lies under older ones goes the same way, the oldest first, within the budget of a run.

A writer that held out longer than its lease looks at the log when it has put its record (`commit`): of two that write
first and look then, at least one sees the other. So no acknowledged snapshot is ever lost, even without step 3; step 3
keeps healthy writers from having to begin again. Cut off anywhere, the next run goes on with what the log says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backups.engine import format as fmt
from backups.engine.choosing import ORDINARY, Chooser, CompactOptions, Plan
from backups.engine.entry import ItemError
from backups.engine.errors import (
    BlobMissing,
    EngineError,
    ObjectDamaged,
    ObjectMissing,
    StoreReadOnly,
    StoreRefused,
)
from backups.engine.log import Snapshot
from backups.engine.marks import MARK, SWEEP, Named, packs_of
from backups.engine.options import Report, quiet
from backups.engine.pack import PackInfo
from backups.engine.reindex import describe, outdated_index, supersede
from backups.engine.repack import Repacker
from backups.engine.repository import Repository
from backups.engine.usage import Usage, Weight

DELETED_AT_ONCE = 100  # objects between two looks at the own lease
CURE = "Check it, and heal it from a copy, or forget what is lost."


@dataclass(slots=True)
class Compacted:
    """What a run has done; bytes as they are stored.

    marked   bytes of packs that were marked now or earlier and wait for their time
    spared   marked packs that had come into use again
    stored   bytes of all packs at the end
    waiting  names of the marks that wait for those who were at work when they were put
    """

    plan: Plan = field(default_factory=Plan)
    phase: str = ""
    done: int = 0  # of the phase
    expected: int = 0
    carried: int = 0
    freed: int = 0
    deleted: int = 0
    spared: int = 0
    marked: int = 0
    stored: int = 0
    waiting: list[str] = field(default_factory=list)

    def pack(self) -> dict[str, Any]:
        told = {
            name: getattr(self, name)
            for name in ("carried", "freed", "deleted", "spared", "marked", "stored", "waiting")
        }
        return {**told, "plan": self.plan.pack()}


Progress = Callable[[Compacted], None]  # may raise Cancelled: nothing is lost by that
Wait = Callable[[Sequence[str]], bool]  # hears the names of the marks that were put just now
Ripe = Callable[[str, Named], bool]  # may the mark of this name be settled?


def preview(repository: Repository, options: CompactOptions = ORDINARY, progress: Progress = quiet) -> Plan:
    """What compact() would do now. Reads the trees of all snapshots and writes nothing."""
    run = _Run(repository, options, _held, quiet, progress)
    run.look()
    return run.plan()


def compact(
    repository: Repository,
    options: CompactOptions = ORDINARY,
    *,
    wait: Wait | None = None,
    ripe: Ripe | None = None,
    holding: Callable[[], None] = lambda: None,
    report: Report = quiet,
    progress: Progress = quiet,
) -> Compacted:
    """Give back unused space.

    wait     True when everybody who may have opened the repository before the mark has ended, or lost the right to
             commit; False when somebody has not. None: nobody can tell
    ripe     which marks of earlier runs may be settled. None: those older than `grace`
    holding  raises LostLease when another compactor may be at work; asked before each step that deletes
    Raises EngineError when the repository is damaged: what cannot be read may be needed.
    """
    run = _Run(repository, options, holding, report, progress)
    run.look()
    run.condemned()
    run.settle(ripe or (lambda _name, named: aged(named, options)))
    marks = run.rewrite() if not run.plan().idle else []
    if wait is not None and (marks or repository.log.marks.marked) and wait(marks):
        run.settle(lambda _name, named: not named.orphans or aged(named, options))
    return run.close()


def aged(named: Named, options: CompactOptions) -> bool:
    """Whether a mark is so old that nobody is left who opened the repository before it."""
    return time.time() - named.time >= options.grace


def _held() -> None:
    """A preview writes nothing that a lease would have to guard."""


class _Run:
    def __init__(
        self, repository: Repository, options: CompactOptions, holding: Callable[[], None], report: Report,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.done = Compacted()
        self._repository, self._options = repository, options
        self._holding, self._report, self._progress = holding, report, progress
        self._stored: dict[bytes, int] = {}
        self._usage: Usage | None = None
        self._weights: dict[bytes, Weight] = {}
        self._stayed: set[str] = set()  # objects that the store did not let go of
        self._judged: set[str] = set()  # snapshots all of whose blobs have a place in packs that stay

    # looking

    def look(self) -> None:
        """Read log, index and list of packs again. EngineError when something is damaged."""
        repository = self._repository
        repository.log.refresh()
        repository.reload_index()
        self._stored = repository.stored_packs()
        hurt = [damage.name for damage in (*repository.log.damaged, *repository.index.damaged)]
        if hurt := sorted({*hurt, *repository.log.missing}):
            raise EngineError(
                f"The repository is damaged ({hurt[0]}): what cannot be read may be needed, so nothing is given back."
                f" {CURE}"
            )

    def _walked(self, snapshots: Sequence[Snapshot], leaving: Collection[bytes]) -> Usage:
        """What these snapshots need."""
        usage = Usage(
            self._repository, self._stored, leaving=leaving, doubtful=self._options.damaged, tick=lambda: self._step(0)
        )
        self._phase("looking", len(snapshots))
        try:
            for snapshot in usage.add(snapshots):
                self._judged.add(snapshot.id)
                self._step(1)
        except (BlobMissing, ObjectMissing, ObjectDamaged) as error:
            raise EngineError(f"The repository is damaged, so nothing is given back: {error} {CURE}") from None
        return usage

    def plan(self) -> Plan:
        """What is to go, and what for."""
        repository, marks = self._repository, self._repository.log.marks
        self._usage = self._walked(repository.snapshots, marks.leaving)
        self._weights = self._usage.weigh()
        chooser = Chooser(self._options, self._stored, marks, repository.ring.epoch)
        plan = self.done.plan = chooser.choose(self._weights)
        if chooser.all_renewed:
            plan.stale = [name for name in outdated_index(repository) if name not in marks.index_leaving]
        return plan

    # storing anew, and marking

    def rewrite(self) -> list[str]:
        """Steps 1 and 2; the names of the marks."""
        plan, usage = self.done.plan, self._usage
        assert usage is not None
        lost = self._carry(usage, self._to_carry(usage), plan.carried)
        plan.victims = [pack for pack in plan.victims if pack not in lost]
        marks = []
        index = supersede(self._repository, set(plan.victims), plan.stale) if plan.victims or plan.stale else []
        if plan.victims or index:
            marks.append(self._mark(plan.victims, index=index))
        if plan.orphans:
            marks.append(self._mark(plan.orphans, orphans=True))
        self._repository.index_changed()
        return marks

    def _to_carry(self, usage: Usage) -> list[bytes]:
        """Victims in which something lives, or of which another pack is said to have a copy: that is proved."""
        copied, weights = usage.copied(), self._weights
        present = (pack for pack in self.done.plan.victims if pack in self._stored)
        return [pack for pack in present if pack in copied or not weights[pack].dead]

    def _carry(self, usage: Usage, packs: Sequence[bytes], expected: int) -> set[bytes]:
        """Store anew what lives in the packs; those that proved to be damaged, which are left as they are."""
        options, lost = self._options, set[bytes]()
        compressor = self._repository.compressor(options.codec, options.level)
        repacker = Repacker(self._repository, compressor, self._carried)
        self._phase("compacting", expected)
        for pack in packs:
            try:
                repacker.carry(pack, usage)
            except (ObjectDamaged, ObjectMissing) as error:
                lost.add(pack)
                words = f"{error} It is left as it is; check the repository."
                self._report(ItemError(b"", "compact", words, "warning"))
            self._step(0)
        repacker.finish()
        return lost

    def _carried(self, pack: PackInfo) -> None:
        self.done.carried += pack.size
        self._step(pack.size)

    def _mark(self, packs: Sequence[bytes], **more: Any) -> str:
        self._holding()
        return self._repository.log.append(MARK, {"packs": list(packs), **more}).name

    # sweeping

    def settle(self, may: Ripe) -> None:
        """Steps 4 and 5 for the marks whose time has come."""
        marks = self._repository.log.marks.marked
        chosen = {name for name, named in marks.items() if may(name, named)}
        if not chosen:
            return
        self.look()
        ripe = {name: named for name, named in self._repository.log.marks.marked.items() if name in chosen}
        if not ripe:
            return  # somebody else settled them
        packs = packs_of(ripe.values()) - self._in_use(ripe)
        index = {name for named in ripe.values() for name in named.index}
        spared = packs_of(ripe.values()) - packs
        if spared:
            describe(self._repository, spared, index)
            self.done.spared += len(spared)
        self._holding()
        body = {"marks": sorted(ripe), "packs": sorted(packs), "index": sorted(index)}
        self._repository.log.append(SWEEP, body)
        self.condemned()

    def _in_use(self, marked: dict[str, Named]) -> set[bytes]:
        """Marked packs that somebody relied on before the mark was seen, and orphans that an index object names now."""
        self._judged = set()
        usage = self._walked(self._repository.snapshots, self._repository.log.marks.leaving)
        if usage.held - packs_of(marked.values()):
            self._judged = set()  # somebody else condemned something meanwhile: all are looked at again
        named = {pack.digest for pack in self._repository.sync_index().packs()}
        orphans = packs_of(one for one in marked.values() if one.orphans)
        return usage.held | orphans & named

    def condemned(self) -> None:
        """Delete what sweeps have condemned, also those of a run that was cut off. What lives there after all is
        carried over first: a snapshot that was committed at the same moment."""
        if not self._repository.log.marks.condemned:
            return
        self.look()
        while held := self._relied_on():
            if lost := self._carry(held, sorted(held.held), 0):
                raise EngineError(f"{fmt.pack_name(min(lost))} is needed and damaged, so nothing is deleted. {CURE}")
            self.look()
        sweeps = self._repository.log.marks.condemned
        self._phase("sweeping", sum(len(named.index) + len(named.packs) for named in sweeps.values()))
        self._delete(sorted({name for named in sweeps.values() for name in named.index}))
        self._delete([fmt.pack_name(pack) for pack in sorted(packs_of(sweeps.values()))])
        self._holding()
        if done := [name for name, named in sorted(sweeps.items()) if self._stayed.isdisjoint(_objects(named))]:
            self._repository.log.append(SWEEP, {"done": done})
        self.look()  # a plan that is made now must not take what was deleted for orphans

    def _relied_on(self) -> Usage | None:
        """Snapshots that nobody has judged yet, where they need condemned packs; None: they need none of them."""
        new = [s for s in self._repository.snapshots if s.id not in self._judged]
        # What a marked pack has as well is there: that one is let go when its own mark is settled.
        usage = self._walked(new, self._repository.log.marks.condemned_packs)
        self._judged.difference_update(s.id for s in new if usage.held)  # once more, when it has been carried
        return usage if usage.held else None

    def _delete(self, names: Sequence[str]) -> None:
        """Index objects before packs: what nobody names any more is an orphan to whoever comes after a crash here.
        What the store does not let go (an object lock) stays condemned: later runs try again."""
        for batch in _batches(names):
            self._holding()
            for name in batch:
                self._let_go(name)
            self._step(len(batch))
        self._holding()

    def _let_go(self, name: str) -> None:
        try:
            self._repository.store.delete(name)
        except (StoreRefused, StoreReadOnly) as error:
            if not self._stayed:  # one for all: thousands may be locked
                words = f"The storage does not let go of {name}: {error} Later runs try again."
                self._report(ItemError(b"", "compact", words, "warning"))
            self._stayed.add(name)
            return
        self.done.freed += self._stored.get(fmt.pack_digest(name) or b"", 0)
        self.done.deleted += 1

    def close(self) -> Compacted:
        log = self._repository.log
        self.done.marked = sum(self._stored.get(pack, 0) for pack in packs_of(log.marks.marked.values()))
        self.done.waiting = [name for name, named in log.marks.marked.items() if not named.orphans]
        with suppress(EngineError):  # it is due again after the next record
            if log.checkpoint_due():
                log.append_checkpoint()
        self._repository.remember_leaves()
        self.done.stored = sum(self._repository.stored_packs().values())
        return self.done

    # telling

    def _phase(self, phase: str, expected: int) -> None:
        self.done.phase, self.done.done, self.done.expected = phase, 0, expected
        self._progress(self.done)

    def _step(self, more: int) -> None:
        self.done.done += more
        self._progress(self.done)


def _objects(named: Named) -> set[str]:
    return {*named.index, *map(fmt.pack_name, named.packs)}


def _batches(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[at : at + DELETED_AT_ONCE] for at in range(0, len(names), DELETED_AT_ONCE))
