"""What damage harms: from the packs that cannot be relied on to the paths that cannot be restored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from backups.engine import content, tree
from backups.engine import format as fmt
from backups.engine.entry import Entry
from backups.engine.errors import BlobMissing, ObjectDamaged, ObjectMissing
from backups.engine.index import Location
from backups.engine.log import Snapshot
from backups.engine.repository import Repository

UNREADABLE = b"(a stretch of the tree that cannot be read)"


class Harm(NamedTuple):
    """One path that cannot be restored, and the object that is to blame ("": the index, which does not know a blob)."""

    path: bytes
    object: str
    why: str


class BadPacks:
    """Packs that are not what they should be, by their SHA-256, and what of them is lost."""

    def __init__(self) -> None:
        self.why: dict[bytes, str] = {}
        self.condemned: frozenset[bytes] = frozenset()  # a compaction is deleting them, or was cut off
        self._lost: set[bytes] = set()  # nothing in them can be relied on
        self._blobs: set[tuple[bytes, bytes]] = set()  # (pack, damaged blob in it); its other blobs are sound

    def lose(self, digest: bytes, why: str) -> None:
        """Nothing in this pack can be relied on."""
        self._lost.add(digest)
        self.why[digest] = why

    def spoil(self, digest: bytes, blobs: Iterable[bytes]) -> None:
        """These blobs in a pack are damaged, the others are sound."""
        found = {(digest, blob) for blob in blobs}
        self._blobs |= found
        self.why[digest] = f"{len(found)} blobs in it are damaged"

    def blame(self, location: Location, blob: bytes) -> bytes:
        """The pack, if the blob cannot be had from there; b"" if it can."""
        lost = location.pack in self._lost or (location.pack, blob) in self._blobs
        return location.pack if lost or location.pack in self.condemned else b""

    def reason(self, digest: bytes) -> str:
        """Why a blob cannot be had from this pack."""
        return self.why.get(digest, "a compaction gave it up")


class TreeJudge:
    """Walks the trees of snapshots. Each page is read once, however many snapshots share it."""

    def __init__(self, repository: Repository, bad: BadPacks) -> None:
        self._repository, self._bad = repository, bad
        self.unlocated = False  # was there a blob that no index object knows?
        self._clean: set[bytes] = set()  # tree pages that name nothing bad
        self._harm: dict[bytes, list[Harm]] = {}  # tree page → what is wrong on or below it

    def tree(self, snapshot: Snapshot) -> Iterator[Harm]:
        """All that cannot be restored of a snapshot, each path once for each object that is to blame."""
        yield from self._page(snapshot.root)
        try:
            raw = self._repository.load_blob(snapshot.root)
        except (ObjectMissing, ObjectDamaged, BlobMissing):
            return  # told with the page
        if fmt.sha256(raw) != snapshot.root_sha256:
            yield Harm(b"/", snapshot.record, "the root page is not the one that the record names")

    def _page(self, page: bytes) -> Iterator[Harm]:
        """Harm on or below a page; each page is read once, however many snapshots share it."""
        if page in self._clean:
            return
        if page not in self._harm:
            found = list(self._examine(page))
            if not found:
                self._clean.add(page)
                return
            self._harm[page] = found
        yield from self._harm[page]

    def _examine(self, page: bytes) -> Iterator[Harm]:
        try:
            raw = self._repository.load_blob(page)
        except (ObjectMissing, ObjectDamaged, BlobMissing) as error:
            self.unlocated |= isinstance(error, BlobMissing)
            yield Harm(UNREADABLE, getattr(error, "name", ""), f"a tree page cannot be read: {error}")
            return
        for reference in tree.references(raw)[1]:
            yield from self._page(reference.id)
        if tree.is_leaf(raw):
            for entry in tree.decode_page(raw):
                yield from self._entry(entry)

    def _entry(self, entry: Entry) -> Iterator[Harm]:
        try:
            for blob in blobs_of(self._repository, entry):
                bad = [self._bad.blame(location, blob) for location in self._repository.index.find_all(blob)]
                if not bad:
                    self.unlocated = True
                    yield Harm(entry.path, "", f"blob {blob.hex()} is in no index")
                elif all(bad):  # else another copy of it is sound
                    yield from (Harm(entry.path, fmt.pack_name(digest), self._bad.reason(digest)) for digest in bad)
        except (ObjectMissing, ObjectDamaged, BlobMissing) as error:
            self.unlocated |= isinstance(error, BlobMissing)
            yield Harm(entry.path, getattr(error, "name", ""), f"a content page cannot be read: {error}")


def blobs_of(repository: Repository, entry: Entry) -> Iterator[bytes]:
    """Ids of all that an entry's content is made of. Raises what reading a content page raises."""
    if entry.content:
        yield from content.blob_ids(entry.content, repository.load_blob)
