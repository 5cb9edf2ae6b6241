"""restore(): a snapshot, or parts of it, into an empty directory.

The tree is walked twice, so that memory does not grow with it: to validate everything before the first write, and to
make it. A small tree is decoded once: what was judged is what is made. What files are made of is collected in windows
and fetched in the order of the packs it lies in, each frame once; workers fetch, open, prove and write. Links and
special files come last.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
from blake3 import blake3

from backups.engine import tree
from backups.engine.content import WHOLE, units
from backups.engine.continuing import Partial, prove_all
from backups.engine.disk import printable
from backups.engine.entry import Entry, ItemError, Kind
from backups.engine.errors import BlobMissing, ObjectDamaged, ObjectMissing, TargetError
from backups.engine.extract import DirectoryWriter, probe_target
from backups.engine.fetch import RestoreWorker
from backups.engine.linking import FirstNames, Late
from backups.engine.log import Snapshot
from backups.engine.manifest import ManifestGuard
from backups.engine.options import Report, Restored, RestoreOptions, RestoreProgress, quiet
from backups.engine.parts import LargeFiles
from backups.engine.patterns import PathFilter
from backups.engine.plan import Part, Window, pack_file
from backups.engine.remembered import Remembered
from backups.engine.repository import Repository
from backups.engine.workers import Emit, ForkedPool, InlinePool, Task

WINDOW_FIRST, WINDOW = 2_000, 50_000  # pieces that are sorted by pack at once: few at first, so that work begins soon
WHOLE_FILES = 512  # empty files of one task
COLLECT = 50_000  # objects made between two looks for garbage
STRIDE = 64  # entries that are looked at before idle workers are given more


def restore(
    repository: Repository,
    snapshot: Snapshot,
    target: bytes,
    *,
    base: bytes = b"",
    select: PathFilter | None = None,
    options: RestoreOptions = RestoreOptions(),  # noqa: B008  it is frozen
    report: Report = quiet,
    progress: RestoreProgress = quiet,
) -> Restored:
    """Bring back what lies below base (b"": everything) and select chooses, into target.

    The target is empty or does not exist. A damaged file is reported and left out; the rest is restored. A restore that
    was killed is continued by the same one: the files that it had made whole are proved and kept.
    Raises TargetError (nothing written when the manifest is refused), and what the store raises.
    """
    run = _Restore(repository, snapshot, target, base, select, options, report, progress)
    try:
        with _few_collections():
            run.validate()
            run.write()
    finally:
        run.close()
    return run.done


@contextmanager
def _few_collections() -> Iterator[None]:
    """Entries come in tens of thousands and make no cycles: a look for some after every 700 frees nothing."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


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
        # Names the restore, for nobody who lacks the key. Paths follow: they say what was chosen.
        self._what = blake3(msgpack.packb([snapshot.id, snapshot.root, self._base, options.preserve_owner,
                                           options.privileges]), key=repository.ring.id_key)  # fmt: skip
        self._writer: DirectoryWriter | None = None
        self._pool: ForkedPool | InlinePool | None = None
        self._window, self._room = Window(), WINDOW_FIRST
        self._partial: dict[bytes, Partial] = {}  # large files of a killed restore of which a part is right
        self._parts: deque[Part] = deque()  # planned and not handed out yet
        self._plain: list[Entry] = []  # files of no data
        self._large: LargeFiles | None = None
        self._names = FirstNames()
        self._judged = Remembered()
        self._late: Late | None = None
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
        for entry in self._decoded():
            guard.check(entry)
            self._judged.add(entry)
            data += self._data_of(entry)
            self._what.update(entry.path + b"\0")
        guard.finish()
        self._names = FirstNames()  # some may not have been chosen; the next walk begins anew
        facts.require(data, guard.entries)
        self.done.items_expected, self.done.bytes_expected = guard.entries, data

    def _data_of(self, entry: Entry) -> int:
        """The bytes that will be written for an entry: its size without the holes, and only under its first name."""
        if not entry.content or self._names.before(entry) is not None:
            return 0
        return self._stored(entry)

    def _stored(self, entry: Entry) -> int:
        """The bytes of its content, holes left out."""
        if isinstance(entry.content, bytes) and len(entry.content) == WHOLE:
            return entry.size
        return sum(unit.length for unit in units(entry.content or b"", entry.size, self._repository.load_blob))

    def write(self) -> None:
        options = self._options
        self._writer = DirectoryWriter(
            self._target, preserve_owner=options.preserve_owner, privileges=options.privileges, report=self._item,
            what=self._what.digest(),
        )  # fmt: skip
        self._late = Late(self._writer)
        self._large = LargeFiles(self._writer, self._settled)
        self._pool = self._start(self._writer)
        if self._writer.continued:
            self._partial = prove_all(self._pool, self._writer, self._ticking(self._entries()))
        for number, entry in enumerate(self._entries()):
            self._take(self._writer, entry)
            if number % STRIDE == 0:
                self._feed(self._pool)
        self._plan()
        self._hand_out(self._pool)
        self._pool.flush()
        self._link(self._late)
        self._last(self._late)
        self._writer.close()
        self._progress(self.done)

    def close(self) -> None:
        """End the workers; what a restore that failed has written goes with it, unless it is to be left."""
        if self._pool:
            self._pool.close()
        if self._late:
            self._late.close()
        if self._writer and self._options.leave:
            self._writer.leave()
        elif self._writer:
            self._writer.discard()

    def _start(self, writer: DirectoryWriter) -> ForkedPool | InlinePool:
        repository, count = self._repository, self._options.workers
        small = self.done.bytes_expected < 4 << 20 and self.done.items_expected < 200
        alone = small or not count or not repository.store.capabilities().across_processes

        def make(emit: Emit) -> RestoreWorker:
            return RestoreWorker(repository, writer, emit, forked=not alone)

        return InlinePool(make, self._emitted) if alone else ForkedPool(make, self._emitted, count)

    def _entries(self) -> Iterator[Entry]:
        """What was judged."""
        judged = self._judged.entries
        return self._decoded() if judged is None else iter(judged)

    def _decoded(self) -> Iterator[Entry]:
        """What is chosen, with paths below the target."""
        found = tree.entries(self._repository.load_blob, self._snapshot.root, self._base)
        chosen = self._select.select(found) if self._select else found
        if not self._base:
            yield from chosen
            return
        cut = len(self._base) + 1
        for entry in chosen:
            entry.path = entry.path[cut:]
            yield entry

    # first the directories and files

    def _take(self, writer: DirectoryWriter, entry: Entry) -> None:
        assert self._late is not None
        if entry.kind is Kind.DIRECTORY:
            writer.make_directory(entry)
            self.done.directories += 1
        else:
            first = self._names.before(entry)
            if entry.kind is Kind.FILE and first is None:
                self._file(entry)
            else:
                self._late.keep(entry, first)
        self._tick(entry.path)

    def _ticking(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self._tick(entry.path)
            yield entry

    def _file(self, entry: Entry) -> None:
        assert self._writer is not None
        content = entry.content
        if self._writer.continued and self._writer.stands(entry):
            self._found(entry, self._partial.pop(entry.path, None))
        elif not content:
            self._plain.append(entry)
            if len(self._plain) >= WHOLE_FILES:
                self._make_plain()
        elif isinstance(content, bytes) and len(content) == WHOLE:
            self._small(entry, content[:32])
        elif entry.sha256:
            self._submit(["whole", tree.encode_entries([entry])], {})
        else:
            self._pieces(entry)

    def _found(self, entry: Entry, partial: Partial | None) -> None:
        """A file that a killed restore has left: whole, or a part of it is right."""
        if partial is None:
            self.done.files += 1
            self._keep_bytes(self._stored(entry))
        elif entry.sha256:
            self._submit(["whole", tree.encode_entries([entry])], {})
        else:
            self._pieces(entry, partial)

    def _keep_bytes(self, count: int) -> None:
        self.done.bytes += count
        self.done.kept += count

    def _make_plain(self) -> None:
        plain, self._plain = self._plain, []
        if plain:
            self._submit(["whole", tree.encode_entries(plain)], {})

    def _small(self, entry: Entry, blob_id: bytes) -> None:
        place = self._repository.index.place(blob_id)
        if place is None:
            self._settled(entry, str(BlobMissing(blob_id)))
        else:
            self._window.add(place, blob_id, pack_file(entry))
            self._plan_when_full()

    def _pieces(self, entry: Entry, partial: Partial | None = None) -> None:
        assert self._large is not None
        number = self._large.begin(entry, partial and partial.identity)
        if number is None:
            return
        failed = ""
        try:
            self._plan_pieces(entry, number, self._large, partial.units if partial else frozenset())
        except (BlobMissing, ObjectDamaged, ObjectMissing) as error:
            failed = str(error)
        self._large.planned(number, failed)

    def _plan_pieces(self, entry: Entry, number: int, large: LargeFiles, kept: frozenset[int]) -> None:
        index = self._repository.index
        for unit in units(entry.content or b"", entry.size, self._repository.load_blob):
            at = unit.offset
            if at in kept:
                self._keep_bytes(unit.length)
                continue
            for blob in unit.blobs:
                place = index.place(blob.id)
                if place is None:
                    raise BlobMissing(blob.id)
                if place[3] != blob.length:
                    raise ObjectDamaged("a tree page", "a blob has another length than its file says")
                large.expect(number)
                self._window.add(place, blob.id, [number, at])
                at += blob.length
            self._plan_when_full()

    # then what they are made of

    def _plan_when_full(self) -> None:
        if len(self._window) >= self._room:
            self._plan()

    def _plan(self) -> None:
        """Bring what has been collected in the order of the packs, once all that was planned before is on its way."""
        assert self._pool is not None
        self._hand_out(self._pool)
        self._make_plain()
        self._parts.extend(self._window.parts())
        self._room = min(2 * self._room, WINDOW)
        self._feed(self._pool)

    def _feed(self, pool: ForkedPool | InlinePool) -> None:
        """Give work to workers that have none."""
        pool.poll()
        while self._parts and pool.has_room():
            self._send(self._parts.popleft())

    def _hand_out(self, pool: ForkedPool | InlinePool) -> None:
        while self._parts:
            self._send(self._parts.popleft())

    def _send(self, part: Part) -> None:
        assert self._large is not None
        self._submit(["frames", part.frames, self._large.facts(part.files)], part.files)

    def _submit(self, task: Task, files: dict[int, int]) -> None:
        assert self._pool is not None
        self._pool.submit(task, lambda result: self._result(result, files))

    def _result(self, result: dict[str, Any], files: dict[int, int]) -> None:
        assert self._large is not None
        self.done.files += result["files"]
        failed: dict[int, str] = {}
        for whom, message in result["failed"]:
            if isinstance(whom, int):
                failed.setdefault(whom, message)
            else:
                self._fail(whom, message)
        self._large.arrived(files, failed)
        self._tick(b"")

    def _settled(self, entry: Entry, failed: str) -> None:
        if failed:
            self._fail(entry.path, failed)
        else:
            self.done.files += 1

    def _fail(self, path: bytes, message: str) -> None:
        self._lost.add(path)  # only first names of several are ever looked up; damage is rare
        self._item(ItemError(path, "restore", message, "error"))

    def _emitted(self, topic: str, value: Any) -> None:
        if topic == "bytes":
            self.done.bytes += value
            self._tick(b"")
        elif topic == "kept":
            self.done.kept += value
        else:
            self._item(ItemError(*value))

    # then what refers to them

    def _link(self, late: Late) -> None:
        for first, entry in late.further_names():
            if first in self._lost:
                sentence = "Its content could not be restored under its first name."
                self._item(ItemError(entry.path, "restore", sentence, "error"))
            else:
                self.done.files += late.make(entry, first)
            self._tick(entry.path)

    def _last(self, late: Late) -> None:
        for first, entry in late.others():
            self.done.others += late.make(entry, first)
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
