"""Snapshots as the log tells them: thousands may be live, and who opens a repository looks at few of them.

A checkpoint repeats them all. Its rows stay packed, which takes a tenth of the time and memory, until one is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack


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


class Row:
    """One snapshot in the body of a record (record: its name) or, packed, in a checkpoint, which names the record."""

    __slots__ = ("_record", "_snapshot", "_told", "id")

    def __init__(self, told: bytes | Mapping[str, Any], record: str = "") -> None:
        self._told, self._record = told, record
        self.id = _id_of(told) if isinstance(told, bytes) else str(told["id"])
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            body = _unpacked(self._told) if isinstance(self._told, bytes) else self._told
            self._snapshot = Snapshot.unpack(body, self._record or body["record"])
        return self._snapshot


def _unpacked(packed: bytes) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(packed, strict_map_key=False)
    return body


def _id_of(packed: bytes) -> str:
    """Of a packed row. Ours begin with a UUID: a map of up to 15 entries, `id`, and a text of less than 256 bytes."""
    if packed[1:5] == b"\xa2id\xd9":
        return packed[6 : 6 + packed[5]].decode()
    return str(_unpacked(packed)["id"])


class Live(Mapping[str, Snapshot]):
    """Snapshots by id, in the order in which they were committed. Each is unpacked when it is asked for.

    gone: index objects whose place others have taken; no snapshot names them any more
    """

    def __init__(self, rows: dict[str, Row], gone: frozenset[str] = frozenset()) -> None:
        self._rows, self._gone = rows, gone

    def __getitem__(self, key: str) -> Snapshot:
        snapshot = self._rows[key].snapshot()
        if self._gone.isdisjoint(snapshot.index):
            return snapshot
        return replace(snapshot, index=tuple(name for name in snapshot.index if name not in self._gone))

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def latest_first(self) -> Iterator[Snapshot]:
        """The last one committed first."""
        return (self[key] for key in reversed(self._rows))

    def without(self, ids: Collection[str]) -> Live:
        return Live({key: row for key, row in self._rows.items() if key not in ids}, self._gone)

    def only(self, ids: Collection[str]) -> Live:
        return Live({key: row for key, row in self._rows.items() if key in ids}, self._gone)


def unpack_record(packed: bytes) -> dict[str, Any]:
    """The row of a record; the list `live` in the body of a checkpoint becomes Rows."""
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=len(packed))
    unpacker.feed(packed)
    row: dict[str, Any] = {}
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        checkpoint = key == "body" and row.get("kind") == "checkpoint"
        row[key] = _checkpoint(unpacker, packed) if checkpoint else unpacker.unpack()
    return row


def _checkpoint(unpacker: msgpack.Unpacker, packed: bytes) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        body[key] = list(_rows(unpacker, packed)) if key == "live" else unpacker.unpack()
    return body


def _rows(unpacker: msgpack.Unpacker, packed: bytes) -> Iterator[Row]:
    count = unpacker.read_array_header()
    start = unpacker.tell()
    for _ in range(count):
        unpacker.skip()
        end = unpacker.tell()
        yield Row(packed[start:end])
        start = end


def rows_told(kind: str, body: Mapping[str, Any], record: str) -> list[Row]:
    """The snapshots that a record brings."""
    if kind == "snapshot":
        return [Row(body, record)]
    told = body["live"] if kind == "checkpoint" else ()
    return [row if isinstance(row, Row) else Row(row, row["record"]) for row in told]
