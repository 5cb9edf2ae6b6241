"""restore(): a snapshot, or parts of it, into an empty directory.

The tree is walked three times, so that memory does not grow with it: to validate everything before the first write;
to make directories and files; to make links and special files last. Small files are collected in windows and
written in the order of the packs they lie in; large ones are streamed. Workers fetch, open, prove and write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack

from backups.engine import tree
from backups.engine.content import WHOLE, units
from backups.engine.disk import printable
from backups.engine.entry import Entry, ItemError, Kind
from backups.engine.errors import TargetError
from backups.engine.extract import DirectoryWriter, probe_target
from backups.engine.fetch import RestoreWorker
from backups.engine.index import Location
from backups.engine.log import Snapshot
from backups.engine.manifest import ManifestGuard
from backups.engine.options import Report, default_workers, quiet
from backups.engine.patterns import PathFilter
from backups.engine.repository import Repository
from backups.engine.spool import Spool
from backups.engine.workers import Emit, ForkedPool, InlinePool

WINDOW = 50_000  # small files that are sorted by pack at once; bounds the memory
BATCH_FILES, BATCH_BYTES = 512, 8 << 20


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a restore works.

    workers         processes; 0 does everything in the caller's
    preserve_owner  give files back to their owners (None: when we are root)
    privileges      restore setuid and setgid bits, file capabilities, devices, trusted attributes
    """

    workers: int = field(default_factory=default_workers)
    preserve_owner: bool | None = None
    privileges: bool = False


@dataclass(slots=True)
class Restored:
    """Counts of a restore. Items are what they are in Stats; bytes are those that are written: of a hard-linked file
    once, of holes none."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    failed: int = 0  # items that could not be brought back whole; none of them stands under its name
    warnings: int = 0
    bytes_expected: int = 0
    items_expected: int = 0
    current: str = ""

    @property
    def items(self) -> int:
        return self.files + self.directories + self.others

    def pack(self) -> dict[str, Any]:
        return {**asdict(self), "items": self.items}


RestoreProgress = Callable[[Restored], None]  # at most once a second; may raise Cancelled


def restore(
    repository: Repository,
    snapshot: Snapshot,
    target: bytes,
    *,
    base: bytes = b"",
    select: PathFilter | None = None,
    options: RestoreOptions = RestoreOptions(),
    report: Report = quiet,
    progress: RestoreProgress = quiet,
) -> Restored:
    """Bring back what lies below base (b"": everything) and select chooses, into target.

    The target is empty or does not exist. A damaged file is reported and left out; the rest is restored.
    Raises TargetError (nothing written when the manifest is refused), and what the store raises.
    """
    run = _Restore(repository, snapshot, target, base, select, options, report, progress)
    try:
        run.validate()
        run.write()
    finally:
        run.close()
    return run.done


def subtree(repository: Repository, snapshot: Snapshot, base: bytes) -> bytes:
    """The directory that becomes the target's root: base itself, or its parent where base is a single file."""
    first = next(tree.entries(repository.load_blob, snapshot.root, base), None)
    if first is None or first.path != base:
        raise TargetError(f"/{printable(base)} is not in the snapshot; list it to see its paths.")
    return base if first.kind is Kind.DIRECTORY else base.rpartition(b"/")[0]


