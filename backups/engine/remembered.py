"""Entries that are kept in memory for a while: as many as fit into a bounded room."""

from __future__ import annotations

from backups.engine.entry import Entry

ROOM = 32 << 20  # bytes: about 60,000 files of one blob
ENTRY = 450  # bytes that an entry takes beside what is as long as it likes


def footprint(entry: Entry) -> int:
    """Bytes of memory, about."""
    content = entry.content or b""
    pages = 72 * len(content) if isinstance(content, tuple) else len(content)
    attributes = sum(len(name) + len(value) for name, value in entry.xattrs) if entry.xattrs else 0
    return ENTRY + len(entry.path) + len(entry.target) + pages + attributes


class Remembered:
    """All the entries that were added, or none once they are too many: `entries` is None then."""

    def __init__(self) -> None:
        self.entries: list[Entry] | None = []
        self._room = ROOM

    def add(self, entry: Entry) -> None:
        if self.entries is None:
            return
        self._room -= footprint(entry)
        if self._room < 0:
            self.entries = None
        else:
            self.entries.append(entry)
