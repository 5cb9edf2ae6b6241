"""The tree of a snapshot: entries in depth-first byte order on content-defined pages.

A leaf page holds about 256 entries; the pages above hold references to the pages below, up to one root. Pages are
blobs of tree packs, so an unchanged stretch of a tree costs nothing in the next snapshot, and readers and writers
stream: memory does not grow with the number of files.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from backups.engine import format as fmt
from backups.engine.content import Content
from backups.engine.entry import Entry, Kind, Notes, sort_key
from backups.engine.errors import EngineError

Load = Callable[[bytes], bytes]  # id of a page → its raw bytes
Save = Callable[[bytes], bytes]  # raw bytes of a page → its id
PAGE_BYTES = 1 << 20  # a page with long names or much content is closed early, bytes
NAMES = "surrogateescape"  # names of users that are no UTF-8 keep their bytes
_FAN_OUT, _FAN_OUT_MAX = 64, 512
_FILE = int(Kind.FILE)  # an enumeration's comparison costs more than a number's


class Reference(NamedTuple):
    """A page as its parent knows it."""

    first: bytes  # path of its first entry
    id: bytes
    entries: int
    size: int  # sum of the file sizes, bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """A finished tree: how to find it and two checksums over it.

    root_sha256      of the root page's raw bytes
    manifest_sha256  of all leaf pages' raw bytes in order: proves a complete listing
    """

    root: bytes
    root_sha256: bytes
    manifest_sha256: bytes
    entries: int
    size: int


class TreeWriter:
    """Takes entries in order; pages leave through save as soon as they are full."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self._page = _Page()
        self._levels: list[list[Reference]] = []
        self._manifest = hashlib.sha256()
        self._last: bytes | None = None
        self._top = b""  # raw bytes of the page saved last

    def add(self, entry: Entry) -> None:
        key = sort_key(entry.path)
        if self._last is not None and key <= self._last:
            raise EngineError(f"Entry {entry.path!r} is out of order; a tree is written in depth-first byte order.")
        self._last = key
        self._page.add(entry)
        if self._page.is_full(entry.path):
            self._close_page()

    def take(self, leaf: Leaf) -> bool:
        """Take a whole page of another tree as it is, in place of adding its entries; False: it does not fit here.

        It fits where a page begins. A tree's last page is refused: it ended for want of entries, not where one is cut.
        """
        if self._page.rows or leaf.last:
            return False
        if self._last is not None and sort_key(leaf.paths[0]) <= self._last:
            raise EngineError(f"Page {leaf.paths[0]!r} is out of order; a tree is written in depth-first byte order.")
        self._last = sort_key(leaf.paths[-1])
        self._put_page(leaf.raw, leaf.paths[0], len(leaf.rows), sum(row[SIZE] for row in leaf.rows))
        return True

    def copy(self, leaf: Leaf, start: int, stop: int) -> None:
        """The same as adding those entries of another tree's page, without making them."""
        if self._last is not None and sort_key(leaf.paths[start]) <= self._last:
            raise EngineError(
                f"Row {leaf.paths[start]!r} is out of order; a tree is written in depth-first byte order."
            )
        at = start
        while at < stop:
            at = self._page.copy(leaf, at, stop)
            if self._page.is_full(leaf.paths[at - 1]):
                self._close_page()
        self._last = sort_key(leaf.paths[stop - 1])

    def finish(self) -> Tree:
        if self._page.rows or not self._levels:
            self._close_page()
        level = 0
        while level + 1 < len(self._levels) or len(self._levels[level]) > 1:
            self._close_level(level)
            level += 1
        root = self._levels[level][0]
        return Tree(root.id, fmt.sha256(self._top), self._manifest.digest(), root.entries, root.size)

    def _close_page(self) -> None:
        page, self._page = self._page, _Page()
        self._put_page(page.encode(), page.first, len(page.rows), page.size)

    def _put_page(self, raw: bytes, first: bytes, entries: int, size: int) -> None:
        self._top = raw
        self._manifest.update(raw)
        self._append(0, Reference(first, self._save(raw), entries, size))

    def _append(self, level: int, reference: Reference) -> None:
        while level >= len(self._levels):
            self._levels.append([])
        row = self._levels[level]
        row.append(reference)
        # The cut depends on the child's content, so that an insertion moves one cut, not all behind it.
        full = len(row) >= _FAN_OUT_MAX or sum(len(r.first) for r in row) >= PAGE_BYTES
        if len(row) >= 2 and (full or reference.id[0] % _FAN_OUT == 0):
            self._close_level(level)

    def _close_level(self, level: int) -> None:
        row = self._levels[level]
        if not row:
            return
        self._levels[level] = []
        self._top = raw = msgpack.packb([level + 1, [list(reference) for reference in row]])
        entries, size = sum(r.entries for r in row), sum(r.size for r in row)
        self._append(level + 1, Reference(row[0].first, self._save(raw), entries, size))


