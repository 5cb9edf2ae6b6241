"""The rescue after slots came and went and new keys were drawn, also where a kill cut that off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backups.engine import Repository, Secret, keys, rekey
from backups.engine.stores.local import LocalStore
from tests.engine.scenery import KEY, archived, plant, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm
from tests.golden.reader import Reader
from tests.rescue.island import Island

CODE = keys.encode_recovery_code(bytes(range(40, 72)))
ANN = Secret.keyfile(b"the keyfile that Ann keeps in a drawer")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """One backup under the first keys; the console, the paper and Ann have a way in."""
    folder = tmp_path / "repository"
    secrets = [(KEY, "application"), (Secret.recovery_code(CODE), "paper"), (ANN, "Ann")]
    repository = Repository.create(LocalStore(str(folder)), secrets, console="test")
    archived(repository, scanned(plant(tmp_path / "data", {"one": b"first"})), "first")
    return folder


def opened(place: Path) -> Repository:
    return Repository.open(LocalStore(str(place)), KEY)


def listed(island: Island, place: Path, **secret: str) -> tuple[int, list[str], str]:
    ran = island.run("list", place, **secret)
    return ran.code, sorted(line.split()[0] for line in ran.out.splitlines()), ran.said


def test_the_paper_opens_what_was_written_under_all_keys(island: Island, place: Path, tmp_path: Path) -> None:
    rekey.rotate(opened(place))
    archived(opened(place), scanned(plant(tmp_path / "more", {"two": b"second"})), "second")
    rekey.rotate(opened(place))
    archived(opened(place), scanned(plant(tmp_path / "yet", {"three": b"third"})), "third")

    for snapshot, path in (("first", "data/one"), ("second", "more/two"), ("third", "yet/three")):
        ran = island.run("restore", place, snapshot, tmp_path / f"back-{snapshot}", AIHUB_RECOVERY_CODE=CODE)
        assert (ran.code, ran.said) == (0, "")
        found = Path(f"{tmp_path}/back-{snapshot}{tmp_path}/{path}")
        assert found.read_bytes() == snapshot.encode()
    assert Reader(place, "recovery", keys.decode_recovery_code(CODE)).snapshots.keys() == {"first", "second", "third"}


def test_a_slot_that_was_removed_opens_nothing_when_it_is_put_back(island: Island, place: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(place / "keys", tmp_path / "kept")
    (tmp_path / "ann").write_bytes(ANN.value)
    before = listed(island, place, AIHUB_KEYFILE=str(tmp_path / "ann"))
    rekey.remove(opened(place), "Ann")
    shutil.copytree(kept, place / "keys", dirs_exist_ok=True)

    code, _, said = listed(island, place, AIHUB_KEYFILE=str(tmp_path / "ann"))

    assert before[:2] == (0, ["first"])
    assert code == 7
    assert "was removed from the repository: use another secret" in said
    assert listed(island, place, AIHUB_RECOVERY_CODE=CODE) == (0, ["first"], "")


@pytest.mark.parametrize("at", range(1, 8))
def test_a_change_of_keys_that_was_cut_off_shuts_no_paper_out(island: Island, place: Path, at: int) -> None:
    with pytest.raises(Crash):
        rekey.rotate(Repository.open(FaultyStore(LocalStore(str(place)), [Fault(Harm.CRASH_AFTER, "put", at=at)]), KEY))

    assert listed(island, place, AIHUB_RECOVERY_CODE=CODE) == (0, ["first"], "")
