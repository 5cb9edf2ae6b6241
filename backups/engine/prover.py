"""Proving whole packs, in the worker processes of a check."""

from __future__ import annotations

from typing import Any

from backups.engine import format as fmt
from backups.engine.envelope import Opened
from backups.engine.errors import NewerFormat, ObjectDamaged, ObjectMissing, WrongSecret
from backups.engine.pack import FrameInfo, read_pack
from backups.engine.repository import Repository
from backups.engine.workers import Task, keep_memory


class PackProver:
    """The worker's side: reads one pack whole and proves it."""

    def __init__(self, repository: Repository, *, forked: bool) -> None:
        if forked:
            repository.forked()
            keep_memory()
        self._repository = repository

    def do(self, task: Task) -> dict[str, Any]:
        _, digest, level = task
        name, intact = fmt.pack_name(digest), False
        try:
            data = self._repository.store.get(name)
            found = fmt.sha256(data)
            intact = found == digest
            if level < 3:
                return {"damage": "" if intact else "its SHA-256 is not its name", "blobs": []}
            blobs = self._bad_blobs(name, data, found)
            return {"damage": "" if intact or blobs else "its SHA-256 is not its name", "blobs": blobs}
        except ObjectMissing:
            return {"damage": "it is missing", "blobs": []}
        except ObjectDamaged as damage:
            return {"damage": damage.why, "blobs": []}
        except (NewerFormat, WrongSecret) as error:  # what a damaged header says of format and epoch
            return {"damage": str(error) if intact else "its SHA-256 is not its name", "blobs": []}

    def _bad_blobs(self, name: str, data: bytes, digest: bytes) -> list[bytes]:
        info, opened = read_pack(self._repository.sealer, name, data, digest)
        return [blob for frame in info.frames for blob in self._bad_in_frame(opened, frame)]

    def _bad_in_frame(self, opened: Opened, frame: FrameInfo) -> list[bytes]:
        """The ids of the blobs in a frame that are not what their ids say; all of them where it does not open."""
        try:
            raw = memoryview(opened.section(frame.section))
        except ObjectDamaged:
            return [blob.id for blob in frame.blobs()]
        bad, at, id_of = [], 0, self._repository.id_of
        for blob_id, length in frame.blobs():
            if id_of(raw[at : at + length]) != blob_id:
                bad.append(blob_id)
            at += length
        return bad

    def finish(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is kept open."""
