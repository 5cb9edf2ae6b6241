"""How a run works, and what it counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from backups.engine.entry import ItemError, Kind
from backups.engine.pack import VERIFY_EVERY


def default_workers() -> int:
    """One process for each processor we may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Options:
    """How an archive run works.

    workers           processes; 0 does everything in the caller's
    codec, level      zstd, gzip or none, and the codec's own level
    verify_every      one data frame in so many is decoded again before it counts; 1: all
    assume_unchanged  take over files whose inode, size, mtime and ctime are the parent's
    damaged           SHA-256 of packs that a check found damaged: what lies only in them is stored anew
    """

    workers: int = field(default_factory=default_workers)
    codec: str = "zstd"
    level: int = 1
    verify_every: int = VERIFY_EVERY
    assume_unchanged: bool = True
    damaged: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Stats:
    """Counts of a run. Bytes are raw unless said otherwise; what is expected comes from the parent, 0 unknown.

    An item is one name in the tree: of a directory, a file (each further name of a hard link too), a symbolic link,
    a FIFO or a device. Restored counts the same; a snapshot also holds the directories above its roots, which a
    restore below one of them leaves out.
    """

    files: int = 0
    directories: int = 0
    others: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes: int = 0  # size of all files that have passed
    bytes_read: int = 0
    bytes_stored: int = 0  # in packs and index objects: compressed and encrypted
    warnings: int = 0
    errors: int = 0
    bytes_expected: int = 0
    items_expected: int = 0
    current: str = ""  # path in hand

    @property
    def items(self) -> int:
        return self.files + self.directories + self.others

    def keep(self, kinds: list[int], size: int) -> None:
        """Count entries that are taken over: their kinds, and the bytes of the files among them."""
        files, directories = kinds.count(Kind.FILE), kinds.count(Kind.DIRECTORY)
        self.files += files
        self.directories += directories
        self.others += len(kinds) - files - directories
        self.unchanged += len(kinds)
        self.bytes += size

    def pack(self) -> dict[str, Any]:
        return {**asdict(self), "items": self.items}


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a restore works.

    workers         processes; 0 does everything in the caller's
    preserve_owner  give files back to their owners (None: when we are root)
    privileges      restore setuid and setgid bits, file capabilities, devices, trusted attributes
    leave           an end before the end (error, cancel) leaves what was written, as a kill does: the same restore
                    goes on in it. Whoever asks for this removes it when nobody will
    """

    workers: int = field(default_factory=default_workers)
    preserve_owner: bool | None = None
    privileges: bool = False
    leave: bool = False


@dataclass(slots=True)
class Restored:
    """Counts of a restore. Items are what they are in Stats; bytes are those that are written: of a hard-linked file
    once, of holes none."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    kept: int = 0  # of these bytes, those that the same restore, killed before, had written
    failed: int = 0  # items that could not be brought back whole; none of them stands under its name
    warnings: int = 0
    bytes_expected: int = 0
    items_expected: int = 0
    current: str = ""

    @property
    def items(self) -> int:
        return self.files + self.directories + self.others

    def pack(self) -> dict[str, Any]:
        return {**asdict(self), "items": self.items}


Report = Callable[[ItemError], None]
Progress = Callable[[Stats], None]  # called at most once a second; may raise Cancelled
RestoreProgress = Callable[[Restored], None]  # the same


def quiet(_: object) -> None:
    """A report or progress that nobody listens to."""
