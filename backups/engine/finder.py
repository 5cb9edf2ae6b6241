"""find(): which snapshots hold a path, and in which versions; from trees alone, content is never decrypted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.content import WHOLE, Content
from backups.engine.disk import from_printable
from backups.engine.entry import Entry, Kind, sort_key
from backups.engine.log import Snapshot
from backups.engine.patterns import Excludes
from backups.engine.repository import Repository

_WILD = ("*", "?", "[")
Key = tuple[Kind, Content | None, int, bytes, int]


class Version(NamedTuple):
    """One content of a path: its newest entry, and the ids of the snapshots that hold it, oldest first."""

    entry: Entry
    snapshots: tuple[str, ...]

    @property
    def id(self) -> str:
        """The same for the same content of the same repository, whatever the path; "" for what has none."""
        return content_id(self.entry)


class Found(NamedTuple):
    """A path that some snapshots hold; its versions, the one of the oldest snapshot first. Directories have one."""

    path: bytes
    versions: tuple[Version, ...]


def find(repository: Repository, wanted: str | bytes, snapshots: Sequence[Snapshot] | None = None) -> Iterator[Found]:
    """The paths that fit, in depth-first byte order; in all snapshots unless some are given (oldest first).

    wanted  a path that begins with “/”, or a pattern: “*.sql”, “/etc/**/hosts”; a plain word means anywhere in a
            name. Bytes are a path, whatever signs are in it.
    However many snapshots share a page of a tree, it is read once. Memory grows with what is found. Raises
    InvalidPattern, and what a tree that cannot be read raises.
    """
    search = _Search(repository, *_meant(wanted))
    held: dict[bytes, dict[Key, tuple[Entry, list[str]]]] = {}
    for snapshot in repository.snapshots if snapshots is None else snapshots:
        for entry in search.within(snapshot.root):
            versions = held.setdefault(entry.path, {})
            _, ids = versions.get(_key(entry), (entry, list[str]()))
            ids.append(snapshot.id)
            versions[_key(entry)] = (entry, ids)
    for path in sorted(held, key=sort_key):
        yield Found(path, tuple(Version(entry, tuple(ids)) for entry, ids in held[path].values()))


def _meant(wanted: str | bytes) -> tuple[bytes, Callable[[Entry], bool]]:
    """(what has to be on the way to it, whether an entry fits)."""
    if isinstance(wanted, bytes):
        path = wanted.strip(b"/")
        return path, lambda entry: entry.path == path
    wild = any(sign in wanted for sign in _WILD)
    if wanted.startswith("/") and not wild:
        return _meant(from_printable(wanted))
    fits = Excludes([wanted if wild or "/" in wanted else f"*{wanted}*"])
    return b"", lambda entry: fits.match(entry.path, entry.kind is Kind.DIRECTORY)


def _key(entry: Entry) -> Key:
    """Two entries of one path with the same key are one version. Owner, mode and times make no other one."""
    return entry.kind, entry.content, entry.size, entry.target, entry.rdev


def content_id(entry: Entry) -> str:
    """Names a file's content: that of a small file is its SHA-256, that of a larger one a hash over those of its units
    and blobs; "" for everything else. Cut by the same rules, the same bytes have the same."""
    if entry.kind is not Kind.FILE or not entry.content:
        return ""
    if isinstance(entry.content, tuple):  # the ids of pages, two of them as long as a small file's content
        return fmt.sha256(b"".join(entry.content)).hex()
    return (entry.content[32:] if len(entry.content) == WHOLE else fmt.sha256(entry.content)).hex()


class _Search:
    """Reads each page once and remembers what fits on it and below it."""

    def __init__(self, repository: Repository, path: bytes, fits: Callable[[Entry], bool]) -> None:
        self._load, self._path, self._fits = repository.load_blob, path, fits
        self._known: dict[bytes, tuple[Entry, ...]] = {}

    def within(self, page: bytes) -> tuple[Entry, ...]:
        if page not in self._known:
            self._known[page] = tuple(self._read(page))
        return self._known[page]

    def _read(self, page: bytes) -> Iterator[Entry]:
        raw = self._load(page)
        if tree.is_leaf(raw):
            yield from filter(self._fits, tree.decode_page(raw))
            return
        for reference in tree.references_to(raw, self._path):
            yield from self.within(reference.id)
