"""Walking the parent snapshot's tree beside the scan of a new run."""

from __future__ import annotations

from collections.abc import Callable

from backups.engine import tree
from backups.engine.entry import Entry
from backups.engine.errors import EngineError
from backups.engine.log import Snapshot
from backups.engine.options import Stats
from backups.engine.repository import Repository


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
