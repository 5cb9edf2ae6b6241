"""Entry: the one type that crosses the engine's border in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import BinaryIO, NamedTuple


class Kind(IntEnum):
    """What an entry is. The numbers are stored."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    CHARACTER = 5
    BLOCK = 6


class Notes(IntFlag):
    """What was odd while an entry was captured. The bits are stored."""

    NONE = 0
    UNSURE = 1  # changed so shortly before the scan that its times prove nothing: re-read next time
    CHANGED = 2  # changed while it was read; what is stored may be a mixture
    SHORT = 4  # ended before its announced size; the bytes there were are stored


class Blob(NamedTuple):
    """One deduplicated piece of content: its keyed id (32 bytes) and its length in bytes."""

    id: bytes
    length: int


class Unit(NamedTuple):
    """A run of data inside a file: [offset, offset + length), its SHA-256, and the blobs that make it up in order."""

    offset: int
    length: int
    sha256: bytes
    blobs: tuple[Blob, ...]


@dataclass(slots=True)
class Entry:
    """A file, directory, link or device, with everything needed to bring it back.

    path    relative raw bytes, components joined by '/'; b"" is the root itself
    source  where the bytes of a file are: an absolute path, an opener of a stream (called once, in order),
            or None for "the archive's root plus path"
    content what a captured file is made of, in the packed form of backups.engine.content; None before that
    """

    path: bytes
    kind: Kind
    mode: int = 0o600  # permission bits, with setuid, setgid and sticky
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    mtime_ns: int = 0
    ctime_ns: int = 0
    device: int = 0
    inode: int = 0
    nlink: int = 1
    size: int = 0
    target: bytes = b""  # of a symbolic link
    rdev: int = 0  # of a device node
    xattrs: tuple[tuple[bytes, bytes], ...] | None = None  # None: not read yet. ACLs are system.posix_acl_*
    flags: int = 0  # FS_IOC_GETFLAGS bits
    block: int = 0  # declared fixed block size of a page file, bytes; 0: find out
    source: bytes | Callable[[], BinaryIO] | None = None
    notes: Notes = Notes.NONE
    content: bytes | tuple[bytes, ...] | None = None
    sha256: bytes = b""  # of a whole stream or dump, where one was computed

    @property
    def key(self) -> bytes:
        return sort_key(self.path)


class ItemError(NamedTuple):
    """Something odd about one item: reported, counted, never silently passed over."""

    path: bytes
    action: str  # scan, read, restore …
    message: str  # a sentence
    severity: str  # "warning": the item is stored as well as it can be; "error": it is missing or incomplete
    unsupported: bool = False  # nothing is damaged: this account, or this target, cannot take such an item


EARLIEST, LATEST = -(2**63), 2**64 - 1  # the times that the format holds, nanoseconds: years 1677 to 2554


def kept_time(ns: int) -> int:
    """The nearest time that the format holds. Some file systems keep any."""
    return ns if EARLIEST <= ns <= LATEST else min(max(ns, EARLIEST), LATEST)


def sort_key(path: bytes) -> bytes:
    """The key of depth-first byte order: a directory's descendants come right after it."""
    return path.replace(b"/", b"\0")
