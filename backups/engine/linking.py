"""Hard links, symbolic links and special files of a restore: what is made when all files are there.

They come last so that nothing is ever written through them, and so that a further name finds its file whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from backups.engine import tree
from backups.engine.entry import Entry, Kind
from backups.engine.extract import DirectoryWriter
from backups.engine.spool import Spool


class FirstNames:
    """Under which path each inode came first. One whose names have all come is forgotten: memory stays small."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], _Group] = {}

    def before(self, entry: Entry) -> bytes | None:
        """The path under which this inode has come before; None: this is its first name."""
        if entry.nlink < 2:
            return None
        key = entry.device, entry.inode
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = _Group(entry.path, entry.nlink - 1)
            return None
        group.left -= 1
        if not group.left:
            del self._groups[key]
        return group.first


class _Group:
    """The names of one inode: the first one restored, and how many may still come."""

    __slots__ = ("first", "left")

    def __init__(self, first: bytes, left: int) -> None:
        self.first, self.left = first, left


class Late:
    """Entries that wait, in files without a name where they are many: further names of files, and all other kinds."""

    def __init__(self, writer: DirectoryWriter) -> None:
        self._writer = writer
        self._further, self._others = Spool(writer.stage), Spool(writer.stage)

    def keep(self, entry: Entry, first: bytes | None) -> None:
        """first  the path under which its inode has come before, if it has"""
        spool = self._further if entry.kind is Kind.FILE else self._others
        spool.append(msgpack.packb([first, tree.encode_entries([entry])]))

    def further_names(self) -> Iterator[tuple[bytes | None, Entry]]:
        """Files that have been restored under another name: (that name, entry)."""
        return map(_kept, self._further.forwards())

    def others(self) -> Iterator[tuple[bytes | None, Entry]]:
        """Links and special files: (the path under which the inode came before or None, entry)."""
        return map(_kept, self._others.forwards())

    def make(self, entry: Entry, first: bytes | None) -> bool:
        """Make one of them; False: the writer's report was told why not. Raises TargetError."""
        if first is not None:
            return self._writer.link(entry, first)
        return self._writer.symlink(entry) if entry.kind is Kind.SYMLINK else self._writer.special(entry)

    def close(self) -> None:
        """Give the files without a name back."""
        self._further.close()
        self._others.close()


def _kept(record: bytes) -> tuple[bytes | None, Entry]:
    first, page = msgpack.unpackb(record)
    return first, next(tree.decode_page(page))
