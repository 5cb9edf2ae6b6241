"""A console makes a repository its own: a key slot beside the others, a record that says so, and nobody else writes."""

from __future__ import annotations

import os

import pytest

from backups.engine import Repository, Secret, new_recovery_code, rekey
from backups.engine.errors import TakenOver, WrongSecret
from backups.engine.log import Read
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import KEY, new_repository, opened

OTHER = Secret.keyfile(b"the keyfile of another console, 32 bytes")
HOLD = {"until": 4_000_000_000.0, "reason": "the auditors ask"}


def by(store: MemoryStore, secret: Secret) -> Repository:
    return Repository.open(store, secret)


def test_a_further_secret_opens_the_same_ring() -> None:
    store = MemoryStore()
    ring = new_repository(store).ring
    code = Secret.recovery_code(new_recovery_code())

    rekey.add(by(store, KEY), code, "recovery kit")

    assert by(store, code).ring == ring


def test_a_secret_that_opens_already_keeps_its_slot() -> None:
    store = MemoryStore()
    new_repository(store)
    names = {info.name for info in store.list("keys/")}

    slot = rekey.add(by(store, KEY), KEY, "again")

    assert slot.name in names
    assert {info.name for info in store.list("keys/")} == names


def test_nobody_adds_a_slot_without_a_secret() -> None:
    store = MemoryStore()
    new_repository(store)

    with pytest.raises(WrongSecret):
        rekey.add(by(store, Secret.keyfile(os.urandom(32))), OTHER, "thief")


def test_the_one_that_adopts_writes_and_the_other_does_not() -> None:
    store = MemoryStore()
    first = new_repository(store)
    rekey.adopt(opened(store), OTHER, "application")

    with pytest.raises(TakenOver, match="may only read it"):
        first.log.append("hold", {"holds": {}})

    by(store, OTHER).log.append("hold", {"holds": {}})
    assert by(store, OTHER).log.owner["slot"] in by(store, OTHER).log.keys


def test_people_s_own_secrets_are_never_shut_out() -> None:
    store = MemoryStore()
    new_repository(store)
    code = Secret.recovery_code(new_recovery_code())
    rekey.add(by(store, KEY), code, "recovery kit")
    rekey.adopt(opened(store), OTHER, "application")

    by(store, code).log.append("hold", {"holds": {}})

    assert len(by(store, code).log.names) == 5


def test_adopting_again_writes_nothing() -> None:
    store = MemoryStore()
    new_repository(store)
    rekey.adopt(opened(store), OTHER, "application")
    before = {info.name for info in store.list("")}

    rekey.adopt(by(store, OTHER), OTHER, "application")

    assert {info.name for info in store.list("")} == before


def test_the_first_console_takes_it_back() -> None:
    store = MemoryStore()
    new_repository(store)
    rekey.adopt(opened(store), OTHER, "application")

    rekey.adopt(opened(store), KEY, "application")

    opened(store).log.append("hold", {"holds": {}})
    with pytest.raises(TakenOver):
        by(store, OTHER).log.append("hold", {"holds": {}})


def test_holds_and_the_owner_come_back_from_behind_a_checkpoint() -> None:
    store = MemoryStore()
    repository = new_repository(store)
    repository.log.append("hold", {"holds": {"a": {"until": None, "reason": ""}, "b": HOLD}})
    repository.log.append("hold", {"holds": {"a": HOLD}})
    rekey.adopt(repository, KEY, "application")
    owner = repository.log.owner
    repository.log.append_checkpoint()

    later = opened(store)

    assert later.log.unread
    assert later.log.holds == {"a": HOLD, "b": HOLD}
    assert later.log.owner == owner


def test_how_far_the_log_is_read_is_told_and_ends_with_all_of_it() -> None:
    store = MemoryStore()
    repository = new_repository(store)
    for number in range(5):
        repository.log.append("hold", {"holds": {str(number): HOLD}})
    told: list[Read] = []

    Repository.open(store, KEY, reading=told.append)

    assert [read.records for read in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1].bytes == told[-1].bytes_expected == sum(info.size for info in store.list("log/"))


def test_behind_a_checkpoint_nothing_more_is_expected() -> None:
    store = MemoryStore()
    repository = new_repository(store)
    repository.log.append("hold", {"holds": {"a": HOLD}})
    repository.log.append_checkpoint()
    told: list[Read] = []

    Repository.open(store, KEY, reading=told.append)

    assert told[-1].records == 1
    assert told[-1].bytes == told[-1].bytes_expected
