"""Repositories that were compacted, repaired and brought under new keys stay readable, byte for byte, by the engine, by
a reader that knows docs/format.md only, and by the rescue program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups import engine
from backups.engine.stores.local import LocalStore
from tests.golden import kept
from tests.golden.reader import Reader, recovery_code
from tests.rescue.island import Island

HERE = Path(__file__).parent
SNAPSHOTS = [(name, snapshot) for name, held in kept.HELD.items() for snapshot in held]


def opened(name: str) -> engine.Repository:
    return engine.Repository.open(LocalStore(str(HERE / name)), engine.Secret.passphrase(kept.PASSPHRASE))


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def island(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Island]:
    yield Island(tmp_path_factory.mktemp("island"))


@pytest.mark.parametrize(("name", "snapshot"), SNAPSHOTS)
def test_the_engine_restores_it(name: str, snapshot: str, tmp_path: Path) -> None:
    repository = opened(name)
    found = repository.log.snapshot(snapshot)
    base = os.fsencode(found.facts["roots"][0]).strip(b"/")

    engine.restore(repository, found, os.fsencode(tmp_path / "back"), base=base)

    assert files_below(tmp_path / "back") == kept.HELD[name][snapshot]


@pytest.mark.parametrize(("name", "snapshot"), SNAPSHOTS)
def test_the_rescue_program_restores_it(island: Island, name: str, snapshot: str, tmp_path: Path) -> None:
    ran = island.run("restore", HERE / name, snapshot, tmp_path / "back", AIHUB_PASSPHRASE=kept.PASSPHRASE)

    (root,) = opened(name).log.snapshot(snapshot).facts["roots"]
    assert (ran.code, ran.said) == (0, "")
    assert files_below(Path(f"{tmp_path}/back{root}")) == kept.HELD[name][snapshot]


@pytest.mark.parametrize(("name", "snapshot"), SNAPSHOTS)
def test_it_is_read_without_either(name: str, snapshot: str) -> None:
    reader = Reader(HERE / name, "recovery", recovery_code(kept.RECOVERY_CODE))
    (root,) = reader.snapshots[snapshot]["facts"]["roots"]
    below = os.fsencode(root).strip(b"/") + b"/"

    rows = {os.fsdecode(row.path[len(below) :]): row for row in reader.rows(reader.snapshots[snapshot])}

    wanted = kept.HELD[name][snapshot]
    assert reader.snapshots.keys() == kept.HELD[name].keys()
    assert {path: reader.content(rows[path]) for path in wanted} == wanted


@pytest.mark.parametrize("name", kept.HELD)
def test_it_is_sound(name: str) -> None:
    assert engine.check(opened(name), 3, workers=0).problems == []


def test_what_was_marked_waits_for_its_sweep() -> None:
    repository = opened("v1-compacted")

    assert repository.log.marks.marked
    assert repository.log.marks.condemned == {}
    assert repository.log.marks.leaving < repository.stored_packs().keys()


def test_the_wrong_bytes_of_the_repaired_one_are_kept_aside() -> None:
    aside = [path for path in (HERE / "v1-repaired" / "quarantine").rglob("*") if path.is_file()]

    assert len(aside) == 1


def test_nothing_of_the_renewed_one_is_under_the_first_keys_but_records() -> None:
    repository = opened("v1-renewed")

    assert repository.ring.masters.keys() == {1, 2, 3}
    assert {pack.envelope.epoch for pack in repository.sync_index().packs()} == {2, 3}
    assert {path.read_bytes()[7] for path in (HERE / "v1-renewed" / "index").iterdir()} <= {2, 3}
    assert 1 in {path.read_bytes()[7] for path in (HERE / "v1-renewed" / "log").rglob("*") if path.is_file()}
