"""Putting entries back in order: results come back as workers finish, the tree is written as the scan went."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from backups.engine.content import ContentBuilder, unpack_units
from backups.engine.entry import Entry, Notes

WINDOW = 16384  # entries that may wait for one that is still being read


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


class Assembly:
    """A queue that lets slots out at the front only, to emit().

    A further name of an inode whose first name was lost goes to again(): it is read in its own right.
    """

    def __init__(self, emit: Callable[[Slot], None], again: Callable[[Slot], None]) -> None:
        self._emit, self._again = emit, again
        self._queue: deque[Slot] = deque()

    def push(self, slot: Slot) -> None:
        self._queue.append(slot)
        self.advance()

    @property
    def full(self) -> bool:
        return len(self._queue) >= WINDOW

    def advance(self) -> None:
        queue = self._queue
        while queue and queue[0].ready:
            if queue[0].leader is not None and queue[0].leader.dropped:
                self._again(queue[0].alone())
                continue
            slot = queue.popleft()
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
