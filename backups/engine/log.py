"""The log: the only truth about what the repository holds, and the only commit.

Records are objects named by sequence number and hash; each names as parents all leaves its writer saw. Two writers
at once make two leaves, and the next record joins them. A checkpoint repeats the whole live set, so opening reads
one checkpoint and what came after, never the history.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from backups.engine import format as fmt
from backups.engine.envelope import METADATA, Opened, Sealer
from backups.engine.errors import EngineError, ObjectDamaged, ObjectMissing, SnapshotMissing, TakenOver, Tampered
from backups.engine.format import ObjectType, SectionKind
from backups.engine.store import ObjectStore

ADOPT = "adopt"  # the kind of the record by which a console makes a repository its own


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A recovery point as its log record tells it. Digests are raw 32-byte SHA-256 values, times Unix seconds.

    facts holds everything a new console needs to know about it: source, policy, labels; never a secret.
    """

    id: str
    time: float
    root: bytes
    root_sha256: bytes
    manifest_sha256: bytes
    entries: int
    size: int  # sum of file sizes, bytes
    tree_packs: tuple[bytes, ...]  # packs that hold this snapshot's own new pages
    index: tuple[str, ...]  # index objects this snapshot wrote
    facts: Mapping[str, Any]
    parent: str = ""  # id of the snapshot this one was compared with
    lease_epoch: int = 0
    writer: Mapping[str, Any] = field(default_factory=dict)
    record: str = ""  # name of its log record; known once it is written

    def pack(self) -> dict[str, Any]:
        names = (name for name in self.__dataclass_fields__ if name != "record")
        return {name: _plain(getattr(self, name)) for name in names}

    @classmethod
    def unpack(cls, body: Mapping[str, Any], record: str) -> Snapshot:
        values = {name: body[name] for name in cls.__dataclass_fields__ if name in body}
        values["tree_packs"], values["index"] = tuple(body["tree_packs"]), tuple(body["index"])
        return cls(**{**values, "record": record})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class Record:
    """One log record: its name, its kind (snapshot, forget, hold, adopt, console, mark, sweep, checkpoint), parents,
    body, when (Unix seconds) and by whom it was written."""

    name: str
    kind: str
    parents: tuple[str, ...]
    body: Mapping[str, Any]
    time: float = 0.0
    writer: Mapping[str, Any] = field(default_factory=dict)

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
        self._covered: set[str] = set()  # not read, because a checkpoint repeats what they said
        self.live: dict[str, Snapshot] = {}
        self.keys: tuple[str, ...] = ()  # key objects that must exist
        self.config: bytes = b""  # copy of the config object
        self.forgotten: dict[str, tuple[Snapshot, float]] = {}  # those whose records were read; when (Unix seconds)
        self.holds: dict[str, Mapping[str, Any]] = {}  # id of a backup → the last word about its hold
        self.owner: Mapping[str, Any] = {}  # the console that adopted it last: {"slot", "console", "time"}
        self.console = ""  # name of the newest record of that kind that records or checkpoints tell of
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
    def gone(self) -> Collection[str]:
        """Ids of everything that was ever forgotten."""
        return self._forgotten()

    def refresh(self, anchors: Iterable[str] = ()) -> None:
        """Read what is new. Raises Tampered when an anchor, a name seen earlier, is gone."""
        self._sizes = {info.name: info.size for info in self._store.list("log/")}
        listed = self._sizes.keys()
        self._names = set(filter(fmt.is_record_name, listed))
        for anchor in (*anchors, *self._read, *self._covered):
            if anchor not in self._names:
                raise Tampered(
                    f"Log record {anchor} was here before and is gone: records were deleted, or the storage was "
                    "rolled back to an older state. Nothing is written until an operator has looked at it.",
                    anchor,
                )
        self.damaged = [ObjectDamaged(n, "no log record bears such a name") for n in sorted(listed - self._names)]
        self._read_tail()
        self.missing = {p for record in self._read.values() for p in record.parents if p not in self._names}
        self._apply()

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

    def append(self, kind: str, body: Mapping[str, Any]) -> Record:
        """Put one record behind all leaves there are now; returns once it is durable."""
        self.refresh()
        return self._put(kind, body)

    def _put(self, kind: str, body: Mapping[str, Any]) -> Record:
        if self.blocked:
            raise Tampered(self.blocked)
        if kind != ADOPT:
            self.must_be_ours()
        record, data = self._sealed(kind, body, self._next_seq(), self.leaves)
        self._store.put(record.name, data)
        self._names.add(record.name)
        self._read[record.name] = record
        self._apply()
        return record

    def _sealed(self, kind: str, body: Mapping[str, Any], seq: int, parents: list[str]) -> tuple[Record, bytes]:
        """The record, and the bytes of its object."""
        now = time.time()
        row = {"kind": kind, "seq": seq, "parents": parents, "time": now, "writer": self._writer, "body": dict(body)}
        envelope = self._sealer.new(ObjectType.RECORD)
        envelope.add(SectionKind.RECORD, msgpack.packb(row), METADATA)
        data = envelope.finish({}, METADATA)
        name = fmt.record_name(seq, fmt.sha256(data))
        return Record(name, kind, tuple(parents), dict(body), now, self._writer), data

    def _next_seq(self) -> int:
        """Behind every record that proved to be one: a name alone, which anybody may have put, counts for nothing."""
        return max(map(fmt.record_seq, self._read.keys() | self._covered), default=-1) + 1

    def append_snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Commit a snapshot, unless a record of the same id is there already (an earlier attempt got through)."""
        self.refresh()
        if snapshot.id in self._forgotten():
            raise EngineError(f"Snapshot {snapshot.id} was forgotten; what is forgotten never comes back.")
        if snapshot.id not in self.live:
            self._put("snapshot", snapshot.pack())
        return self.live[snapshot.id]

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
            "live": [{**s.pack(), "record": s.record} for s in self.live.values()],
            "forgotten": sorted(self._forgotten()),
            "holds": self.holds,
            "owner": dict(self.owner),
            "console": self.console,
            "covers": covers(self._names, self._next_seq()),
        }
        return self._put("checkpoint", body)

    def read(self, name: str) -> Record:
        """One record, proved. Raises ObjectMissing, ObjectDamaged."""
        data = self._store.get(name)
        if not fmt.name_matches(name, data):
            raise ObjectDamaged(name, "its SHA-256 is not its name")
        opened = Opened(self._sealer, name, data, (ObjectType.RECORD,))
        row = msgpack.unpackb(opened.section(opened.sections[0]), strict_map_key=False)
        if row["seq"] != fmt.record_seq(name):
            raise ObjectDamaged(name, "it was written under another sequence number")
        writer = row.get("writer") or {}
        return Record(name, row["kind"], tuple(row["parents"]), row["body"], float(row.get("time", 0)), writer)

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
        self._covered.update(name for name in new if fmt.record_seq(name) < covered_below)

    def _try_read(self, name: str) -> Record | None:
        try:
            self._read[name] = record = self.read(name)
            return record
        except ObjectDamaged as error:
            self.damaged.append(error)
        except ObjectMissing:
            self._names.discard(name)  # it went between being listed and being read
        return None

    def _apply(self) -> None:
        """The live set: what checkpoints and snapshot records bring, less everything that was ever forgotten."""
        live: dict[str, Snapshot] = {}
        consoles, when = {""}, dict[str, float]()
        for record in sorted(self._read.values(), key=lambda r: r.name):
            if record.kind == "snapshot":
                live[record.body["id"]] = Snapshot.unpack(record.body, record.name)
            elif record.kind == "checkpoint":
                live.update({row["id"]: Snapshot.unpack(row, row["record"]) for row in record.body["live"]})
                self.config, self.keys = record.body["config"], tuple(record.body["keys"])
                consoles.add(record.body.get("console", ""))
                self.owner = record.body.get("owner") or self.owner
            elif record.kind == "console":
                consoles.add(record.name)
            elif record.kind == ADOPT:
                self.owner = {name: record.body[name] for name in ("slot", "console", "time")}
            elif record.kind == "forget":
                when.update(dict.fromkeys(record.body.get("forget", ()), record.time))
            self.holds.update(record.body.get("holds", {}))
            if "keys" in record.body:
                self.keys = tuple(record.body["keys"])
        self.console = max(consoles)
        gone = self._forgotten()
        self.live = {key: s for key, s in live.items() if key not in gone}
        self.forgotten = {key: (s, when.get(key, s.time)) for key, s in live.items() if key in gone}

    def _forgotten(self) -> set[str]:
        bodies = [r.body for r in self._read.values()]
        return {gone for body in bodies for gone in (*body.get("forget", ()), *body.get("forgotten", ()))}


def covers(names: Iterable[str], before: int) -> dict[str, list[Any]]:
    """Count and SHA-256 of the record names below a sequence number, per directory of the log.

    A checkpoint carries it: a reader that sees the same knows without reading them that no older record was
    added late, or taken away.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if fmt.record_seq(name) < before:
            groups[name.rsplit("/", 1)[0]].append(name)
    return {
        directory: [len(group), hashlib.sha256("\n".join(sorted(group)).encode()).digest()]
        for directory, group in sorted(groups.items())
    }
