"""The parent snapshot: walked beside the scan of a new run, and compared entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backups.engine import tree
from backups.engine.content import pack_unit, units
from backups.engine.entry import Entry, Kind, Notes, Unit, sort_key
from backups.engine.errors import EngineError
from backups.engine.log import Snapshot
from backups.engine.options import Stats
from backups.engine.repository import Repository
from backups.engine.tree import (
    CONTENT,
    CTIME,
    GID,
    INODE,
    KIND,
    MODE,
    MORE,
    MTIME,
    NLINK,
    NOTES,
    SIZE,
    UID,
    Leaf,
)

DOUBTFUL = int(Notes.UNSURE | Notes.CHANGED | Notes.SHORT)  # what the next run must not take as unchanged


class ParentWalk:
    """The parent snapshot, walked beside the scan. If it cannot be read, everything counts as new."""

    def __init__(self, repository: Repository, parent: Snapshot | None, damaged: Callable[[EngineError], None]) -> None:
        self._damaged = damaged
        self._pages = tree.leaves(repository.load_blob, parent.root) if parent else iter(())
        self.page: Leaf | None = None  # with the next entry, which stands in row `at`
        self.at = -1
        self.step()

    def takes_over(self, entry: Entry) -> bool:
        """Whether the parent's next entry is this one, unchanged: then its row may stand in the new tree as it is."""
        page = self.page
        if page is None or page.paths[self.at] != entry.path:
            return False
        row = page.rows[self.at]
        return (
            row[CTIME] == entry.ctime_ns
            and row[MTIME] == entry.mtime_ns
            and row[INODE] == entry.inode
            and not row[NOTES] & DOUBTFUL
            and row[KIND] == entry.kind
            and not entry.block
            and (_same_file(entry, row) if row[KIND] == Kind.FILE else _same_node(entry, page, row))
        )

    def step(self) -> None:
        """On to the next entry."""
        self.at += 1
        while self.page is None or self.at >= len(self.page.rows):
            page, self.page, self.at = self.page, self._next_page(), 0
            if self.page is None:
                if page is not None:
                    page.last = True
                return

    def upto(self, entry: Entry, stats: Stats) -> Entry | None:
        """The parent's entry of this path, which it steps over; those before it are gone now."""
        if self.page is not None and self.page.paths[self.at] != entry.path:
            key = entry.key
            while self.page is not None and sort_key(self.page.paths[self.at]) < key:
                stats.removed += 1
                self.step()
        if self.page is None or self.page.paths[self.at] != entry.path:
            return None
        found = self.page.entry(self.at)
        self.step()
        return found

    def rest(self, stats: Stats) -> None:
        while self.page is not None:
            stats.removed += len(self.page.rows) - self.at
            self.at = len(self.page.rows)
            self.step()

    def _next_page(self) -> Leaf | None:
        try:
            raw = next(self._pages, None)
            return None if raw is None else Leaf(raw)
        except EngineError as error:
            if not error.permanent:
                raise
            self._damaged(error)
            self._pages = iter(())
            return None


def _same_file(entry: Entry, row: list[Any]) -> bool:
    known = entry.source is None or isinstance(entry.source, bytes)
    return known and row[SIZE] == entry.size and row[CONTENT] is not None


def _same_node(entry: Entry, page: Leaf, row: list[Any]) -> bool:
    """What has no content. The device number is left out as it is in unchanged()."""
    more = row[MORE] or {}
    return (
        entry.xattrs is None
        and entry.nlink == row[NLINK]
        and (entry.mode, entry.uid, entry.gid) == (row[MODE], row[UID], row[GID])
        and (entry.user, entry.group) == (page.user(row), page.group(row))
        and (entry.target, entry.rdev) == (more.get("target", b""), more.get("rdev", 0))
    )


class UnitWalk:
    """What the parent snapshot holds of a large file, walked beside its units; nothing where that cannot be read."""

    def __init__(self, before: Entry | None, load: tree.Load) -> None:
        content = before.content if before and before.kind is Kind.FILE and not before.sha256 else None
        self._units = units(content or b"", before.size if before else 0, load)
        self._unit: Unit | None = None

    def at(self, offset: int) -> bytes:
        """The packed unit that begins at an offset, or b"". Offsets ascend."""
        try:
            while self._unit is None or self._unit.offset < offset:
                self._unit = next(self._units)
        except (StopIteration, EngineError):  # a content page that is gone: the unit is read as a new one is
            return b""
        return pack_unit(self._unit) if self._unit.offset == offset else b""


def unchanged(entry: Entry, before: Entry) -> bool:
    """Whether a file can be taken over from the parent snapshot.

    The device number is left out: it changes with every reboot and every volume snapshot, and inode, size and both
    times (ctime cannot be forged by a user) are what tells.
    """
    return (
        before.ctime_ns == entry.ctime_ns
        and before.mtime_ns == entry.mtime_ns
        and before.size == entry.size
        and before.inode == entry.inode
        and before.kind is Kind.FILE
        and before.content is not None
        and not before.notes & DOUBTFUL
    )


def same(entry: Entry, before: Entry) -> bool:
    """Whether an entry counts as unchanged: by its content, time, kind, mode, owners and target; not by attributes."""
    return (
        entry.content == before.content
        and entry.mtime_ns == before.mtime_ns
        and (entry.kind, entry.mode, entry.uid, entry.gid, entry.target)
        == (before.kind, before.mode, before.uid, before.gid, before.target)
    )
