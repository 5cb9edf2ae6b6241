"""TreeGlance: the look at the trees that a check takes while it waits for the packs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from backups.engine import Repository
from backups.engine import format as fmt
from backups.engine.glance import TreeGlance
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import archived, new_repository, opened, plant, scanned

FILES = {f"d{n % 7}/file-{n}": b"%d" % n for n in range(2000)}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore, tmp_path: Path) -> Repository:
    """Two snapshots of many pages, nearly all of them shared."""
    root, repository = plant(tmp_path / "data", FILES), new_repository(store)
    first = archived(repository, scanned(root), "first").snapshot
    plant(root, {"z/last": b"last"})
    archived(repository, scanned(root), "second", parent=first)
    again = opened(store)
    again.sync_index()
    return again


def test_it_reads_every_page_once_however_many_snapshots_share_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: Counter[bytes] = Counter()
    load = repository.load_blob
    monkeypatch.setattr(repository, "load_blob", lambda page: loads.update([page]) or load(page))

    sound = TreeGlance(repository, repository.snapshots).finish()

    assert sound
    assert len(loads) > 5
    assert set(loads.values()) == {1}


def test_it_can_be_taken_page_by_page(repository: Repository) -> None:
    glance = TreeGlance(repository, repository.snapshots)

    steps = 0
    while glance.step():
        steps += 1

    assert steps > 5
    assert glance.finish()


def test_it_sees_a_blob_that_is_in_no_index(repository: Repository, store: MemoryStore) -> None:
    second = repository.log.snapshot("second")
    for name in second.index:
        store.delete(name)
    repository.reload_index()

    assert TreeGlance(repository, [repository.log.snapshot("first")]).finish()
    assert not TreeGlance(repository, [second]).finish()


def test_it_sees_a_page_that_cannot_be_read(repository: Repository, store: MemoryStore) -> None:
    store.delete(fmt.pack_name(repository.log.snapshot("first").tree_packs[0]))

    assert not TreeGlance(repository, repository.snapshots).finish()


def test_it_sees_a_root_that_is_not_what_the_record_says(repository: Repository) -> None:
    first, second = repository.snapshots
    forged = dataclasses.replace(first, root_sha256=second.root_sha256)

    assert TreeGlance(repository, [first]).finish()
    assert not TreeGlance(repository, [first, forged]).finish()
