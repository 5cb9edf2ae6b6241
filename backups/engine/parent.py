"""The parent snapshot: walked beside the scan of a new run, and compared entry by entry."""

from __future__ import annotations

from collections.abc import Callable

from backups.engine import tree
from backups.engine.entry import Entry, Kind, Notes
from backups.engine.errors import EngineError
from backups.engine.log import Snapshot
from backups.engine.options import Stats
from backups.engine.repository import Repository

DOUBTFUL = Notes.UNSURE | Notes.CHANGED | Notes.SHORT  # what the next run must not take as unchanged


class ParentWalk:
    """The parent snapshot's entries, walked beside the scan. If it cannot be read, everything counts as new."""

    def __init__(self, repository: Repository, parent: Snapshot | None, damaged: Callable[[EngineError], None]) -> None:
        self._damaged = damaged
        self._entries = tree.entries(repository.load_blob, parent.root) if parent else iter(())
        self._entry: Entry | None = None
        self._key = b""
        self._advance()

    def upto(self, entry: Entry, stats: Stats) -> Entry | None:
        """The parent's entry of this path; those before it are gone now."""
        if self._entry is None:
            return None
        key = entry.key
        while self._entry is not None and self._key < key:
            stats.removed += 1
            self._advance()
        if self._entry is None or self._key != key:
            return None
        found = self._entry
        self._advance()
        return found

    def rest(self, stats: Stats) -> None:
        while self._entry is not None:
            stats.removed += 1
            self._advance()

    def _advance(self) -> None:
        try:
            self._entry = next(self._entries, None)
        except EngineError as error:
            if not error.permanent:
                raise
            self._damaged(error)
            self._entry = None
        if self._entry is not None:
            self._key = self._entry.key


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
