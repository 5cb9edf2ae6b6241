"""Proving whole packs, in the worker processes of a check."""

from __future__ import annotations

from typing import Any

from backups.engine import format as fmt
from backups.engine.errors import NewerFormat, ObjectDamaged, ObjectMissing, WrongSecret
from backups.engine.pack import read_pack
from backups.engine.repository import Repository
from backups.engine.workers import Task


class PackProver:
    """The worker's side: reads one pack whole and proves it."""

    def __init__(self, repository: Repository, *, forked: bool) -> None:
        if forked:
            repository.forked()
        self._repository = repository

    def do(self, task: Task) -> dict[str, Any]:
        _, digest, level = task
        name, intact = fmt.pack_name(digest), False
        try:
            data = self._repository.store.get(name)
            intact = fmt.sha256(data) == digest
            if level < 3:
                return {"damage": "" if intact else "its SHA-256 is not its name", "blobs": []}
            blobs = self._bad_blobs(name, data)
            return {"damage": "" if intact or blobs else "its SHA-256 is not its name", "blobs": blobs}
        except ObjectMissing:
            return {"damage": "it is missing", "blobs": []}
        except ObjectDamaged as damage:
            return {"damage": damage.why, "blobs": []}
        except (NewerFormat, WrongSecret) as error:  # what a damaged header says of format and epoch
            return {"damage": str(error) if intact else "its SHA-256 is not its name", "blobs": []}

    def _bad_blobs(self, name: str, data: bytes) -> list[bytes]:
        info, opened = read_pack(self._repository.sealer, name, data)
        bad: list[bytes] = []
        for frame in info.frames:
            try:
                raw = memoryview(opened.section(frame.section))
            except ObjectDamaged:
                bad += [blob.id for blob in frame.blobs()]
                continue
            at = 0
            for blob in frame.blobs():
                if self._repository.id_of(raw[at : at + blob.length]) != blob.id:
                    bad.append(blob.id)
                at += blob.length
        return bad

    def finish(self) -> None:
        """Nothing is held back."""
