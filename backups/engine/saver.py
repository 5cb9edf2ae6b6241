"""What a run has stored so far: finished packs, and the index objects that describe them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from backups.engine import format as fmt
from backups.engine.capture import Known
from backups.engine.codec import Codec, Compressor
from backups.engine.format import ObjectType
from backups.engine.index import seal_index
from backups.engine.pack import PackInfo, PackWriter
from backups.engine.repository import Repository
from backups.engine.table import FEW, load_numpy

BLOBS_PER_INDEX = 1 << 17  # bounds the memory of sorting and sealing them, about 30 MB


class RunIndex:
    """Collects the packs of a run and writes an index object after every few of them.

    What an index object names is found by a later run: it is the point from which a killed run resumes.

    packers  how many fill packs at once. One pack of each may be stored before we hear of it, so as many fewer are
             waited for: a kill costs at most PACKS_PER_INDEX packs, with more than three workers a few more
    """

    def __init__(self, repository: Repository, packers: int = 1) -> None:
        self._repository = repository
        self._enough = max(fmt.PACKS_PER_INDEX - packers, fmt.PACKS_PER_INDEX // 2)
        self._pending: list[PackInfo] = []
        self._blobs = 0
        self.names: list[str] = []
        self.tree_packs: list[bytes] = []
        self.stored = 0  # bytes of all packs
        self.blobs = 0  # of all packs, those stored twice too
        self._numpy: Thread | None = None

    def add(self, pack: PackInfo) -> None:
        """A pack that is durable."""
        self._pending.append(pack)
        blobs = sum(len(frame.lengths) // 4 for frame in pack.frames)
        if self.blobs <= FEW < self.blobs + blobs:
            self._numpy = load_numpy()  # needed at the very end, when nobody else has anything to do
        self._blobs += blobs
        self.blobs += blobs
        self.stored += pack.size
        if pack.envelope.type == ObjectType.TREE_PACK:
            self.tree_packs.append(pack.digest)
        if len(self._pending) >= self._enough or self._blobs >= BLOBS_PER_INDEX:
            self.write()

    def make_way(self, packs: int) -> None:
        """So many more may be stored before we hear of them, and one of the tree."""
        if len(self._pending) + packs + 1 > fmt.PACKS_PER_INDEX:
            self.write()

    def write(self) -> None:
        if not self._pending:
            return
        data = seal_index(self._repository.sealer, self._pending)
        name = fmt.index_name(fmt.sha256(data))
        self._repository.store.put(name, data)
        self.names.append(name)
        self.stored += len(data)
        self._pending, self._blobs = [], 0

    def close(self) -> None:
        """No thread of ours is left when this returns."""
        if self._numpy:
            self._numpy.join()


class TreeSaver:
    """Stores tree pages and content pages as blobs of tree packs; pages that exist already cost nothing."""

    def __init__(self, repository: Repository, sealed: Callable[[PackInfo], None]) -> None:
        self._repository = repository
        self._known: Known = repository.sync_index()
        self._mine: set[bytes] = set()
        self._packer = PackWriter(
            repository.sealer, ObjectType.TREE_PACK, Compressor(Codec.ZSTD, 3), repository.store.put, sealed
        )

    def save(self, raw: bytes) -> bytes:
        page_id = self._repository.id_of(raw)
        if page_id not in self._mine and page_id not in self._known:
            self._mine.add(page_id)
            self._packer.add(page_id, raw)
        return page_id

    def distrust(self) -> None:
        """Store pages from now on though the index knows them: what holds them proved to be damaged."""
        self._known = frozenset()

    def settle(self) -> None:
        """Wait for a pack that is being written in the background."""
        self._packer.settle()

    def flush(self) -> None:
        self._packer.flush()