class _Page:
    """A leaf page that is being filled."""

    def __init__(self) -> None:
        self.first = b""
        self.rows: list[list[Any]] = []
        self.size = 0
        self._bytes = 0
        self._directories: dict[bytes, int] = {}
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def add(self, e: Entry) -> None:
        if not self.rows:
            self.first = e.path
        directory, _, name = e.path.rpartition(b"/")
        number = self._directories.setdefault(directory, len(self._directories))
        self._own(e.uid, e.gid, e.user, e.group)
        content = list(e.content) if isinstance(e.content, tuple) else e.content
        row = [number, name, int(e.kind), e.mode, e.uid, e.gid, e.mtime_ns, e.ctime_ns, e.device, e.inode, e.nlink,
               e.size, int(e.notes), content, _extra(e)]  # fmt: skip
        self.rows.append(row)
        self._weigh(e.path, row)

    def copy(self, leaf: Leaf, start: int, stop: int) -> int:
        """Rows as they stand on another page, but for the numbers of directories and the names of owners, until this
        page is full or all are copied; the number of the next one. Few steps a row: they come in tens of thousands."""
        if not self.rows:
            self.first = leaf.paths[start]
        numbers, owners = dict[int, int](), set[tuple[int, int]]()
        for at in range(start, stop):
            row, path = leaf.rows[at], leaf.paths[at]
            old, owner = row[DIRECTORY], (row[UID], row[GID])
            if old not in numbers:
                numbers[old] = self._directories.setdefault(leaf.directories[old], len(self._directories))
            if owner not in owners:
                owners.add(owner)
                self._own(*owner, leaf.user(row), leaf.group(row))
            self.rows.append([numbers[old], *row[NAME:]])
            self._weigh(path, row)
            if self.is_full(path):
                return at + 1
        return stop

    def _own(self, uid: int, gid: int, user: str, group: str) -> None:
        if user:
            self._users[uid] = user
        if group:
            self._groups[gid] = group

    def _weigh(self, path: bytes, row: list[Any]) -> None:
        content, more = row[CONTENT], row[MORE]
        self._bytes += len(path) + 80
        if content:
            self._bytes += 32 * len(content) if isinstance(content, list) else len(content)
        if row[KIND] == _FILE:
            self.size += row[SIZE]
        if more:
            self._bytes += len(more.get("target", b"")) + sum(len(n) + len(v) for n, v in more.get("xattrs", ()))

    def is_full(self, path: bytes) -> bool:
        count = len(self.rows)
        drawn = zlib.crc32(path) % fmt.PAGE_ENTRIES == 0
        return drawn or count >= fmt.PAGE_ENTRIES_MAX or self._bytes >= PAGE_BYTES

    def encode(self) -> bytes:
        page: bytes = msgpack.packb(
            [0, list(self._directories), self._users, self._groups, self.rows], unicode_errors=NAMES
        )
        return page


def _extra(e: Entry) -> dict[str, Any] | None:
    """What only few entries have; nil for the many."""
    extra: dict[str, Any] = {}
    if e.target:
        extra["target"] = e.target
    if e.xattrs:
        extra["xattrs"] = [list(pair) for pair in e.xattrs]
    if e.flags:
        extra["flags"] = e.flags
    if e.rdev:
        extra["rdev"] = e.rdev
    if e.block:
        extra["block"] = e.block
    if e.sha256:
        extra["sha256"] = e.sha256
    return extra or None


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """Entries in the form of a leaf page, whatever their number and order; decode_page() reads it."""
    page = _Page()
    for entry in entries:
        page.add(entry)
    return page.encode()


_KINDS = {int(kind): kind for kind in Kind}
_NOTES = [Notes(bits) for bits in range(1 << len(Notes))]  # an enumeration's call costs as much as half an entry
_NONE: dict[str, Any] = {}
DIRECTORY, NAME, KIND, MODE, UID, GID, MTIME, CTIME, DEVICE, INODE, NLINK, SIZE, NOTES, CONTENT, MORE = range(15)


