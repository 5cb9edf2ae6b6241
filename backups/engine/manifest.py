"""ManifestGuard: everything a restore is going to write is judged before the first byte is written.

A snapshot is authenticated, but whoever holds its key may have written anything into it; and a bug of ours may, too.
"""

from __future__ import annotations

import struct
import unicodedata

from backups.engine.content import WHOLE, unpack_units
from backups.engine.disk import LONGEST_PATH, printable
from backups.engine.entry import Entry, Kind, sort_key
from backups.engine.errors import EngineError, TargetError

LONGEST_NAME = 255  # bytes, on every Linux file system
LONGEST_TARGET = 4095  # bytes of a symbolic link
LARGEST_XATTR = 65_536  # bytes
_NEVER = frozenset({b"", b".", b".."})
_HUGE = 2**63
_NO_ID = 2**32 - 1  # to the kernel this owner means: leave it as it is


class ManifestGuard:
    """check() every entry in order, then finish(); either raises TargetError naming the entry.

    entries, size  declared totals that must not be exceeded, and must be met at the end; None: not declared
    folds_case, folds_unicode  the target takes names for equal that differ only so (see TargetFacts)

    Memory is the chain of open directories; where the target folds names, also those of the names in them.
    """

    def __init__(
        self, *, entries: int | None = None, size: int | None = None, folds_case: bool = False,
        folds_unicode: bool = False,
    ) -> None:  # fmt: skip
        self._declared = entries, size
        self._folds_case, self._folds_unicode = folds_case, folds_unicode
        self.entries = self.size = 0
        self._last: bytes | None = None  # path of the entry before
        self._sibling: tuple[bytes, bytes] | None = None  # its directory and name, unless it is a directory itself
        self._open: list[_Directory] = []

    def check(self, entry: Entry) -> None:
        try:
            if not self._stands_beside(entry.path):
                self._place(entry)
            _attributes(entry)
            _content(entry)
            self._count(entry)
            self._enter(entry)
        except (TypeError, ValueError, AttributeError) as error:
            raise _refused(entry, f"a value in it has the wrong type ({error})") from None

    def finish(self) -> None:
        for found, declared, what in zip((self.entries, self.size), self._declared, ("entries", "bytes"), strict=True):
            if declared is not None and found != declared:
                raise TargetError(
                    f"The snapshot declares {declared} {what} and holds {found}: it is damaged or forged. "
                    "Nothing was written; check the repository."
                )

    def _count(self, entry: Entry) -> None:
        self.entries += 1
        self.size += entry.size if entry.kind is Kind.FILE else 0
        entries, size = self._declared
        if entries is not None and self.entries > entries:
            raise _refused(entry, f"the snapshot declares only {entries} entries")
        if size is not None and self.size > size:
            raise _refused(entry, f"the snapshot declares only {size} bytes")

    # where it stands

    def _stands_beside(self, path: bytes) -> bool:
        """Whether it is a fit name right behind another one of its directory, as most are; others are judged closely.

        Then it is in order and its directory is open, because both is true of the one before.
        """
        parent, slash, name = path.rpartition(b"/")
        if self._sibling is None or parent != self._sibling[0] or name <= self._sibling[1]:
            return False
        if self._folds_case or self._folds_unicode or bool(slash) != bool(parent):
            return False
        return _is_name(name) and len(path) <= LONGEST_PATH

    def _place(self, entry: Entry) -> None:
        if self._last is not None and entry.key <= sort_key(self._last):
            raise _refused(entry, "it stands twice" if entry.path == self._last else "it is out of order")
        if entry.path:
            self._below(entry)
        elif entry.kind is not Kind.DIRECTORY:
            raise _refused(entry, "the root is no directory")

    def _enter(self, entry: Entry) -> None:
        """Only what has passed whole may have entries below it, or beside it."""
        self._last = entry.path
        if entry.kind is Kind.DIRECTORY:
            self._open.append(_Directory(entry.path))
            self._sibling = None
        else:
            parent, _, name = entry.path.rpartition(b"/")
            self._sibling = parent, name

    def _below(self, entry: Entry) -> None:
        """Its parent is the innermost open directory, whose own path has been judged: only the name is new."""
        parent, slash, name = entry.path.rpartition(b"/")
        while self._open and self._open[-1].path != parent and not _is_above(self._open[-1].path, parent):
            self._open.pop()
        if not _is_name(name) or (slash and not parent) or len(entry.path) > LONGEST_PATH:
            raise _refused(entry, _why_not(entry.path))
        if not self._open or self._open[-1].path != parent:
            raise _refused(entry, _why_not(entry.path))
        if self._folds_case or self._folds_unicode:
            self._collide(entry, self._open[-1], name)

    def _collide(self, entry: Entry, directory: _Directory, name: bytes) -> None:
        text = name.decode("utf-8", "surrogateescape")
        text = unicodedata.normalize("NFD", text) if self._folds_unicode else text
        folded = hash(text.casefold() if self._folds_case else text)
        if folded in directory.names:
            raise _refused(entry, "the target's file system cannot tell its name from another one beside it")
        directory.names.add(folded)


