"""What two consoles have written into a repository is understood for ever: holds, keys, the take-over, what is gone."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from backups import engine
from backups.engine import console
from backups.engine.errors import SnapshotMissing, TakenOver
from backups.engine.stores.local import LocalStore
from tests.components import needs_root
from tests.golden import lived
from tests.golden.reader import Reader
from tests.golden.rows import assert_came_back
from tests.proofs.workshop import OK, Engine

LIVED = Path(__file__).parent / "v1-lived"
HOLDS: dict[str, Any] = json.loads((LIVED.parent / "v1-lived.json").read_text())
SECRETS = {
    "old console": engine.Secret.keyfile(lived.FIRST),
    "new console": engine.Secret.keyfile(lived.SECOND),
    "people": engine.Secret.passphrase(lived.PASSPHRASE),
    "paper": engine.Secret.recovery_code(lived.RECOVERY_CODE),
}


def opened(who: str = "new console", place: Path = LIVED) -> engine.Repository:
    return engine.Repository.open(LocalStore(str(place)), SECRETS[who])


@pytest.mark.parametrize("who", SECRETS)
def test_every_secret_sees_the_same(who: str) -> None:
    log = opened(who).log

    assert sorted(log.live) == sorted(HOLDS["snapshots"])
    assert sorted(log.gone) == HOLDS["forgotten"]
    assert log.holds == HOLDS["holds"]
    assert log.owner["console"] == HOLDS["console"]
    assert all(snapshot.facts == lived.FACTS for snapshot in log.live.values())
    assert (log.damaged, log.missing, log.blocked, len(log.leaves)) == ([], set(), "", 1)
    assert log.unread  # the checkpoint is believed


def test_the_keys_of_the_console_come_back() -> None:
    keys = console.read(opened("paper"))

    assert ({name: data.decode() for name, data in keys.files.items()}, keys.console) == (
        HOLDS["keys"],
        HOLDS["console"],
    )
    assert Reader(LIVED, "passphrase", lived.PASSPHRASE.encode()).console_keys() == keys.files


def test_what_was_forgotten_is_not_found() -> None:
    with pytest.raises(SnapshotMissing):
        opened().log.snapshot("gone at once")


def test_only_the_console_that_took_over_may_write(tmp_path: Path) -> None:
    place = Path(copytree(LIVED, tmp_path / "lived"))

    opened("new console", place).log.append("forget", {"forget": ["first"]})
    opened("people", place).log.append("forget", {"forget": ["second"]})
    with pytest.raises(TakenOver, match=lived.NEW):
        opened("old console", place).log.append("forget", {"forget": ["third"]})

    assert sorted(opened("old console", place).log.live) == ["fourth", "third"]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_it_is_sound(level: int) -> None:
    assert engine.check(opened(), level).problems == []


@pytest.mark.root
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("snapshot", HOLDS["snapshots"])
def test_everything_comes_back(tmp_path: Path, snapshot: str, workers: int) -> None:
    needs_root()
    repository, told, target = opened(), list[engine.ItemError](), tmp_path / "target"
    options = engine.RestoreOptions(workers=workers, privileges=True)

    engine.restore(
        repository, repository.log.snapshot(snapshot), bytes(target), options=options, report=told.append
    )  # fmt: skip

    assert len(told) == assert_came_back(target, HOLDS["snapshots"][snapshot])
    assert (target / "var/tmp").stat().st_mode & 0o7777 == 0o1777
    sparse = next(target.rglob("sparse")).stat()
    assert sparse.st_blocks * 512 < sparse.st_size == 9 << 20


@pytest.mark.root
def test_the_command_line_lists_checks_and_restores_it(tmp_path: Path) -> None:
    needs_root()
    face = Engine(tmp_path, passphrase=lived.PASSPHRASE, repository=LIVED)

    assert sorted(face.snapshots()) == sorted(HOLDS["snapshots"])
    assert face.run("check", "--read-data", codes=(OK,)).result["problems"] == []
    face.run("restore", "--snapshot", "fourth", "--base", "/", "--target", tmp_path / "target", "--privileges")
    assert_came_back(tmp_path / "target", HOLDS["snapshots"]["fourth"])


@pytest.mark.root
def test_it_still_writes_what_it_reads(tmp_path: Path) -> None:
    """Made anew by today's engine, everything but times and random keys is the same."""
    needs_root()
    told = lived.make(tmp_path / "new")

    log = opened("paper", tmp_path / "new").log
    assert {name: told[name] for name in ("holds", "forgotten", "console", "keys")} == {
        name: HOLDS[name] for name in ("holds", "forgotten", "console", "keys")
    }
    assert (log.holds, sorted(log.gone), sorted(log.live)) == (
        told["holds"],
        told["forgotten"],
        sorted(told["snapshots"]),
    )
