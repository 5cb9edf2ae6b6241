"""archive(): entries in, a snapshot out.

The caller's process scans, compares with the parent snapshot, keeps the order and commits; workers read, cut, hash,
compress, encrypt and store. Order of writing: packs, index, then the log record, the only commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.assembly import Assembly, LargeFile, Slot, Stretch
from backups.engine.capture import SMALL, UNIT, lost
from backups.engine.commit import CommitGuard
from backups.engine.content import ContentBuilder, blob_ids
from backups.engine.disk import DiskTree, printable, reason
from backups.engine.dispatch import Dispatcher
from backups.engine.entry import EARLIEST, LATEST, Entry, ItemError, Kind, Notes, kept_time
from backups.engine.errors import EngineError
from backups.engine.feeder import feed
from backups.engine.log import Snapshot
from backups.engine.lookout import Lookout
from backups.engine.options import Options, Progress, Report, Stats, quiet
from backups.engine.parent import DOUBTFUL, ParentWalk, UnitWalk, same, unchanged
from backups.engine.repository import Repository
from backups.engine.saver import RunIndex, TreeSaver
from backups.engine.table import FEW
from backups.engine.workers import few_collections, return_memory

BATCH_BYTES, BATCH_FILES, BATCH_PATHS = 4 << 20, 512, 128 << 10  # of a batch of small files; the last in path bytes
POLLED = 0.002  # seconds between two looks at what workers have answered: they wait for their next tasks
BLOCK_MIN = 4096  # of declared blocks, bytes


class Archived(NamedTuple):
    snapshot: Snapshot
    stats: Stats


def archive(
    repository: Repository,
    entries: Iterable[Entry],
    *,
    snapshot_id: str,
    facts: Callable[[], Mapping[str, Any]],
    parent: Snapshot | None = None,
    options: Options = Options(),  # noqa: B008  it is frozen
    report: Report = quiet,
    progress: Progress = quiet,
    commit: Callable[[], None] = lambda: None,
    lease_epoch: int = 0,
) -> Archived:
    """Store entries (in depth-first byte order; paths are absolute without the leading slash) and commit a snapshot.

    facts   called after the last entry, because a strategy knows the whole truth only then
    commit  asked once before the log record is put; raises LostLease or Cancelled to keep it from happening
    Raises what the store and the source raise; nothing is visible unless this returns.
    """
    return_memory()
    guard = CommitGuard(repository)
    lookout = Lookout(repository)
    _avoid_lost_packs(repository, lookout, options, report)
    run = _Run(repository, parent, options, report, progress)
    try:
        with few_collections():
            for entry in entries:
                run.take(entry)
            done = run.finish()
    finally:
        run.close()
    snapshot = Snapshot(
        id=snapshot_id, time=time.time(), root=done.root, root_sha256=done.root_sha256,
        manifest_sha256=done.manifest_sha256, entries=done.entries, size=done.size,
        tree_packs=tuple(run.index.tree_packs), index=tuple(run.index.names), facts=facts(),
        parent=parent.id if parent else "", lease_epoch=lease_epoch,
    )  # fmt: skip
    commit()
    repository.index_changed()
    snapshot = guard.commit(snapshot)
    with suppress(EngineError):  # the snapshot stands; a checkpoint that failed is due again after the next one
        if repository.log.checkpoint_due():
            repository.log.append_checkpoint()
    repository.remember_leaves()
    lookout.keep()
    if run.index.blobs > FEW:  # numpy is at hand: then the next run, which may find nothing, needs not load it
        with suppress(EngineError):
            repository.sync_index()
    return Archived(snapshot, run.stats)


def _avoid_lost_packs(repository: Repository, lookout: Lookout, options: Options, report: Report) -> None:
    """Deduplicate against what can still be read, so that the next backup heals what was lost."""
    leaving = repository.log.marks.leaving
    absent = lookout.look() - leaving
    repository.index.avoid(absent | leaving | options.damaged, lookout.holds)
    if absent:
        message = f"{len(absent)} packs of earlier backups are gone or cut off; what lay in them is stored anew."
        report(ItemError(b"", "compare", message, "warning"))


class _Batch:
    """Small files on their way to one worker."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self._bytes = self._paths = 0

    def add(self, slot: Slot) -> bool:
        """True when the batch is full now."""
        self.slots.append(slot)
        self._bytes += slot.entry.size
        self._paths += len(slot.entry.path)
        return self._bytes >= BATCH_BYTES or len(self.slots) >= BATCH_FILES or self._paths >= BATCH_PATHS