class _Directory:
    """A directory whose entries are passing; names: hashes of folded names, where the target folds."""

    __slots__ = ("names", "path")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.names: set[int] = set()


def _refused(entry: Entry, why: str) -> TargetError:
    shown = printable(bytes(entry.path[:300])) if isinstance(entry.path, bytes) else repr(entry.path)
    return TargetError(f"The snapshot's entry /{shown} is refused: {why}. Nothing was written.")


def _is_above(directory: bytes, path: bytes) -> bool:
    return not directory or path.startswith(directory + b"/")


def _is_name(name: bytes) -> bool:
    return name not in _NEVER and len(name) <= LONGEST_NAME and b"\0" not in name


def _why_not(path: bytes) -> str:
    """What is wrong with a path that cannot be accepted."""
    if len(path) > LONGEST_PATH:
        return f"its path is longer than {LONGEST_PATH} bytes"
    if b"\0" in path:
        return "its path holds a NUL byte"
    if path.startswith(b"/"):
        return "its path is absolute"
    for name in path.split(b"/"):
        if name in _NEVER:
            return f"its path holds the component {name.decode()!r}"
        if len(name) > LONGEST_NAME:
            return f"a component of its path is longer than {LONGEST_NAME} bytes"
    return f"/{printable(path.rpartition(b'/')[0])} above it is no directory of the snapshot"


# what it says of itself


def _attributes(entry: Entry) -> None:
    e = entry
    possible = (
        0 <= e.mode < 0o10000 and 0 <= e.uid < _NO_ID and 0 <= e.gid < _NO_ID and -_HUGE <= e.mtime_ns < 2 * _HUGE
        and 0 <= e.size < _HUGE and 0 <= e.nlink < _HUGE and 0 <= e.rdev < 2 * _HUGE and 0 <= e.flags < 2**32
        and isinstance(e.kind, Kind)
    )  # fmt: skip
    if not possible:
        raise _refused(entry, "its kind, mode, owner, time, size, links, device number or flags are impossible")
    if e.kind is Kind.SYMLINK:
        _link(entry)
    for pair in e.xattrs or ():
        _xattr(entry, *pair)


def _link(entry: Entry) -> None:
    if not entry.target or b"\0" in entry.target or len(entry.target) > LONGEST_TARGET:
        raise _refused(entry, "the target of the link is empty, too long, or holds a NUL byte")


def _xattr(entry: Entry, name: bytes, value: bytes) -> None:
    right = isinstance(name, bytes) and isinstance(value, bytes)
    if not right or not 0 < len(name) <= LONGEST_NAME or b"\0" in name or len(value) > LARGEST_XATTR:
        raise _refused(entry, "an extended attribute has an impossible name or size")


def _content(entry: Entry) -> None:
    content = entry.content
    if entry.kind is not Kind.FILE:
        if content:
            raise _refused(entry, "it has content without being a file")
    elif isinstance(content, bytes) and len(content) != WHOLE and content:
        _units(entry, content)
    elif isinstance(content, tuple) and (not content or any(len(page) != 32 for page in content)):
        raise _refused(entry, "its content pages are named impossibly")


def _units(entry: Entry, content: bytes) -> None:
    """Stretches in order, without overlap, inside the file, each as long as its blobs together."""
    end = 0
    try:
        for unit in unpack_units(content):
            if unit.offset < end or not unit.length or unit.offset + unit.length > entry.size:
                raise _refused(entry, "stretches of its content overlap or lie outside of it")
            if unit.length != sum(blob.length for blob in unit.blobs):
                raise _refused(entry, "a stretch of its content has another length than its blobs")
            end = unit.offset + unit.length
    except TargetError:
        raise
    except (EngineError, struct.error) as error:
        raise _refused(entry, f"its content cannot be understood ({error})") from None
