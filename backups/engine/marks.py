"""What the log says about packs on their way out: marked ones, which nobody may rely on any more, and condemned ones,
which are being deleted.

A mark is settled by a sweep, which condemns what is still unused and lets the rest go on; a sweep is over when a
record says that it is done. What was condemned never comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backups.engine.log import Record

MARK, SWEEP = "mark", "sweep"


@dataclass(frozen=True, slots=True)
class Named:
    """The objects that one mark or sweep names; when (Unix seconds). orphans: packs that no index object named."""

    packs: frozenset[bytes]
    index: frozenset[str]
    time: float
    orphans: bool = False

    def pack(self) -> list[Any]:
        return [self.time, sorted(self.packs), sorted(self.index), self.orphans]

    @classmethod
    def unpack(cls, row: Iterable[Any]) -> Named:
        time, packs, index, orphans = row
        return cls(frozenset(packs), frozenset(index), float(time), bool(orphans))

    @classmethod
    def of(cls, record: Record) -> Named:
        packs, index = record.body.get("packs", ()), record.body.get("index", ())
        return cls(frozenset(packs), frozenset(index), record.time, bool(record.body.get("orphans")))


@dataclass(slots=True)
class Marks:
    """marked: mark record → what it names, not settled yet. sweeps: sweep record → what it condemned. over: those
    sweeps that are done."""

    marked: dict[str, Named] = field(default_factory=dict)
    sweeps: dict[str, Named] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)

    @property
    def condemned(self) -> Mapping[str, Named]:
        """The sweeps that are not done."""
        return {name: named for name, named in self.sweeps.items() if name not in self.over}

    @property
    def condemned_packs(self) -> frozenset[bytes]:
        return packs_of(self.condemned.values())

    @property
    def leaving(self) -> frozenset[bytes]:
        """SHA-256 of all packs that nothing new may rely on. Orphans are not among them: a run that still goes on may
        be about to name them, and nobody else can rely on what no index object names."""
        return packs_of(named for named in self.marked.values() if not named.orphans) | self.condemned_packs

    @property
    def orphans(self) -> frozenset[bytes]:
        return packs_of(named for named in self.marked.values() if named.orphans)

    @property
    def index_leaving(self) -> frozenset[str]:
        """Names of the index objects that others have taken the place of, and that still lie there."""
        every = (*self.marked.values(), *self.condemned.values())
        return frozenset(name for named in every for name in named.index)

    @property
    def index_gone(self) -> frozenset[str]:
        """Names of the index objects that others have taken the place of."""
        return frozenset(name for named in self.sweeps.values() for name in named.index)

    def pack(self) -> dict[str, Any]:
        """For a checkpoint: what is not over."""
        return {
            "marked": {name: named.pack() for name, named in self.marked.items()},
            "condemned": {name: named.pack() for name, named in self.condemned.items()},
        }


def packs_of(named: Iterable[Named]) -> frozenset[bytes]:
    return frozenset(pack for one in named for pack in one.packs)


def marks_of(records: Iterable[Record]) -> Marks:
    """What records and checkpoints tell; in any order."""
    marks, settled = Marks(), set[str]()
    for record in records:
        if record.kind == "checkpoint":
            told = record.body.get("marks", {})
            marks.marked.update({name: Named.unpack(row) for name, row in told.get("marked", {}).items()})
            marks.sweeps.update({name: Named.unpack(row) for name, row in told.get("condemned", {}).items()})
        elif record.kind == MARK:
            marks.marked[record.name] = Named.of(record)
        elif record.kind == SWEEP:
            settled.update(record.body.get("marks", ()))
            marks.over.update(record.body.get("done", ()))
            if record.body.get("packs") or record.body.get("index"):
                marks.sweeps[record.name] = Named.of(record)
    marks.marked = {name: named for name, named in marks.marked.items() if name not in settled}
    return marks


def concurrent_sweeps(records: Mapping[str, Record], name: str, sweeps: Iterable[str]) -> list[str]:
    """Those sweeps that neither saw the record of this name nor were seen by its writer."""
    if name not in records:
        return []
    before = _ancestors(records, name)
    return [s for s in sweeps if s in records and s not in before and name not in _ancestors(records, s)]


def _ancestors(records: Mapping[str, Record], name: str) -> set[str]:
    """As far as they have been read."""
    found, waiting = set[str](), [name]
    while waiting:
        record = records.get(waiting.pop())
        new = set(record.parents) - found if record else ()
        found.update(new)
        waiting.extend(new)
    return found
