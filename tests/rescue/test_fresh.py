"""A tree of oddities that the engine backed up yesterday comes back with all its attributes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from backups.engine import CompactOptions, Repository, Secret, compact
from backups.engine.stores.local import LocalStore
from tests.components import needs_root, open_the_way
from tests.engine.scenery import archived, scanned
from tests.engine.trees import picture, plant_oddities, remove
from tests.rescue.fresh import PASSPHRASE, backed_up, engine
from tests.rescue.island import Island

FLAGS = 8  # their place in a row of a picture; the program says that it does not bring them back
NAMES = 11  # the first name of the same inode


@pytest.mark.root
def test_everything_odd_comes_back(island: Island, tmp_path: Path) -> None:
    needs_root()
    source, target = tmp_path / "source", tmp_path / "back"
    plant_oddities(source)
    repository = backed_up(tmp_path, source)

    ran = island.run("restore", repository, "latest", target, AIHUB_PASSPHRASE=PASSPHRASE)

    back = Path(f"{target}{source}")
    assert (ran.code, ran.said) == (0, "")
    assert _without_flags(picture(back)) == _without_flags(picture(source))
    assert os.stat(back / "sparse").st_blocks * 512 < 1 << 20  # of 100 GiB
    remove(target)
    remove(source)


def test_it_needs_no_root(island: Island, tmp_path: Path) -> None:
    """Who owns what is then the person's who asked, and nothing gets the rights of a stranger."""
    needs_root()
    source = tmp_path / "source"
    source.mkdir()
    (source / "tool").write_text("#!")
    os.chown(source / "tool", 4711, 4711)
    os.chmod(source / "tool", 0o6755)
    repository = backed_up(tmp_path, source)
    _give_away(tmp_path, 65_534)
    island.user = 65_534

    ran = island.run("restore", repository, "latest", tmp_path / "back", AIHUB_PASSPHRASE=PASSPHRASE)

    assert (ran.code, ran.said) == (0, "")
    st = os.stat(f"{tmp_path}/back{source}/tool")
    assert (st.st_uid, st.st_mode & 0o7777) == (65_534, 0o755)


def test_a_repository_that_gave_space_back_is_as_whole_as_any(island: Island, tmp_path: Path) -> None:
    """Index objects and packs that a snapshot wrote are gone; nobody misses them."""
    source, place = tmp_path / "source", LocalStore(str(tmp_path / "repository"))
    source.mkdir()
    (source / "file").write_bytes(os.urandom(300_000))
    engine(tmp_path, "init", tmp_path / "repository")
    hosts = [_opened(place) for _ in range(2)]  # neither knows what the other one stores
    for number, host in enumerate(hosts):
        archived(host, scanned(source), f"snapshot {number}")
    wrote = {name for host in hosts for name in host.snapshots[-1].index}

    done = compact(_opened(place), CompactOptions(unused=0.0), wait=lambda _marks: True)

    left = {info.name for info in place.list("index/")}
    assert done.freed > 300_000
    assert wrote - left
    for number in range(2):
        back = tmp_path / f"back {number}"
        ran = island.run("restore", tmp_path / "repository", f"snapshot {number}", back, AIHUB_PASSPHRASE=PASSPHRASE)
        assert (ran.code, ran.said) == (0, "")
        assert Path(f"{back}{source}/file").read_bytes() == (source / "file").read_bytes()


def _opened(place: LocalStore) -> Repository:
    repository = Repository.open(place, Secret.passphrase(PASSPHRASE))
    repository.sync_index()
    return repository


def _without_flags(found: dict[bytes, Any]) -> dict[bytes, Any]:
    return {path: row[:FLAGS] + row[FLAGS + 1 :] for path, row in found.items()}


def _give_away(top: Path, owner: int) -> None:
    for folder, _, names in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, owner, owner, follow_symlinks=False)
    open_the_way(top)


def test_a_repository_that_is_closed_to_us_is_not_taken_for_an_empty_place(island: Island, tmp_path: Path) -> None:
    needs_root()
    place = tmp_path / "closed"
    (place / "keys").mkdir(parents=True)
    _give_away(tmp_path, 65_534)
    place.chmod(0)
    island.user = 65_534

    ran = island.run("list", place, AIHUB_PASSPHRASE=PASSPHRASE)

    assert ran.code == 1
    assert "Permission denied" in ran.said
