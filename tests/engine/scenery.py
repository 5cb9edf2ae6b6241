"""What the engine's stories play with: keys that cost no time, a repository, real trees on a real disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backups.engine import Archived, Entry, ItemError, Kind, Options, Repository, Secret, Snapshot, archive, entries
from backups.engine.content import units
from backups.engine.format import sha256
from backups.engine.keys import KeyRing
from backups.engine.scan import scan
from backups.engine.store import ObjectStore, Place
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore

KEY = Secret.keyfile(bytes(range(32)))
RING = KeyRing(1, {1: bytes(range(32, 64))}, bytes(range(64, 96)), 4711)
ID = bytes(range(16))
INLINE, FORKED = Options(workers=0), Options(workers=2)


def new_repository(store: Place | None = None, cache: Path | None = None) -> Repository:
    """A fresh repository that KEY opens; in memory unless a place is given."""
    return Repository.create(store or MemoryStore(), [(KEY, "test key")], cache=cache, console="test")


def local_repository(folder: Path) -> Repository:
    return new_repository(LocalStore(str(folder)))


def opened(store: ObjectStore, **more: Any) -> Repository:
    return Repository.open(store, KEY, **more)


def plant(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a directory, with the directories they need; the directory."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


class Reports(list[ItemError]):
    """Collects what a run reports."""

    def about(self, path: bytes) -> list[str]:
        return [item.message for item in self if item.path == path]

    @property
    def messages(self) -> list[str]:
        return [item.message for item in self]


def scanned(root: Path, reports: Reports | None = None) -> Iterator[Entry]:
    """The entries of a real directory, as if its files had long been at rest, and its parents for ever: others write
    to those while a story is told."""
    found = Reports() if reports is None else reports
    for entry in scan([bytes(root)], report=found.append):
        entry.notes &= ~1  # nothing here was changed within the clock's tick: stories need no two seconds of sleep
        if bytes(root)[1:].startswith(entry.path + b"/") or not entry.path:
            entry.mtime_ns = entry.ctime_ns = 0
        yield entry


def archived(
    repository: Repository,
    entries: Iterable[Entry],
    snapshot_id: str = "first",
    *,
    parent: Snapshot | None = None,
    options: Options = INLINE,
    **more: Any,
) -> Archived:
    return archive(
        repository, entries, snapshot_id=snapshot_id, facts=lambda: {"source": "story"}, parent=parent,
        options=options, **more,
    )  # fmt: skip


def content_of(repository: Repository, entry: Entry) -> bytes:
    """A file's bytes, put together from its blobs by hand, holes filled with zeros."""
    data = bytearray(entry.size)
    for unit in units(entry.content or b"", entry.size, repository.load_blob):
        piece = b"".join(repository.load_blob(blob.id) for blob in unit.blobs)
        assert (len(piece), sha256(piece)) == (unit.length, unit.sha256)
        data[unit.offset : unit.offset + unit.length] = piece
    assert len(data) == entry.size
    return bytes(data)


def files_of(repository: Repository, snapshot: Snapshot, below: Path | str = "/") -> dict[str, bytes]:
    """Name below a directory → content of every file in a snapshot."""
    base = os.fsencode(below).strip(b"/")
    start = len(base) + 1 if base else 0
    return {
        os.fsdecode(entry.path[start:]): content_of(repository, entry)
        for entry in entries(repository, snapshot, base)
        if entry.kind is Kind.FILE
    }
