"""Carrying what still lives in a pack over into new packs."""

from __future__ import annotations

from collections.abc import Callable

from backups.engine import format as fmt
from backups.engine.codec import Codec, Compressor
from backups.engine.entry import Blob
from backups.engine.envelope import Opened
from backups.engine.errors import ObjectDamaged, ObjectMissing
from backups.engine.format import ObjectType
from backups.engine.pack import FrameInfo, PackInfo, PackWriter, read_pack
from backups.engine.repository import Repository
from backups.engine.saver import RunIndex
from backups.engine.usage import CARRIED_WHOLE, Usage


class Repacker:
    """Reads packs whole, proves them, and stores anew what lives in them. Index objects tell of the new packs.

    Nothing is taken away here: until somebody deletes the old packs everything stands in two places.
    """

    def __init__(self, repository: Repository, compressor: Compressor, stored: Callable[[PackInfo], None]) -> None:
        self._repository = repository
        self.index = RunIndex(repository)
        self._stored = stored
        pages = Compressor(Codec.ZSTD, 3)
        self._writers = {
            ObjectType.DATA_PACK: self._writer(ObjectType.DATA_PACK, compressor),
            ObjectType.TREE_PACK: self._writer(ObjectType.TREE_PACK, pages),
        }

    def carry(self, digest: bytes, usage: Usage) -> None:
        """What lives in this pack. Raises ObjectMissing, ObjectDamaged; then some of it may have been carried."""
        name = fmt.pack_name(digest)
        data = self._repository.store.get(name)
        if fmt.sha256(data) != digest:
            raise ObjectDamaged(name, "its SHA-256 is not its name")
        info, opened = read_pack(self._repository.sealer, name, data)
        writer = self._writers[ObjectType(info.envelope.type)]
        for frame in info.frames:
            self._frame(frame, opened, writer, [self._lives(blob, digest, usage) for blob in frame.blobs()])

    def finish(self) -> None:
        """All new packs are durable, and index objects tell of them."""
        for writer in self._writers.values():
            writer.flush()
        self.index.write()

    def _frame(self, frame: FrameInfo, opened: Opened, writer: PackWriter, living: list[bool]) -> None:
        dead = sum(blob.length for blob, lives in zip(frame.blobs(), living, strict=True) if not lives)
        if not any(living):
            return
        if dead < CARRIED_WHOLE * frame.section.raw:
            writer.carry(frame, opened.packed(frame.section))
            return
        raw, at = opened.section(frame.section), 0
        for blob, lives in zip(frame.blobs(), living, strict=True):
            if lives:
                self._recode(blob, raw[at : at + blob.length], writer, opened.name)
            at += blob.length

    def _recode(self, blob: Blob, data: bytes, writer: PackWriter, name: str) -> None:
        if self._repository.id_of(data) != blob.id:
            raise ObjectDamaged(name, f"blob {blob.id.hex()[:16]}… has other content than its id says")
        writer.add(blob.id, data)

    def _lives(self, blob: Blob, digest: bytes, usage: Usage) -> bool:
        """Also where another pack is to keep it, and proves not to have it whole."""
        if usage.lives(blob.id, digest):
            return True
        keeper = usage.keeper(blob.id)
        if keeper is None:
            return False
        try:
            self._repository.load_at(keeper, blob.id)
        except (ObjectMissing, ObjectDamaged):
            return True
        return False

    def _writer(self, kind: ObjectType, compressor: Compressor) -> PackWriter:
        repository = self._repository
        return PackWriter(repository.sealer, kind, compressor, repository.store.put, self._sealed, verify=1)

    def _sealed(self, pack: PackInfo) -> None:
        self.index.add(pack)
        self._stored(pack)
