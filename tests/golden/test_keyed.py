"""A repository whose keys were changed stays readable, with every secret that it has and with none that it had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backups import engine
from backups.engine import rekey
from backups.engine.errors import SlotRemoved, WrongSecret
from backups.engine.stores.local import LocalStore
from tests.golden import keyed
from tests.golden.reader import Reader, recovery_code
from tests.rescue.island import Island

KEYED = Path(__file__).parent / "v1-keys"
SECRETS = {
    "keyfile": engine.Secret.keyfile(keyed.KEYFILE),
    "paper": engine.Secret.recovery_code(keyed.RECOVERY_CODE),
    "passphrase": engine.Secret.passphrase(keyed.PASSPHRASE),
}


def opened(secret: engine.Secret) -> engine.Repository:
    return engine.Repository.open(LocalStore(str(KEYED)), secret)


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_reads_what_was_written_under_all_keys(name: str, tmp_path: Path) -> None:
    repository = opened(SECRETS[name])

    for snapshot in keyed.SNAPSHOTS:
        found = repository.log.snapshot(snapshot)
        base = os.fsencode(found.facts["roots"][0]).strip(b"/")
        engine.restore(repository, found, os.fsencode(tmp_path / snapshot), base=base)
        assert (tmp_path / snapshot / "file").read_bytes() == keyed.content(snapshot)
    assert repository.ring.masters.keys() == {1, 2, 3}
    assert [(slot.label, slot.works) for slot in sorted(rekey.slots(repository), key=lambda slot: slot.label)] == [
        ("application", True), ("people", True), ("printed", True),
    ]  # fmt: skip


def test_it_is_sound_and_the_slot_that_came_back_is_told() -> None:
    done = engine.check(opened(SECRETS["paper"]), 3)

    assert done.problems == []
    assert len(done.removed_keys) == 1


def test_secrets_that_it_had_open_nothing() -> None:
    with pytest.raises(SlotRemoved):
        opened(engine.Secret.keyfile(keyed.GUEST))
    with pytest.raises(WrongSecret):
        opened(engine.Secret.passphrase(keyed.OLD_PASSPHRASE))


def test_it_is_read_without_the_engine() -> None:
    reader = Reader(KEYED, "recovery", recovery_code(keyed.RECOVERY_CODE))

    assert set(reader.snapshots) == set(keyed.SNAPSHOTS)
    for snapshot in keyed.SNAPSHOTS:
        row = next(row for row in reader.rows(reader.snapshots[snapshot]) if row.path.endswith(b"/file"))
        assert reader.content(row) == keyed.content(snapshot)


def test_the_rescue_program_reads_it_and_refuses_the_guest(tmp_path: Path) -> None:
    island = Island(tmp_path / "island")
    (tmp_path / "guest").write_bytes(keyed.GUEST)

    listed = island.run("list", KEYED, AIHUB_PASSPHRASE=keyed.PASSPHRASE)
    refused = island.run("list", KEYED, AIHUB_KEYFILE=str(tmp_path / "guest"))

    assert (listed.code, len(listed.out.splitlines()), listed.said) == (0, 3, "")
    assert refused.code == 7
