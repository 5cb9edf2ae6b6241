"""The log: the only truth about what the repository holds, and the only commit.

Records are objects named by sequence number and hash; each names as parents all leaves its writer saw. Two writers
at once make two leaves, and the next record joins them. A checkpoint repeats the whole live set, so opening reads
one checkpoint and what came after, never the history.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgpack

from backups.engine import format as fmt
from backups.engine.envelope import METADATA, Opened, Sealer
from backups.engine.errors import EngineError, ObjectDamaged, ObjectMissing, SnapshotMissing, TakenOver, Tampered
from backups.engine.format import ObjectType, SectionKind
from backups.engine.marks import Marks, concurrent_sweeps, marks_of
from backups.engine.snapshot import Live, Row, Snapshot, rows_told, unpack_record
from backups.engine.store import ObjectStore

__all__ = ["ADOPT", "KEYS", "Log", "Read", "Record", "Snapshot", "covers"]

ADOPT = "adopt"  # the kind of the record by which a console makes a repository its own
KEYS = "keys"  # the kind of the record by which key objects come and go
HARMLESS = frozenset({"snapshot", "forget", "hold", "console", "checkpoint", ADOPT, KEYS})  # take no index object away


@dataclass(frozen=True, slots=True)
class Record:
    """One log record: its name, its kind (snapshot, forget, hold, adopt, console, keys, mark, sweep, checkpoint),
    parents, body, when (Unix seconds) and by whom it was written; told: the snapshots it brings."""

    name: str
    kind: str
    parents: tuple[str, ...]
    body: Mapping[str, Any]
    time: float = 0.0
    writer: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[Row, ...] = ()

    @classmethod
    def unpack(cls, name: str, packed: bytes) -> Record:
        """From the raw bytes of its section. Raises ObjectDamaged."""
        row = unpack_record(packed)
        if row["seq"] != fmt.record_seq(name):
            raise ObjectDamaged(name, "it was written under another sequence number")
        kind, body, writer = row["kind"], row["body"], row.get("writer") or {}
        told = tuple(rows_told(kind, body, name))
        return cls(name, kind, tuple(row["parents"]), body, float(row.get("time", 0)), writer, told)

    @property
    def seq(self) -> int:
        return fmt.record_seq(self.name)


@dataclass(frozen=True, slots=True)
class Read:
    """How far a log is read. Bytes expected are those of all records, until a checkpoint says that fewer are enough."""

    records: int
    bytes: int
    bytes_expected: int


def _silent(_read: Read) -> None:
    """Nobody wants to know."""


class Log:
    """The log as far as it has been read. refresh() reads on; append() is the commit.

    writer stands in every record; `slot` in it names the key slot a console opens the repository with, which is what
    tells consoles apart: where another console has adopted the repository, one with a slot writes no more.
    """

    def __init__(
        self,
        store: ObjectStore,
        sealer: Sealer,
        writer: Mapping[str, Any],
        reading: Callable[[Read], None] = _silent,
    ) -> None:
        self._store, self._sealer, self._writer, self._reading = store, sealer, dict(writer), reading
        self._sizes: dict[str, int] = {}
        self._names: set[str] = set()
        self._read: dict[str, Record] = {}
        self.remembered: Mapping[str, bytes] = {}  # records by name that need not be fetched: their raw bytes
        self.raw: dict[str, bytes] = {}  # the same of those that were read and are no checkpoints
        self._covered: set[str] = set()  # not read, because a checkpoint repeats what they said
        self.live = Live({})
        self.keys: tuple[str, ...] = ()  # key objects that must exist
        self.removed: dict[str, float] = {}  # key objects that were taken away; when (Unix seconds)
        self.reserved = 0  # the greatest key epoch that somebody set about to make
        self.config: bytes = b""  # copy of the config object
        self._gone_live, self._gone_when = Live({}), dict[str, float]()
        self.holds: dict[str, Mapping[str, Any]] = {}  # id of a backup → the last word about its hold
        self.owner: Mapping[str, Any] = {}  # the console that adopted it last: {"slot", "console", "time"}
        self.console = ""  # name of the newest record of that kind that records or checkpoints tell of
        self.marks = Marks()  # packs on their way out
        self.blocked = ""  # why nothing may be written
        self.damaged: list[ObjectDamaged] = []
        self.missing: set[str] = set()  # parents that no object bears the name of

    @property
    def leaves(self) -> list[str]:
        """Names of the records that no other record names as a parent, oldest first."""
        named = {parent for record in self._read.values() for parent in record.parents}
        return sorted(name for name in self._read if name not in named)

    @property
    def names(self) -> Collection[str]:
        return self._names

    @property
    def unread(self) -> Collection[str]:
        """Names of the records that a checkpoint covers."""
        return self._covered

    @property
    def newest(self) -> Record | None:
        """The last record that was read."""
        return self._read[max(self._read)] if self._read else None

    @property
    def forgotten(self) -> dict[str, tuple[Snapshot, float]]:
        """Those whose records were read; when (Unix seconds)."""
        return {key: (s, self._gone_when.get(key, s.time)) for key, s in self._gone_live.items()}

    @property
    def gone(self) -> Collection[str]:
        """Ids of everything that was ever forgotten."""
        return self._forgotten()

    def reserving(self, epoch: int) -> list[str]:
        """Names of the records by which somebody set about to make this key epoch."""
        read = self._read.values()
        return sorted(record.name for record in read if record.kind == KEYS and record.body.get("epoch") == epoch)

    def refresh(self, anchors: Iterable[str] = ()) -> None:
        """Read what is new. Raises Tampered when an anchor, a name seen earlier, is gone."""
        self._sizes = dict(self._store.list("log/"))
        self._take_in(anchors)

    def refresh_end(self) -> None:
        """Read what is new beside and behind the newest record: enough for who is about to put the next one. What
        came or went further down shows when all is read."""
        at = max(self.next_seq - 1, 0) // 1000  # there are a thousand in a directory
        while self._list_directory(f"log/{at:09d}/"):
            at += 1
        self._take_in(())

    def _list_directory(self, prefix: str) -> bool:
        """Whether there is anything in it."""
        found = dict(self._store.list(prefix))
        self._sizes = {name: size for name, size in self._sizes.items() if not name.startswith(prefix)} | found
        return bool(found)

    def _take_in(self, anchors: Iterable[str]) -> None:
        """What was listed."""
        listed = self._sizes.keys()
        self._names = (self._names & listed) | set(filter(fmt.is_record_name, listed - self._names))
        self._must_all_be_there(anchors)
        self.damaged = [ObjectDamaged(n, "no log record bears such a name") for n in sorted(listed - self._names)]
        self._read_tail()
        self.missing = {p for record in self._read.values() for p in record.parents if p not in self._names}
        self._apply()

    def _must_all_be_there(self, anchors: Iterable[str]) -> None:
        known = (set(anchors), self._read.keys(), self._covered)
        for anchor in sorted(gone for names in known for gone in names - self._names):
            raise Tampered(
                f"Log record {anchor} was here before and is gone: records were deleted, or the storage was "
                "rolled back to an older state. Nothing is written until an operator has looked at it.",
                anchor,
            )

    def snapshot(self, prefix: str) -> Snapshot:
        """The live snapshot with this id or unique beginning of an id; 'latest' is the newest."""
        if prefix in self.live:
            return self.live[prefix]
        if prefix == "latest" and self.live:
            return max(self.live.values(), key=lambda s: (s.time, s.id))
        found = [s for s in self.live.values() if s.id.startswith(prefix)]
        if len(found) != 1 or not prefix:
            what = "Several snapshots begin" if len(found) > 1 else "No snapshot begins"
            raise SnapshotMissing(f"{what} with {prefix!r}. List them to see the ids.")
        return found[0]

    def must_be_ours(self) -> None:
        """Raise TakenOver when another console has adopted the repository. People's own secrets are never shut out."""
        own, owner = self._writer.get("slot"), self.owner.get("slot")
        if own and owner and own != owner:
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(float(self.owner.get("time", 0))))
            raise TakenOver(
                f"The console {self.owner.get('console', '')} took this repository over on {when}; this one may only"
                " read it. To write here again, adopt it once more and take it over."
            )

    def must_take(self) -> None:
        """Raise Tampered or TakenOver unless a record may be appended."""
        if self.blocked:
            raise Tampered(self.blocked)
        self.must_be_ours()

    def append(self, kind: str, body: Mapping[str, Any]) -> Record:
        """Put one record behind all leaves there are now; returns once it is durable."""
        self.refresh()
        return self._put(kind, body)

    def _put(self, kind: str, body: Mapping[str, Any]) -> Record:
        if self.blocked:
            raise Tampered(self.blocked)
        if kind != ADOPT:
            self.must_be_ours()
        record, data = self._sealed(kind, body, self.next_seq, self.leaves)
        self._store.put(record.name, data)
        self._names.add(record.name)
        self._sizes[record.name] = len(data)
        self._read[record.name] = record
        self._apply()
        return record

    def _sealed(self, kind: str, body: Mapping[str, Any], seq: int, parents: list[str]) -> tuple[Record, bytes]:
        """The record, and the bytes of its object."""
        now = time.time()
        row = {"kind": kind, "seq": seq, "parents": parents, "time": now, "writer": self._writer, "body": dict(body)}
        envelope = self._sealer.new(ObjectType.RECORD)
        packed = msgpack.packb(row)
        envelope.add(SectionKind.RECORD, packed, METADATA)
        data = envelope.finish({}, METADATA)
        return self._unpacked(fmt.record_name(seq, fmt.sha256(data)), packed), data

    def _unpacked(self, name: str, packed: bytes) -> Record:
        record = Record.unpack(name, packed)
        if record.kind != "checkpoint":
            self.raw[name] = packed
        return record

    @property
    def next_seq(self) -> int:
        """Of the record to come: behind every record that proved to be one. A name alone, which anybody may have put,
        counts for nothing."""
        return fmt.record_seq(max(self._read)) + 1 if self._read else 0  # what is covered stands before a checkpoint

    def append_snapshot(self, snapshot: Snapshot, judge: Callable[[], None] = lambda: None) -> Snapshot:
        """Commit a snapshot, unless a record of the same id is there already (an earlier attempt got through).

        judge is called when the log has just been read, and raises to keep the record from being put.
        """
        self.refresh_end()
        if snapshot.id in self._forgotten():
            raise EngineError(f"Snapshot {snapshot.id} was forgotten; what is forgotten never comes back.")
        if snapshot.id not in self.live:
            judge()
            self._put("snapshot", snapshot.pack())
        return self.live[snapshot.id]

    def index_told_since(self, seq: int, covered: Mapping[str, list[Any]]) -> list[str] | None:
        """Names of the index objects that the snapshots from this number on wrote. None when the log does not tell all:
        what stands below it is not what covers() told then, a checkpoint took the place of records, or space was
        given back."""
        begin = _first(seq)
        new = [record for name, record in self._read.items() if name > begin]
        if len(new) != sum(name > begin for name in self._names) or covers(self._names, seq) != covered:
            return None
        if any(record.kind not in HARMLESS for record in new):
            return None
        return [name for record in new if record.kind == "snapshot" for name in record.body["index"]]

    def checkpoint_due(self) -> bool:
        """Whether opening has to read more records behind the newest checkpoint than it should."""
        newest = max((r.seq for r in self._read.values() if r.kind == "checkpoint"), default=-1)
        behind = sum(r.seq > newest for r in self._read.values())
        # Not while a record is damaged or gone: it would be covered, so that nobody would read it again when it is
        # healed from a copy, and nobody would tell that it is missing.
        return behind >= fmt.RECORDS_PER_CHECKPOINT and not self.damaged and not self.missing

    def append_checkpoint(self, *, config: bytes = b"", keys: Iterable[str] = ()) -> Record:
        """Write the whole live set. config and keys are given once, with the repository's first record."""
        self.refresh()
        body = {
            "config": config or self.config,
            "keys": list(keys) or list(self.keys),
            "removed": dict(self.removed),
            "epoch": self.reserved,
            "live": [{**s.pack(), "record": s.record} for s in self.live.values()],
            "forgotten": sorted(self._forgotten()),
            "holds": self.holds,
            "owner": dict(self.owner),
            "console": self.console,
            "marks": self.marks.pack(),
            "covers": covers(self._names, self.next_seq),
        }
        return self._put("checkpoint", body)

    def read(self, name: str) -> Record:
        """One record, proved. Raises ObjectMissing, ObjectDamaged."""
        data = self._store.get(name)
        if not fmt.name_matches(name, data):
            raise ObjectDamaged(name, "its SHA-256 is not its name")
        opened = Opened(self._sealer, name, data, (ObjectType.RECORD,))
        return self._unpacked(name, opened.section(opened.sections[0]))

    def _read_tail(self) -> None:
        """Read new records from the newest down to a checkpoint that covers the rest; all when there is none."""
        new = sorted(self._names - self._read.keys() - self._covered, reverse=True)
        covered_below, done, expected = -1, 0, sum(self._sizes[name] for name in new)
        for count, name in enumerate(new, 1):
            if fmt.record_seq(name) < covered_below:
                self._reading(Read(count - 1, done, done))
                break
            record = self._try_read(name)
            done += self._sizes[name]
            self._reading(Read(count, done, expected))
            if record and record.kind == "checkpoint" and covers(self._names, record.seq) == record.body["covers"]:
                covered_below = record.seq  # another writer's record of the same number is not covered
        end = _first(covered_below)
        self._covered.update(name for name in new if name < end)

    def _try_read(self, name: str) -> Record | None:
        try:
            known = self.remembered.get(name)
            self._read[name] = record = self._unpacked(name, known) if known else self.read(name)
            return record
        except ObjectDamaged as error:
            self.damaged.append(error)
        except ObjectMissing:
            self._names.discard(name)  # it went between being listed and being read
        return None

    def _apply(self) -> None:
        """The live set: what checkpoints and snapshot records bring, less everything that was ever forgotten."""
        rows: dict[str, Row] = {}
        consoles, when = {""}, dict[str, float]()
        for record in sorted(self._read.values(), key=lambda r: r.name):
            rows.update((row.id, row) for row in record.told)
            if record.kind == "checkpoint":
                self.config = record.body["config"]
                consoles.add(record.body.get("console", ""))
                self.owner = record.body.get("owner") or self.owner
            elif record.kind == "console":
                consoles.add(record.name)
            elif record.kind == ADOPT:
                self.owner = {name: record.body[name] for name in ("slot", "console", "time")}
            elif record.kind == "forget":
                when.update(dict.fromkeys(record.body.get("forget", ()), record.time))
            self.holds.update(record.body.get("holds", {}))
            self._apply_keys(record)
        self.keys = tuple(name for name in self.keys if name not in self.removed)
        self.console = max(consoles)
        self.marks = marks_of(self._read.values())
        every, gone = Live(rows, self.marks.index_gone), self._forgotten()
        self.live = every.without(gone)
        self._gone_live, self._gone_when = every.only(gone), when

    def _apply_keys(self, record: Record) -> None:
        """What was ever listed must exist until it was taken away, and then never comes back: so that of two writers
        at once neither undoes what the other did."""
        removed = record.body.get("removed", {})
        when = removed if isinstance(removed, Mapping) else dict.fromkeys(removed, record.time)
        self.removed.update(when)
        self.keys = tuple(dict.fromkeys((*self.keys, *record.body.get("keys", ()))))
        self.reserved = max(self.reserved, int(record.body.get("epoch", 0)))

    def concurrent_sweeps(self, record: str) -> list[str]:
        """Sweeps and this record that did not know of each other, as far as records have been read."""
        return concurrent_sweeps(self._read, record, self.marks.sweeps)

    def _forgotten(self) -> set[str]:
        bodies = [r.body for r in self._read.values()]
        return {gone for body in bodies for gone in (*body.get("forget", ()), *body.get("forgotten", ()))}


def covers(names: Iterable[str], before: int) -> dict[str, list[Any]]:
    """Count and SHA-256 of the record names below a sequence number, per directory of the log.

    A checkpoint carries it: a reader that sees the same knows without reading them that no older record was
    added late, or taken away.
    """
    end = _first(before)
    below = sorted(name for name in names if name < end)
    groups = {directory: list(group) for directory, group in groupby(below, lambda name: name[: name.rindex("/")])}
    return {
        directory: [len(group), hashlib.sha256("\n".join(group).encode()).digest()]
        for directory, group in groups.items()
    }


def _first(seq: int) -> str:
    """What names of records with this number begin with; those of lesser numbers stand before it in order."""
    return f"log/{seq // 1000:09d}/{seq:012d}"
