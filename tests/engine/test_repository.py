"""A repository is made, opened, refused; its config may be damaged, its place foreign, its creation killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backups.engine import Repository, Secret
from backups.engine import format as fmt
from backups.engine.errors import (
    BlobMissing,
    EngineError,
    ForeignRepository,
    NewerFormat,
    NotARepository,
    ObjectDamaged,
    ObjectMissing,
    RepositoryExists,
    Tampered,
    WrongSecret,
)
from backups.engine.repository import Config
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import KEY, archived, new_repository, opened, plant, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def change(store: MemoryStore, **values: object) -> None:
    """Another value in the plain config object."""
    facts = {**json.loads(store.objects["config"]), **values}
    store.objects["config"] = json.dumps({key: value for key, value in facts.items() if value is not None}).encode()


# ---------------------------------------------------------------------- making


def test_it_makes_a_repository_that_opens_again(store: MemoryStore) -> None:
    made = new_repository(store)

    again = opened(store)

    assert again.config == made.config
    assert again.ring == made.ring
    assert again.snapshots == []


def test_nothing_in_a_new_repository_tells_whose_it_is(store: MemoryStore) -> None:
    made = new_repository(store)

    assert json.loads(store.get("config")) == {
        "aihub": "repository", "format": 1, "id": made.config.id.hex(), "created": made.config.created,
        "chunks": [65536, 262144, 1048576], "encryption": "aes-256-gcm",
    }  # fmt: skip
    assert KEY.value not in b"".join(store.objects.values())


def test_it_needs_a_secret(store: MemoryStore) -> None:
    with pytest.raises(EngineError, match="needs at least one secret"):
        Repository.create(store, [])

    assert not store.objects


def test_it_refuses_a_place_that_holds_a_repository(store: MemoryStore) -> None:
    new_repository(store)
    before = dict(store.objects)

    with pytest.raises(RepositoryExists, match="holds a repository already"):
        new_repository(store)

    assert store.objects == before


@pytest.mark.parametrize("name", ["notes", "packs/ab/notes", "index/" + "0" * 64])
def test_it_refuses_a_place_that_holds_something_else(store: MemoryStore, name: str) -> None:
    store.put("keys/" + fmt.sha256(b"left").hex(), b"left")
    store.objects[name] = b"theirs"
    before = dict(store.objects)

    with pytest.raises(ForeignRepository, match=f"is not empty .it holds {name}"):
        new_repository(store)

    assert store.objects == before


def test_it_refuses_a_repository_that_lost_its_config(store: MemoryStore) -> None:
    """Its keys are the last thing that anybody should clear away."""
    archived(new_repository(store), [])
    store.delete("config")
    before = dict(store.objects)

    with pytest.raises(ForeignRepository):
        new_repository(store)

    assert store.objects == before


def test_a_creation_killed_at_any_step_can_be_repeated() -> None:
    steps = FaultyStore(MemoryStore())
    new_repository(steps)

    for step in range(1, steps.operations + 1):
        for harm in (Harm.CRASH, Harm.CRASH_AFTER):
            inside = MemoryStore()
            with pytest.raises(Crash):
                new_repository(FaultyStore(inside, [Fault(harm, at=step)]))
            if "config" in inside.objects:
                continue  # the last step was done
            made = new_repository(inside)
            again = opened(inside)
            assert again.config == made.config
            assert not again.log.damaged
            assert {name for name in inside.objects if name.startswith("keys/")} == set(again.log.keys)


# --------------------------------------------------------------------- opening


def test_an_empty_place_is_no_repository(store: MemoryStore) -> None:
    with pytest.raises(NotARepository, match="There is no repository in this process's memory"):
        opened(store)


def test_a_wrong_secret_changes_nothing(store: MemoryStore, tmp_path: Path) -> None:
    new_repository(store)
    before = dict(store.objects)

    with pytest.raises(WrongSecret):
        Repository.open(store, Secret.keyfile(bytes(32)), cache=tmp_path / "cache")

    assert store.objects == before
    assert not (tmp_path / "cache").exists()


def test_something_else_under_our_name_is_foreign(store: MemoryStore) -> None:
    store.put("config", b'{"aihub": "address book", "format": 1}')

    with pytest.raises(ForeignRepository, match="holds 'address book'"):
        opened(store)


def test_a_newer_format_is_not_guessed_at(store: MemoryStore) -> None:
    store.put("config", b'{"aihub": "repository", "format": 2}')

    with pytest.raises(NewerFormat, match=r"has format 2; this version reads up to 1\. Upgrade first"):
        opened(store)


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"aihub":"repository","format":1}', b"\xff" * 9, b'{"aihub":1}'])
def test_junk_under_our_name_is_damage(store: MemoryStore, junk: bytes) -> None:
    store.put("config", junk)

    with pytest.raises((ObjectDamaged, ForeignRepository)):
        opened(store)


Damage = Callable[[MemoryStore], object]
DAMAGE: dict[str, Damage] = {
    "gone": lambda store: store.delete("config"),
    "empty": lambda store: store.objects.update(config=b""),
    "cut": lambda store: store.objects.update(config=store.objects["config"][:-20]),
    "another repository's": lambda store: change(store, id="ab" * 16),
    "of no id": lambda store: change(store, id=None),
    "of no kind": lambda store: change(store, aihub="repositorz"),
    "of a newer format": lambda store: change(store, format=9),
    "with other chunk sizes": lambda store: change(store, chunks=[1, 2, 3]),
    "with another date": lambda store: change(store, created="1999"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_repository_opens_in_spite_of_a_damaged_config(store: MemoryStore, damage: Damage) -> None:
    """The keys tell the id, and the log holds a sealed copy of the rest; a check names the damage."""
    made = new_repository(store)
    archived(made, [], "before")
    damage(store)

    again = opened(store)

    assert again.config == made.config
    assert [snapshot.id for snapshot in again.snapshots] == ["before"]


def test_every_byte_of_a_config_may_be_wrong(store: MemoryStore) -> None:
    made = new_repository(store)
    config = store.objects["config"]

    for at in range(len(config)):
        store.objects["config"] = config[:at] + bytes([config[at] ^ 1 << at % 8]) + config[at + 1 :]
        assert opened(store).config == made.config


def test_without_keys_a_damaged_config_is_what_is_told(store: MemoryStore) -> None:
    new_repository(store)
    change(store, id=None)
    for name in [name for name in store.objects if name.startswith("keys/")]:
        store.delete(name)

    with pytest.raises(ObjectDamaged) as caught:
        opened(store)

    assert caught.value.name == "config"


def test_a_log_without_its_beginning_is_read_and_not_written(store: MemoryStore) -> None:
    made = new_repository(store)
    archived(made, [], "later")
    first = min(made.log.names)
    store.delete(first)
    before = dict(store.objects)

    again = opened(store)

    assert [snapshot.id for snapshot in again.snapshots] == ["later"]
    assert again.log.missing == {first}
    with pytest.raises(Tampered, match="its first records are gone"):
        archived(again, [], "more")
    assert {name for name in store.objects if name.startswith("log/")} <= before.keys()


def test_an_empty_log_is_tampering(store: MemoryStore) -> None:
    made = new_repository(store)
    store.delete(made.log.leaves[0])

    with pytest.raises(Tampered, match="all its records are gone"):
        opened(store)


def test_a_log_whose_beginning_is_damaged_leaves_the_plain_config(store: MemoryStore) -> None:
    made = new_repository(store)
    archived(made, [], "later")
    first = min(made.log.names)
    store.objects[first] = store.objects[first][:-1]

    again = opened(store)

    assert again.config == made.config
    assert [damage.name for damage in again.log.damaged] == [first]
    assert [snapshot.id for snapshot in again.snapshots] == ["later"]


def test_another_repositorys_config_with_its_keys_opens_none_of_our_records(store: MemoryStore) -> None:
    archived(new_repository(store), [], "ours")
    other = MemoryStore()
    new_repository(other)
    for name in [name for name in store.objects if name.startswith(("keys/", "config"))]:
        store.delete(name)
    store.objects.update({n: data for n, data in other.objects.items() if n.startswith(("keys/", "config"))})

    again = opened(store)

    assert again.snapshots == []
    assert all("belongs to another repository" in damage.why for damage in again.log.damaged)


@pytest.mark.parametrize("config", ["sound", "damaged"])
def test_key_objects_of_another_repository_are_named_whatever_is_remembered_of_that_one(
    store: MemoryStore, tmp_path: Path, config: str
) -> None:
    other, cache = MemoryStore(), tmp_path / "cache"
    ours = new_repository(store, cache=cache)
    theirs = new_repository(other, cache=cache)
    for name in [name for name in store.objects if name.startswith("keys/")]:
        store.delete(name)
    store.objects.update({name: data for name, data in other.objects.items() if name.startswith("keys/")})
    if config == "damaged":
        change(store, id=None)

    with pytest.raises(ObjectDamaged, match="the key objects there are those of the repository") as caught:
        opened(store, cache=cache)

    assert caught.value.name == "keys/"
    assert theirs.config.id.hex() in str(caught.value)
    assert f"the log is that of {ours.config.id.hex()}; put this repository's own keys/ back" in str(caught.value)


# ----------------------------------------------------------------------- blobs


def test_ids_are_keyed(store: MemoryStore) -> None:
    one, two = new_repository(store), new_repository()

    assert one.id_of(b"guess") == opened(store).id_of(b"guess")
    assert one.id_of(b"guess") != two.id_of(b"guess")


def test_an_unknown_blob_is_told(store: MemoryStore) -> None:
    with pytest.raises(BlobMissing, match="is in no index"):
        new_repository(store).load_blob(bytes(32))


def test_an_unknown_codec_is_told(store: MemoryStore) -> None:
    with pytest.raises(EngineError, match=r"codec 'lz4' is unknown: choose zstd, gzip or none"):
        new_repository(store).compressor("lz4")


def test_a_blob_that_is_stored_twice_survives_the_loss_of_one_pack(store: MemoryStore, tmp_path: Path) -> None:
    """Two hosts that could not know of each other stored the same file."""
    root = plant(tmp_path / "data", {"file": b"the same everywhere " * 100})
    one, two = new_repository(store), opened(store)
    two.sync_index()
    archived(one, scanned(root), "one")
    archived(two, scanned(root), "two")
    again = opened(store)
    twice = next(b for b in again.sync_index().ids() if len(list(again.index.find_all(b))) == 2)

    store.delete(fmt.pack_name(again.index.locate(twice).pack))

    assert again.load_blob(twice)
    with pytest.raises(ObjectMissing):
        again.load_at(again.index.locate(twice), twice)


def test_config_round_trips() -> None:
    config = Config(bytes(range(16)), 1, "2026-01-01T00:00:00+00:00", (1, 2, 3))

    assert Config.decode(config.encode(), "here") == config
