"""Putting entries back in order: results come back as workers finish, the tree is written as the scan went."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from backups.engine.content import ContentBuilder, unpack_units
from backups.engine.entry import Entry, Notes
from backups.engine.tree import Leaf

WINDOW = 16384  # entries that may wait for one that is still being read
ROWS = 4  # of a stretch count as one entry: 50 MB at most, and what is unchanged does not wait for a large file
LONGEST = 4096  # rows of one stretch; far below the window, which nothing but a stretch that grows may fill


class Slot:
    """An entry's place in the order. It leaves when it is ready; a dropped one leaves no trace.

    before  the same path in the parent snapshot
    leader  for a further name of one inode: the slot of the first name
    """

    __slots__ = ("before", "dropped", "entry", "leader", "ready")

    def __init__(self, entry: Entry, before: Entry | None, *, ready: bool = False, leader: Slot | None = None) -> None:
        self.entry, self.before, self.ready, self.leader, self.dropped = entry, before, ready, leader, False

    def drop(self) -> None:
        self.ready = self.dropped = True

    def alone(self) -> Slot:
        """Follows nobody any more."""
        self.ready, self.leader = False, None
        return self


class Stretch:
    """Neighbours of one page of the parent's tree that stand in the new one as they are: rows from `start` to `stop`.

    It grows while it is the last of the queue, and leaves when it is ready.
    """

    __slots__ = ("page", "ready", "start", "stop")

    def __init__(self, page: Leaf, start: int) -> None:
        self.page, self.start, self.stop, self.ready = page, start, start, False

    def grow(self) -> None:
        self.stop += 1
        self.ready = self.stop >= len(self.page.rows) or self.stop - self.start >= LONGEST

    @property
    def whole(self) -> bool:
        return not self.start and self.stop == len(self.page.rows)


class Assembly:
    """A queue that lets slots out at the front only, to emit().

    A further name of an inode whose first name was lost goes to again(): it is read in its own right. Stretches go to
    reuse().
    """

    def __init__(
        self, emit: Callable[[Slot], None], again: Callable[[Slot], None], reuse: Callable[[Stretch], None]
    ) -> None:
        self._emit, self._again, self._reuse = emit, again, reuse
        self._queue: deque[Slot | Stretch] = deque()
        self._stretch: Stretch | None = None  # the last of the queue, while it may grow
        self._waiting = 0  # entries, in ROWS-ths

    def push(self, slot: Slot) -> None:
        self.close_stretch()
        self._queue.append(slot)
        self._waiting += ROWS
        self.advance()

    def push_row(self, page: Leaf, at: int) -> None:
        """One row of the parent's tree, to stand in the new tree as it is."""
        stretch = self._stretch
        if stretch is None or stretch.page is not page or stretch.stop != at:
            self.close_stretch()
            stretch = self._stretch = Stretch(page, at)
            self._queue.append(stretch)
        stretch.grow()
        self._waiting += 1
        if stretch.ready:
            self._stretch = None
            self.advance()

    def close_stretch(self) -> None:
        """No more rows follow the last one."""
        if self._stretch is not None:
            self._stretch.ready, self._stretch = True, None

    @property
    def full(self) -> bool:
        return self._waiting >= WINDOW * ROWS

    def advance(self) -> None:
        queue = self._queue
        while queue and queue[0].ready:
            first = queue[0]
            if isinstance(first, Stretch):
                queue.popleft()
                self._waiting -= first.stop - first.start
                self._reuse(first)
            elif first.leader is not None and first.leader.dropped:
                self._again(first.alone())
            else:
                queue.popleft()
                self._waiting -= ROWS
                self._leave(first)

    def _leave(self, slot: Slot) -> None:
        if slot.leader is not None:
            _follow(slot, slot.leader)
        if not slot.dropped:
            self._emit(slot)


def _follow(slot: Slot, leader: Slot) -> None:
    """Give a further name what the first one was found to hold; the first name left the queue before."""
    e, first = slot.entry, leader.entry
    slot.leader = None
    e.content, e.size, e.xattrs, e.flags, e.sha256 = first.content, first.size, first.xattrs, first.flags, first.sha256
    e.mtime_ns, e.ctime_ns, e.notes = first.mtime_ns, first.ctime_ns, first.notes


class LargeFile:
    """Collects the units of one large file or stream, which may come back out of order."""

    def __init__(self, slot: Slot, builder: ContentBuilder, settled: Callable[[LargeFile], None]) -> None:
        self.slot = slot
        self._builder, self._settled = builder, settled
        self._early: dict[int, dict[str, Any]] = {}
        self._next = 0
        self._expected: int | None = None
        self._end = 0  # behind the last byte that was stored
        self._short = False  # a worker met the end of the file too early
        self.lost: dict[str, Any] | None = None  # why it is not stored: {gone: sentence} or {error: sentence}

    def sent(self, count: int) -> None:
        """All units have been handed out; there are so many."""
        self._expected = count
        self._settle()

    def take(self, number: int, result: dict[str, Any]) -> None:
        self._early[number] = result
        while self._next in self._early:
            self._add(self._early.pop(self._next))
            self._next += 1
        self._settle()

    def _add(self, result: dict[str, Any]) -> None:
        if "unit" not in result:
            self.lost = self.lost or result
            return
        entry = self.slot.entry
        entry.notes |= Notes(result["notes"])
        self._short = self._short or bool(result["notes"] & Notes.SHORT)
        if entry.xattrs is None:  # else they are known already, and what was read is a copy without them
            entry.xattrs = tuple((name, value) for name, value in result["xattrs"])
            entry.flags = result["flags"]
        for unit in unpack_units(result["unit"]):
            self._builder.add(unit)
            self._end = unit.offset + unit.length

    def _settle(self) -> None:
        if self._expected is None or self._next < self._expected:
            return
        if self.lost:
            self.slot.drop()
        else:
            entry = self.slot.entry
            entry.content = self._builder.finish()
            if self._short:
                entry.size = self._end  # what was there, never filled up with invented zeros
            self.slot.ready = True
        self._settled(self)
