"""A first look at the trees of a check, taken while worker processes read the packs.

It only finds out whether every page can be read and every blob that one names is in some index. Where that is not so,
or a pack turns out to be damaged, the check walks the trees once more and names what is harmed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from backups.engine import content, tree
from backups.engine import format as fmt
from backups.engine.errors import BlobMissing, ObjectDamaged, ObjectMissing
from backups.engine.log import Snapshot
from backups.engine.repository import Repository


class TreeGlance:
    """step() looks at one more page; each page is read once, however many snapshots share it."""

    def __init__(self, repository: Repository, snapshots: Iterable[Snapshot]) -> None:
        self._repository = repository
        self._seen: set[bytes] = set()
        self._steps = self._walk(list(snapshots))
        self._sound = True

    def step(self) -> bool:
        """False: there is nothing more to look at."""
        try:
            return next(self._steps, None) is not None
        except (ObjectMissing, ObjectDamaged, BlobMissing):
            self._sound = False
            return False

    def finish(self) -> bool:
        """Look at the rest. Whether everything that the trees name is there."""
        while self.step():
            pass
        return self._sound

    def _walk(self, snapshots: list[Snapshot]) -> Iterator[bytes]:
        for snapshot in snapshots:
            yield from self._page(snapshot.root, snapshot.root_sha256)

    def _page(self, page: bytes, sha256: bytes = b"") -> Generator[bytes, None, None]:
        """sha256: what the raw page must have, where a record says so."""
        if page in self._seen and not sha256:
            return
        self._seen.add(page)
        raw = self._repository.load_blob(page)
        if sha256 and fmt.sha256(raw) != sha256:
            raise ObjectDamaged("", "the root page is not the one that the record names")
        yield page
        if tree.is_leaf(raw):
            return self._leaf(raw)
        for reference in tree.references(raw)[1]:
            yield from self._page(reference.id)
        return None

    def _leaf(self, raw: bytes) -> None:
        index, load = self._repository.index, self._repository.load_blob
        for made_of in tree.contents(raw):
            for blob in content.blob_ids(made_of, load):
                if blob not in index:
                    raise BlobMissing(blob)