class Leaf:
    """A leaf page as it is stored. Its rows (see docs/format.md) become entries one by one, for whoever needs them.

    last  it ends its tree
    """

    __slots__ = ("_groups", "_users", "directories", "last", "paths", "raw", "rows")

    def __init__(self, raw: bytes) -> None:
        level, *columns = msgpack.unpackb(raw, strict_map_key=False, unicode_errors=NAMES)
        if level != 0:
            raise EngineError("A page of references stands where a leaf page should be.")
        self.directories, self._users, self._groups, self.rows = columns
        prefixes = [directory + b"/" if directory else b"" for directory in self.directories]
        self.paths: list[bytes] = [prefixes[row[DIRECTORY]] + row[NAME] for row in self.rows]
        self.raw, self.last = raw, False

    def user(self, row: list[Any]) -> str:
        return str(self._users.get(row[UID], ""))

    def group(self, row: list[Any]) -> str:
        return str(self._groups.get(row[GID], ""))

    def entry(self, at: int) -> Entry:
        row = self.rows[at]
        _, _, kind, mode, uid, gid, mtime, ctime, device, inode, nlink, size, notes, content, more = row
        user, group = self._users.get(uid, ""), self._groups.get(gid, "")
        more = more or _NONE
        return Entry(
            self.paths[at], _KINDS[kind], mode, uid, gid, user, group, mtime, ctime, device, inode, nlink, size,
            more.get("target", b""), more.get("rdev", 0), tuple((n, v) for n, v in more.get("xattrs", ())),
            more.get("flags", 0), more.get("block", 0), None, _notes(notes), _content(content), more.get("sha256", b""),
        )  # fmt: skip


def _notes(bits: int) -> Notes:
    return _NOTES[bits] if bits < len(_NOTES) else Notes(bits)


def decode_page(raw: bytes) -> Iterator[Entry]:
    """The entries of a leaf page."""
    leaf = Leaf(raw)
    return map(leaf.entry, range(len(leaf.rows)))


def _content(stored: bytes | list[bytes] | None) -> Content | None:
    return tuple(stored) if isinstance(stored, list) else stored


def references(raw: bytes) -> tuple[int, list[Reference]]:
    """(level, references) of a page above the leaves; (0, []) of a leaf page."""
    page = msgpack.unpackb(raw, strict_map_key=False, unicode_errors=NAMES)
    return (page[0], [Reference(*row) for row in page[1]]) if page[0] else (0, [])


def is_leaf(raw: bytes) -> bool:
    return raw[1] == 0  # [level, …]: a fixarray's first element, a positive fixint


def leaves(load: Load, root: bytes, below: bytes = b"") -> Iterator[bytes]:
    """The raw leaf pages in order; with below, only those that can hold that path or its descendants."""
    raw = load(root)
    if is_leaf(raw):
        yield raw
        return
    for reference in references_to(raw, below):
        yield from leaves(load, reference.id, below)


def references_to(raw: bytes, below: bytes) -> Iterator[Reference]:
    """Those references of a page above the leaves that can lead to a path or its descendants; b"": all."""
    _, row = references(raw)
    for number, reference in enumerate(row):
        after = row[number + 1].first if number + 1 < len(row) else None
        if _may_hold(reference.first, after, below):
            yield reference


def _may_hold(first: bytes, after: bytes | None, below: bytes) -> bool:
    """Whether a page from first up to (not including) after can hold below or a descendant of it."""
    if not below:
        return True
    key = sort_key(below)
    ends_before = after is not None and sort_key(after) <= key
    begins_behind = sort_key(first) > key and not is_below(first, below)
    return not ends_before and not begins_behind


def is_below(path: bytes, base: bytes) -> bool:
    """Whether path is base or lies under it."""
    return not base or path == base or path.startswith(base + b"/")


def entries(load: Load, root: bytes, below: bytes = b"") -> Iterator[Entry]:
    """All entries in order; with below, that subtree only (its own entry first)."""
    inside = below + b"/"
    for raw in leaves(load, root, below):
        for entry in decode_page(raw):
            if not below or entry.path.startswith(inside) or entry.path == below:
                yield entry


def pages(load: Load, root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(id, raw) of every page, parents before children."""
    raw = load(root)
    yield root, raw
    if not is_leaf(raw):
        for reference in references(raw)[1]:
            yield from pages(load, reference.id)


def contents(raw: bytes) -> Iterator[Content]:
    """What the files on a leaf page are made of, without the rest of their entries; empty files have nothing."""
    for row in msgpack.unpackb(raw, strict_map_key=False, unicode_errors=NAMES)[4]:
        if row[13]:
            yield _content(row[13]) or b""