class _Run:
    def __init__(
        self, repository: Repository, parent: Snapshot | None, options: Options, report: Report, progress: Progress
    ) -> None:
        self.stats = Stats()
        self.index = RunIndex(repository, max(options.workers, 1) + 1)  # the tree has a packer of its own
        self._repository, self._options = repository, options
        self._report, self._progress, self._told, self._polled = report, progress, 0.0, 0.0
        self._disk = DiskTree(b"/", report=self._item)
        self._saver = TreeSaver(repository, self.index.add)
        self._writer = tree.TreeWriter(self._saver.save)
        self._assembly = Assembly(self._emit, self._read_again, self._reuse)
        self._rereading = False
        self._before = ParentWalk(repository, parent, self._parent_damaged)
        self._dispatcher = Dispatcher(repository, options, self.index, self._saver, self._item)
        self._trusting = options.assume_unchanged and not repository.index.avoids  # else each file is looked at
        self._batch = _Batch()
        self._links: dict[tuple[int, int], Slot] = {}
        if parent:
            self.stats.bytes_expected, self.stats.items_expected = parent.size, parent.entries

    def take(self, entry: Entry) -> None:
        before = self._before
        if self._trusting and before.takes_over(entry) and before.page:
            page, at = before.page, before.at
            before.step()  # first: then a page knows whether it is the last
            self._assembly.push_row(page, at)
        else:
            self._take(entry)
        while self._assembly.full:
            self._send_batch()
            self._dispatcher.wait()
        self._poll()
        self._tick(entry.path)

    def _take(self, entry: Entry) -> None:
        _refuse_odd_blocks(entry)
        self._bound_times(entry)
        before = self._before.upto(entry, self.stats)
        if entry.kind is not Kind.FILE:
            self._assembly.push(Slot(self._with_attributes(entry, before), before, ready=True))
        elif entry.source is None or isinstance(entry.source, bytes):
            self._file(entry, before)
        else:
            self._stream(entry, before)

    def finish(self) -> tree.Tree:
        self._send_batch()
        self._assembly.close_stretch()
        self._rereading = True
        while self._rereading:
            self._rereading = False
            self._dispatcher.drain()
            self._assembly.advance()
        self.index.make_way(2 * max(self._options.workers, 1))  # nobody listens while the tree is finished
        self._dispatcher.begin_to_finish()
        self._before.rest(self.stats)
        done = self._writer.finish()
        self._saver.flush()
        self._dispatcher.finish()
        self._dispatcher.close()  # an index is sealed now: that, and idle workers, need not share the memory
        self.index.write()
        self.stats.bytes_stored = self.index.stored
        self._progress(self.stats)
        return done

    def close(self) -> None:
        self._dispatcher.close()
        self.index.close()
        self._disk.close()

    def _reuse(self, stretch: Stretch) -> None:
        rows = stretch.page.rows[stretch.start : stretch.stop]
        self.stats.keep([row[tree.KIND] for row in rows], sum(row[tree.SIZE] for row in rows))
        if not (stretch.whole and self._writer.take(stretch.page)):
            self._writer.copy(stretch.page, stretch.start, stretch.stop)

    def _emit(self, slot: Slot) -> None:
        entry, before, stats = slot.entry, slot.before, self.stats
        self._writer.add(entry)
        if entry.kind is Kind.FILE:
            stats.files += 1
            stats.bytes += entry.size
        elif entry.kind is Kind.DIRECTORY:
            stats.directories += 1
        else:
            stats.others += 1
        if before is None:
            stats.new += 1
        elif before is entry or same(entry, before):
            stats.unchanged += 1
        else:
            stats.changed += 1

    # what has no content

    def _with_attributes(self, entry: Entry, before: Entry | None) -> Entry:
        """Attributes are taken from the parent where ctime says that nothing changed."""
        if entry.xattrs is None:
            trusted = before is not None and before.ctime_ns == entry.ctime_ns and before.inode == entry.inode
            if trusted and before is not None and not before.notes & DOUBTFUL:
                entry.xattrs, entry.flags = before.xattrs, before.flags
            else:
                entry.xattrs = self._read_attributes(entry)
        return entry

    def _read_attributes(self, entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
        """The extended attributes; a directory also gets its flags."""
        try:
            if entry.kind is Kind.DIRECTORY:
                entry.flags = self._disk.flags_of(entry.path)
            return self._disk.xattrs_of(entry.path)
        except OSError as error:
            self._item(
                ItemError(entry.path, "read", f"Its extended attributes cannot be read: {reason(error)}.", "warning")
            )
            return ()

    # files

    def _file(self, entry: Entry, before: Entry | None) -> None:
        if before is not None and self._options.assume_unchanged and self._stands(entry, before):
            self._assembly.push(Slot(before, before, ready=True))
            return
        if entry.nlink > 1 and (first := self._links.get((entry.device, entry.inode))):
            self._assembly.push(Slot(entry, before, ready=True, leader=first))
            return
        slot = Slot(entry, before)
        if entry.nlink > 1 and len(self._links) < 1 << 17:  # beyond, a further name is read again: slower, not wrong
            self._links[entry.device, entry.inode] = slot
        self._assembly.push(slot)
        if entry.size > fmt.SMALL_FILE or entry.block or entry.source is not None:
            self._send_large(slot)
        elif self._batch.add(slot):
            self._send_batch()

    def _stands(self, entry: Entry, before: Entry) -> bool:
        """Unchanged, and what the parent snapshot made of it is still stored."""
        return unchanged(entry, before) and (not self._repository.index.avoids or self._stored(before))

    def _stored(self, entry: Entry) -> bool:
        index, content = self._repository.index, entry.content or b""
        pages = content if isinstance(content, tuple) else ()
        try:
            blobs = blob_ids(content, self._repository.load_blob)
            return all(page in index for page in pages) and all(blob in index for blob in blobs)
        except EngineError:  # a content page that cannot be read
            return False

    def _read_again(self, slot: Slot) -> None:
        """A further name of an inode whose first name vanished or could not be read."""
        self._rereading = True
        if slot.entry.size > fmt.SMALL_FILE:
            self._send_large(slot)
        else:
            batch = _Batch()
            batch.add(slot)
            self._submit_batch(batch)

    def _send_batch(self) -> None:
        batch, self._batch = self._batch, _Batch()
        self._submit_batch(batch)

    def _submit_batch(self, batch: _Batch) -> None:
        if batch.slots:
            paths = [slot.entry.path for slot in batch.slots]
            self._dispatcher.submit([SMALL, paths], lambda results: self._small(batch, results))

    def _small(self, batch: _Batch, results: list[dict[str, Any]]) -> None:
        for slot, result in zip(batch.slots, results, strict=True):
            if "content" in result:
                self._fill(slot, result)
            elif "large" in result:
                slot.entry.size, slot.entry.mtime_ns, slot.entry.ctime_ns = result["large"]
                self._send_large(slot)
            else:
                self._lose(slot, result)
        self._assembly.advance()

    def _fill(self, slot: Slot, result: dict[str, Any]) -> None:
        entry = slot.entry
        entry.size, entry.mtime_ns, entry.ctime_ns = result["stat"]
        entry.content, entry.flags = result["content"], result["flags"]
        entry.xattrs = tuple(map(tuple, result["xattrs"])) if result["xattrs"] else ()
        self.stats.bytes_read += result["bytes"]
        if result["notes"]:
            entry.notes |= Notes(result["notes"])
            self._odd(entry)
        slot.ready = True

    def _lose(self, slot: Slot, result: dict[str, Any]) -> None:
        severity = "warning" if "gone" in result else "error"
        self._item(ItemError(slot.entry.path, "read", result.get("gone") or result["error"], severity))
        slot.drop()

    # large files and streams

    def _send_large(self, slot: Slot) -> None:
        entry, large = slot.entry, self._large(slot)
        path = entry.source.lstrip(b"/") if isinstance(entry.source, bytes) else entry.path
        stable = [entry.inode, entry.size, entry.mtime_ns, entry.ctime_ns]
        count = 0
        try:
            with self._disk.opened(path) as fd:
                if (size := os.fstat(fd).st_size) < entry.size:  # else its lost end would look like a hole
                    entry.size, entry.notes = size, entry.notes | Notes.SHORT
                known = UnitWalk(slot.before, self._repository.load_blob)
                for offset, length in self._units(fd, entry.size):
                    task = [UNIT, path, offset, length, entry.block, stable, known.at(offset)]
                    self._dispatcher.submit(task, self._unit_taker(large, count))
                    count += 1
                    self._tick(entry.path)
                if not count and entry.xattrs is None:  # nothing but a hole: no worker will open it
                    entry.xattrs, entry.flags = self._disk.xattrs(fd, path), self._disk.flags(fd)
        except OSError as error:
            large.lost = lost(error)
        large.sent(count)
        self._assembly.advance()

    def _units(self, fd: int, size: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of the pieces a large file is carried in; holes are left out."""
        for start, length in self._disk.data_runs(fd, size):
            for offset in range(start, start + length, fmt.UNIT_SIZE):
                yield offset, min(fmt.UNIT_SIZE, start + length - offset)

    def _stream(self, entry: Entry, before: Entry | None) -> None:
        """A dump: fed from here, in order, while workers carry its buffers."""
        slot = Slot(entry, before)
        self._assembly.push(slot)
        entry.xattrs = entry.xattrs or ()
        large = self._large(slot)
        pool = self._dispatcher.start()
        assert callable(entry.source)
        with entry.source() as stream:
            count = feed(
                entry, stream, self._repository.chunker(), self._dispatcher.ring, pool,
                lambda number, result: self._unit(large, number, result),
            )  # fmt: skip
        large.sent(count)
        self._assembly.advance()

    def _large(self, slot: Slot) -> LargeFile:
        return LargeFile(slot, ContentBuilder(self._saver.save, fmt.CONTENT_PAGE), self._settled)

    def _unit_taker(self, large: LargeFile, number: int) -> Callable[[dict[str, Any]], None]:
        return lambda result: self._unit(large, number, result)

    def _unit(self, large: LargeFile, number: int, result: dict[str, Any]) -> None:
        self.stats.bytes_read += result.get("bytes", 0)
        large.take(number, result)
        self._assembly.advance()
        self._tick(large.slot.entry.path)

    def _settled(self, large: LargeFile) -> None:
        if large.lost:
            self._lose(large.slot, large.lost)
        elif large.slot.entry.notes:
            self._odd(large.slot.entry)

    # telling

    def _bound_times(self, entry: Entry) -> None:
        if EARLIEST <= entry.mtime_ns <= LATEST and EARLIEST <= entry.ctime_ns <= LATEST:
            return
        mtime, entry.ctime_ns = entry.mtime_ns, kept_time(entry.ctime_ns)
        entry.mtime_ns = kept_time(mtime)
        if entry.mtime_ns != mtime:
            message = "Its time of change lies outside of 1677 to 2554; the nearest time is kept."
            self._item(ItemError(entry.path, "read", message, "warning"))

    def _parent_damaged(self, error: EngineError) -> None:
        self._saver.distrust()
        self._item(
            ItemError(b"", "compare", f"The parent snapshot is damaged, so all is read anew: {error}", "warning")
        )

    def _odd(self, entry: Entry) -> None:
        if entry.notes & Notes.SHORT:
            self._item(
                ItemError(entry.path, "read", "It shrank while it was read; what was there is stored.", "warning")
            )
        elif entry.notes & Notes.CHANGED:
            self._item(ItemError(entry.path, "read", "It changed while it was read; it may be a mixture.", "warning"))

    def _item(self, item: ItemError) -> None:
        if item.severity == "error":
            self.stats.errors += 1
        else:
            self.stats.warnings += 1
        self._report(item)

    def _poll(self) -> None:
        """Never while an answer is being taken: each would be taken within the one before."""
        now = time.monotonic()
        if now - self._polled >= POLLED:
            self._polled = now
            self._dispatcher.poll()

    def _tick(self, path: bytes) -> None:
        now = time.monotonic()
        if now - self._told >= 1:
            self._told = now
            self.stats.current = printable(path)
            self.stats.bytes_stored = self.index.stored
            self._progress(self.stats)


def _refuse_odd_blocks(entry: Entry) -> None:
    """A block must fit a buffer whole, and a unit counts at most 65,535 of them."""
    if entry.block and not BLOCK_MIN <= entry.block <= fmt.CHUNK_MAX:
        raise EngineError(
            f"{printable(entry.path)} cannot be stored in blocks of {entry.block} bytes: "
            f"choose {BLOCK_MIN} to {fmt.CHUNK_MAX}."
        )
