"""What a commit makes sure of: all that the snapshot needs is there, whatever a compaction did meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.engine import Repository, Snapshot
from backups.engine.commit import CommitGuard, must_be_proven, proven
from backups.engine.errors import Overtaken
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import archived, new_repository, opened, plant, scanned
from tests.engine.test_compaction import noise


class Late:
    """A writer that listed the log, was suspended, and puts its record beside a sweep it never saw."""

    def __init__(self, folder: Path, store: MemoryStore) -> None:
        self.store, self._folder = store, folder
        first = new_repository(store)
        archived(first, scanned(plant(folder / "old", {"returns": noise("returns", 3000)})), "old")
        archived(first, scanned(plant(folder / "kept", {"kept": noise("kept", 3000)})), "kept")
        self.writer = opened(store)
        self.writer.sync_index()
        first.log.append("forget", {"forget": ["old"]})

    def commits(self, patch: pytest.MonkeyPatch, file: str) -> Snapshot:
        """A snapshot of one file, put beside a sweep of the pack that holds "returns"."""

        def commit(guard: CommitGuard, snapshot: Snapshot) -> Snapshot:
            sweeper = self.again
            pack = sweeper.sync_index().locate(sweeper.id_of(noise("returns", 3000))).pack
            sweeper.log.append("sweep", {"marks": [], "packs": [pack], "index": []})
            guard._repository.log._put("snapshot", snapshot.pack())
            return snapshot

        with patch.context() as suspended:
            suspended.setattr(CommitGuard, "commit", commit)
            archived(self.writer, scanned(plant(self._folder / "late", {file: noise(file, 3000)})), "late")
        return self.again.log.live["late"]

    @property
    def again(self) -> Repository:
        return opened(self.store)


@pytest.fixture
def late(tmp_path: Path) -> Late:
    return Late(tmp_path, MemoryStore())


def test_a_snapshot_beside_a_sweep_that_took_what_it_needs_is_taken_back(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = late.commits(monkeypatch, "returns")
    repository = late.again
    assert not proven(repository, snapshot)

    with pytest.raises(Overtaken, match="Space was given back in the repository while this run went on") as caught:
        must_be_proven(repository, snapshot)

    assert not caught.value.permanent
    assert "late" in late.again.log.gone
    assert [one.id for one in late.again.snapshots] == ["kept"]


def test_a_snapshot_beside_a_sweep_that_took_nothing_of_it_stands(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = late.commits(monkeypatch, "kept")
    repository = late.again
    assert repository.log.concurrent_sweeps(snapshot.record)

    must_be_proven(repository, snapshot)

    assert {one.id for one in late.again.snapshots} == {"kept", "late"}


def test_what_a_checkpoint_covers_was_proven_long_ago(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = late.commits(monkeypatch, "kept")
    late.again.log.append_checkpoint()

    repository = late.again

    assert snapshot.record in repository.log.unread
    assert proven(repository, snapshot)