class _Restore:
    def __init__(
        self, repository: Repository, snapshot: Snapshot, target: bytes, base: bytes, select: PathFilter | None,
        options: RestoreOptions, report: Report, progress: RestoreProgress,
    ) -> None:  # fmt: skip
        self.done = Restored()
        repository.sync_index()
        self._repository, self._snapshot = repository, snapshot
        self._base = subtree(repository, snapshot, base)
        self._select, self._options = select, options
        self._report, self._progress, self._told = report, progress, time.monotonic()
        self._target = target
        self._writer: DirectoryWriter | None = None
        self._pool: ForkedPool | InlinePool | None = None
        self._window: list[tuple[Location, Entry]] = []
        self._links: dict[tuple[int, int], _Group] = {}
        self._further: Spool | None = None  # further names of files, made when all first names are there
        self._lost: set[bytes] = set()  # first names of hard links that could not be restored

    def validate(self) -> None:
        """The whole manifest, before the first write."""
        everything = not self._base and self._select is None
        declared = (self._snapshot.entries, self._snapshot.size) if everything else (None, None)
        facts = probe_target(self._target)
        guard = ManifestGuard(
            entries=declared[0], size=declared[1], folds_case=facts.folds_case, folds_unicode=facts.folds_unicode
        )
        data = 0
        for entry in self._entries():
            guard.check(entry)
            data += self._data_of(entry)
        guard.finish()
        self._links.clear()  # of names that were not chosen; the next walk begins anew
        facts.require(data, guard.entries)
        self.done.items_expected, self.done.bytes_expected = guard.entries, data

    def _data_of(self, entry: Entry) -> int:
        """The bytes that will be written for an entry: its size without the holes, and only under its first name."""
        if not entry.content or self._first_name(entry) is not None:
            return 0
        if isinstance(entry.content, bytes) and len(entry.content) == WHOLE:
            return entry.size
        return sum(unit.length for unit in units(entry.content, entry.size, self._repository.load_blob))

    def write(self) -> None:
        options = self._options
        self._writer = DirectoryWriter(
            self._target, preserve_owner=options.preserve_owner, privileges=options.privileges, report=self._item
        )
        self._further = Spool(self._writer.stage)
        self._pool = self._start(self._writer)
        for entry in self._entries():
            self._take(self._writer, entry)
        self._flush_window()
        self._pool.flush()
        self._link(self._writer)
        for entry in self._entries():
            self._last(self._writer, entry)
        self._writer.close()
        self._progress(self.done)

    def close(self) -> None:
        """End the workers; what a restore that failed has written goes with it."""
        if self._pool:
            self._pool.close()
        if self._further:
            self._further.close()
        if self._writer:
            self._writer.discard()

    def _start(self, writer: DirectoryWriter) -> ForkedPool | InlinePool:
        repository, count = self._repository, self._options.workers
        small = self.done.bytes_expected < 4 << 20 and self.done.items_expected < 200
        alone = small or not count or not repository.store.capabilities().across_processes

        def make(emit: Emit) -> RestoreWorker:
            return RestoreWorker(repository, writer, emit, forked=not alone)

        return InlinePool(make, self._emitted) if alone else ForkedPool(make, self._emitted, count)

    def _entries(self) -> Iterator[Entry]:
        found = tree.entries(self._repository.load_blob, self._snapshot.root, self._base)
        for entry in self._select.select(found) if self._select else found:
            entry.path = entry.path[len(self._base) + 1 if self._base else 0 :]
            yield entry

    # first the directories and files

    def _take(self, writer: DirectoryWriter, entry: Entry) -> None:
        if entry.kind is Kind.DIRECTORY:
            writer.make_directory(entry)
            self.done.directories += 1
        elif entry.kind is Kind.FILE and not self._is_further_link(entry):
            self._file(entry)
        self._tick(entry.path)

    def _is_further_link(self, entry: Entry) -> bool:
        first = self._first_name(entry)
        if first is None:
            return False
        assert self._further is not None
        self._further.append(msgpack.packb([first, tree.encode_entries([entry])]))
        return True

    def _first_name(self, entry: Entry) -> bytes | None:
        """The path under which this inode has come before; None: this is its first name."""
        if entry.nlink < 2:
            return None
        key = entry.device, entry.inode
        group = self._links.get(key)
        if group is None:
            self._links[key] = _Group(entry.path, entry.nlink - 1)
            return None
        group.left -= 1
        if not group.left:
            del self._links[key]
        return group.first

    def _file(self, entry: Entry) -> None:
        if isinstance(entry.content, bytes) and len(entry.content) == WHOLE:
            location = self._repository.index.find(entry.content[:32])
            if location is not None:
                self._window.append((location, entry))
                if len(self._window) >= WINDOW:
                    self._flush_window()
                return
        self._submit("large", [entry])

    def _flush_window(self) -> None:
        window, self._window = self._window, []
        window.sort(key=lambda item: (item[0].pack, item[0].section.offset, item[0].start))
        batch: list[Entry] = []
        size, frame = 0, None
        for location, entry in window:
            full = len(batch) >= BATCH_FILES or size >= BATCH_BYTES
            if full and (location.frame != frame or len(batch) >= 4 * BATCH_FILES):
                self._submit("small", batch)
                batch, size = [], 0
            batch.append(entry)
            size, frame = size + entry.size, location.frame
        if batch:
            self._submit("small", batch)

    def _submit(self, verb: str, entries: list[Entry]) -> None:
        assert self._pool is not None
        self._pool.submit([verb, tree.encode_entries(entries)], self._result)

    def _result(self, result: dict[str, Any]) -> None:
        self.done.files += result["files"]
        for path, message in result["failed"]:
            self._lost.add(path)  # only first names of several are ever looked up; damage is rare
            self._item(ItemError(path, "restore", message, "error"))
        self._tick(b"")

    def _emitted(self, topic: str, value: Any) -> None:
        if topic == "bytes":
            self.done.bytes += value
            self._tick(b"")
        else:
            self._item(ItemError(*value))

    # then what refers to them

    def _link(self, writer: DirectoryWriter) -> None:
        assert self._further is not None
        for record in self._further.backwards():
            first, page = msgpack.unpackb(record)
            entry = next(tree.decode_page(page))
            if first in self._lost:
                sentence = "Its content could not be restored under its first name."
                self._item(ItemError(entry.path, "restore", sentence, "error"))
            else:
                self.done.files += writer.link(entry, first)

    def _last(self, writer: DirectoryWriter, entry: Entry) -> None:
        if entry.kind in (Kind.FILE, Kind.DIRECTORY):
            return
        first = self._first_name(entry)
        if first is not None:
            made = writer.link(entry, first)
        else:
            made = writer.symlink(entry) if entry.kind is Kind.SYMLINK else writer.special(entry)
        self.done.others += made
        self._tick(entry.path)

    # telling

    def _item(self, item: ItemError) -> None:
        if item.severity == "error":
            self.done.failed += 1
        else:
            self.done.warnings += 1
        self._report(item)

    def _tick(self, path: bytes) -> None:
        now = time.monotonic()
        if now - self._told >= 1:
            self._told = now
            self.done.current = printable(path) or self.done.current
            self._progress(self.done)


class _Group:
    """The names of one inode: the first one restored, and how many may still come."""

    __slots__ = ("first", "left")

    def __init__(self, first: bytes, left: int) -> None:
        self.first, self.left = first, left
