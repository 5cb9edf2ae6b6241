"""What a scan never reads, whatever it is called there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from backups.engine.disk import DiskTree


@dataclass(frozen=True, slots=True)
class Reserved:
    """Files and directories (with all that is in them) that are left out, also where no pattern names them.

    paths       as entries have them: absolute, links resolved, no leading slash; also of what does not exist yet
    identities  (device, inode): a hard link, a bind mount or a directory behind a link is the same under another name
    why         the sentence that is told
    """

    paths: frozenset[bytes] = frozenset()
    identities: frozenset[tuple[int, int]] = frozenset()
    why: str = ""

    def __bool__(self) -> bool:
        return bool(self.paths or self.identities)

    def holds(self, path: bytes, st: os.stat_result) -> bool:
        """Is it one of them? What lies below one is not asked about."""
        return path in self.paths or (st.st_dev, st.st_ino) in self.identities

    def reaches(self, disk: DiskTree, path: bytes) -> bool:
        """Is it one of them, or inside one? OSError when there is no such path."""
        if not self:
            return False
        return any(self.holds(way, disk.lstat(way)) for way in ways(path))


def ways(path: bytes) -> Iterator[bytes]:
    """The path and all that is above it, from the top on."""
    return accumulate(path.split(b"/"), lambda above, name: above + b"/" + name)


NOTHING = Reserved()
