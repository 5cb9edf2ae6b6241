"""Slots come and go, keys are renewed: who gets in afterwards, who does not, and what a kill at any step leaves."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backups.engine import Checked, Repository, Secret, check, keys, new_keyfile, rekey
from backups.engine import format as fmt
from backups.engine.errors import (
    EngineError,
    InvalidOption,
    ObjectDamaged,
    SlotRemoved,
    StoreRefused,
    TakenOver,
    WrongSecret,
)
from backups.engine.keyobjects import KeyObjects
from backups.engine.log import KEYS
from backups.engine.store import Data
from backups.engine.stores.memory import MemoryStore
from backups.engine.wrapping import agree, derive
from tests.engine.scenery import KEY, archived, plant, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm

PAPER = Secret.recovery_code(keys.encode_recovery_code(bytes(range(32))))
NEW_PAPER = Secret.recovery_code(keys.encode_recovery_code(bytes(range(1, 33))))
ANN = Secret.keyfile(b"the keyfile that Ann keeps in a drawer")
BOB = Secret.keyfile(b"the keyfile that Bob keeps in a drawer")
CHEAP = {"name": "argon2id", "t": 1, "m": 8 << 10, "p": 1}

Deed = Callable[[Repository], object]


@pytest.fixture
def store() -> MemoryStore:
    """A repository with three ways in: the console's, the paper and Ann's."""
    place = MemoryStore()
    Repository.create(place, [(KEY, "application"), (PAPER, "paper"), (ANN, "Ann")], console="test")
    return place


def by(store: MemoryStore, secret: Secret = KEY) -> Repository:
    return Repository.open(store, secret)


def opens(store: MemoryStore, secret: Secret) -> bool:
    try:
        by(store, secret)
    except WrongSecret:
        return False
    return True


def labels(store: MemoryStore) -> list[str]:
    return sorted(slot.label for slot in rekey.slots(by(store)))


def sound(store: MemoryStore, secret: Secret = KEY) -> Checked:
    return check(by(store, secret), 3, workers=0)


def put(store: MemoryStore, data: bytes) -> str:
    store.put(name := fmt.key_name(fmt.sha256(data)), data)
    return name


# -------------------------------------------------------------------------------------------------------- listing


def test_it_tells_who_has_a_way_in_and_no_secret(store: MemoryStore) -> None:
    found = rekey.slots(by(store))

    assert [(slot.kind, slot.label, slot.works, slot.opened) for slot in sorted(found, key=lambda s: s.label)] == [
        ("keyfile", "Ann", True, False), ("keyfile", "application", True, True), ("recovery", "paper", True, False),
    ]  # fmt: skip
    assert all(len(slot.handle) == 16 and slot.created for slot in found)


def test_a_slot_that_nobody_listed_is_none(store: MemoryStore) -> None:
    way = KeyObjects(store, by(store).config.id)
    way.unlock(KEY)
    put(
        store,
        keys.seal_slot(by(store).config.id, way.ways[-1].ring_key, BOB, "put and never told", by(store).ring.root),
    )

    assert labels(store) == ["Ann", "application", "paper"]


def test_a_slot_is_found_by_its_handle_and_by_its_label(store: MemoryStore) -> None:
    slot = rekey.find(by(store), "Ann")

    assert rekey.find(by(store), slot.handle[:6]) == slot
    with pytest.raises(InvalidOption, match=r"No key slot is called 'Zoe'; there are: .*Ann"):
        rekey.find(by(store), "Zoe")


# --------------------------------------------------------------------------------------------- adding and removing


def test_a_new_secret_opens_beside_the_others(store: MemoryStore) -> None:
    slot = rekey.add(by(store), BOB, "Bob")

    assert (slot.label, slot.works) == ("Bob", True)
    assert [opens(store, secret) for secret in (KEY, PAPER, ANN, BOB)] == [True] * 4
    assert slot.name in by(store).log.keys


def test_a_secret_that_opens_already_keeps_its_slot(store: MemoryStore) -> None:
    before = dict(store.objects)

    slot = rekey.add(by(store), ANN, "Ann again")

    assert slot.label == "Ann"
    assert store.objects == before


@pytest.mark.parametrize("label", ["", "   ", "a\nb", "x" * 101])
def test_a_label_that_tells_nothing_is_refused(store: MemoryStore, label: str) -> None:
    with pytest.raises(InvalidOption, match="The label says whose way in it is"):
        rekey.add(by(store), BOB, label)


def test_a_removed_secret_opens_no_more_and_the_others_do(store: MemoryStore) -> None:
    slot = rekey.remove(by(store), "Ann")

    assert slot.name not in store.objects
    assert [opens(store, secret) for secret in (KEY, PAPER, ANN)] == [True, True, False]
    assert sound(store).problems == []


def test_a_copy_of_a_removed_slot_that_is_put_back_is_refused_and_told(store: MemoryStore) -> None:
    name = rekey.find(by(store), "Ann").name
    kept = store.objects[name]
    rekey.remove(by(store), "Ann")
    store.put(name, kept)

    with pytest.raises(SlotRemoved, match="“Ann” that this keyfile opens was removed"):
        by(store, ANN)
    assert (sound(store).problems, sound(store).removed_keys) == ([], (name,))


def test_that_a_slot_was_removed_is_known_behind_a_checkpoint_too(store: MemoryStore) -> None:
    name = rekey.find(by(store), "Ann").name
    kept = store.objects[name]
    rekey.remove(by(store), "Ann")
    by(store).log.append_checkpoint()
    store.put(name, kept)

    assert by(store).log.unread
    assert not opens(store, ANN)


def test_a_secret_that_was_removed_may_be_added_again(store: MemoryStore) -> None:
    kept = dict(store.objects)
    rekey.remove(by(store), "Ann")

    rekey.add(by(store), ANN, "Ann is back")
    store.objects.update(kept)  # somebody puts all the old objects back

    assert opens(store, ANN)
    assert labels(store) == ["Ann is back", "application", "paper"]


def test_two_ways_in_are_left_at_least(store: MemoryStore) -> None:
    rekey.remove(by(store), "Ann")
    before = dict(store.objects)

    with pytest.raises(InvalidOption, match="“paper” there would be 1 left; a repository keeps at least 2"):
        rekey.remove(by(store), "paper")

    assert store.objects == before


def test_the_way_that_is_in_use_goes_only_when_another_was_proven(store: MemoryStore) -> None:
    with pytest.raises(InvalidOption, match="“application” is the one that the repository is open through"):
        rekey.remove(by(store), "application")
    with pytest.raises(InvalidOption, match="opens the key slot “application” itself"):
        rekey.remove(by(store), "application", proven=KEY)
    with pytest.raises(WrongSecret):
        rekey.remove(by(store), "application", proven=BOB)

    rekey.remove(by(store), "application", proven=PAPER)

    assert [opens(store, secret) for secret in (KEY, PAPER, ANN)] == [False, True, True]


def test_a_store_that_lets_nothing_go_does_not_keep_a_secret_alive(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_name: str) -> None:
        raise StoreRefused("The object is locked until next year.")

    repository = by(store)
    monkeypatch.setattr(store, "delete", locked)

    slot = rekey.remove(repository, "Ann")

    assert slot.name in store.objects
    assert not opens(store, ANN)


def test_a_console_whose_repository_was_taken_changes_no_keys(store: MemoryStore) -> None:
    rekey.adopt(by(store, PAPER), BOB, "another console")

    with pytest.raises(TakenOver):
        rekey.add(by(store), new_keyfile(), "more")


# -------------------------------------------------------------------------------------------------------- changing


def test_a_passphrase_is_changed(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "ARGON2", CHEAP)
    old, new = Secret.passphrase("correct horse"), Secret.passphrase("battery staple")
    rekey.add(by(store), old, "people")

    rekey.change(by(store), old, new)

    assert [opens(store, secret) for secret in (old, new, KEY, PAPER, ANN)] == [False, True, True, True, True]
    assert labels(store) == ["Ann", "application", "paper", "people"]


def test_the_secret_that_is_in_use_is_changed_too(store: MemoryStore) -> None:
    repository = by(store)

    rekey.change(repository, KEY, BOB)
    rekey.add(repository, new_keyfile(), "the repository goes on with the new one")

    assert [opens(store, secret) for secret in (KEY, BOB)] == [False, True]


def test_a_console_that_changes_its_keyfile_stays_the_one_that_writes(store: MemoryStore) -> None:
    rekey.adopt(by(store), KEY, "application")

    rekey.change(by(store), KEY, BOB)

    by(store, BOB).log.append("hold", {"holds": {}})
    assert [slot.writer for slot in rekey.slots(by(store, BOB)) if slot.opened] == [True]


def test_a_change_needs_the_old_secret_and_another_new_one(store: MemoryStore) -> None:
    with pytest.raises(WrongSecret):
        rekey.change(by(store), BOB, NEW_PAPER)
    with pytest.raises(InvalidOption, match="The new secret is the old one"):
        rekey.change(by(store), ANN, ANN)
    with pytest.raises(InvalidOption, match="there would be 1 left"):
        rekey.remove(by(store), "Ann")
        rekey.change(by(store), PAPER, KEY)

    assert opens(store, PAPER)


# -------------------------------------------------------------------------------------------------------- new keys


def test_new_keys_need_nobody_s_secret_and_shut_nobody_out(store: MemoryStore) -> None:
    epoch = rekey.rotate(by(store))

    rings = [by(store, secret).ring for secret in (KEY, PAPER, ANN)]
    assert epoch == rings[0].epoch == 2
    assert rings[0] == rings[1] == rings[2]
    assert labels(store) == ["Ann", "application", "paper"]
    assert len([name for name in store.objects if name.startswith("keys/")]) == 5


def test_what_was_written_before_is_read_and_what_comes_after_is_under_the_new_key(
    store: MemoryStore, tmp_path: Path
) -> None:
    archived(by(store), scanned(plant(tmp_path / "a", {"one": b"first"})), "first")
    rekey.rotate(by(store))
    done = archived(by(store), scanned(plant(tmp_path / "b", {"two": b"second"})), "second")

    later = by(store, ANN)

    assert sound(store, ANN).problems == []
    packs = {pack.digest: pack.envelope.epoch for pack in later.sync_index().packs()}
    assert {packs[digest] for digest in later.log.snapshot("second").tree_packs} == {2}
    assert sorted(packs.values()) == [1, 1, 2, 2]
    assert sorted(pack.envelope.epoch for pack in later.outdated_packs()) == [1, 1]
    assert [store.get(name)[7] for name in (done.snapshot.record, *done.snapshot.index)] == [2, 2]


def test_who_was_shut_out_before_new_keys_cannot_read_what_comes_after(store: MemoryStore) -> None:
    """With every key object of the time when Ann was one of us, and all that is there now."""
    then = by(store, ANN).ring
    kept = {name: data for name, data in store.objects.items() if name.startswith("keys/")}
    rekey.remove(by(store), "Ann")

    rekey.rotate(by(store))
    store.objects.update(kept)

    with pytest.raises(SlotRemoved):
        by(store, ANN)
    found = KeyObjects(store, by(store).config.id)
    assert found.unlock(ANN).masters == then.masters
    assert [opens(store, secret) for secret in (KEY, PAPER)] == [True, True]


def test_a_long_run_that_began_before_commits_after_and_reads_on(store: MemoryStore, tmp_path: Path) -> None:
    long = by(store)
    rekey.rotate(by(store, PAPER))
    archived(by(store), scanned(plant(tmp_path / "b", {"two": b"second"})), "second")

    archived(long, scanned(plant(tmp_path / "a", {"one": b"first"})), "first")

    assert long.ring.epoch == 2
    assert sound(store).problems == []
    assert {snapshot.id for snapshot in by(store).snapshots} == {"first", "second"}


def test_new_keys_follow_each_other(store: MemoryStore) -> None:
    for _ in range(3):
        rekey.rotate(by(store, PAPER))

    assert by(store, ANN).ring.masters.keys() == {1, 2, 3, 4}
    assert len([name for name in store.objects if name.startswith("keys/")]) == 5


def test_a_console_is_the_same_one_under_new_keys(store: MemoryStore) -> None:
    rekey.adopt(by(store), KEY, "application")
    before = by(store).slot

    rekey.rotate(by(store))
    rekey.rotate(by(store))

    assert by(store).slot == before
    by(store).log.append("hold", {"holds": {}})


def test_a_slot_of_an_older_version_needs_its_secret_to_follow(store: MemoryStore) -> None:
    of_old(store, "Ann", ANN)

    with pytest.raises(InvalidOption, match=r"made by an older version .*\(keyfile, Ann\)"):
        rekey.rotate(by(store))
    rekey.rotate(by(store), [ANN])

    assert [by(store, secret).ring.epoch for secret in (KEY, PAPER, ANN)] == [2, 2, 2]
    rekey.rotate(by(store))
    assert by(store, ANN).ring.epoch == 3


def of_old(store: MemoryStore, label: str, secret: Secret) -> None:
    """The slot as the first versions wrote it: without what lets it follow."""
    repository = by(store)
    slot = rekey.find(repository, label)
    facts = json.loads(store.objects.pop(slot.name))
    found = KeyObjects(store, repository.config.id)
    found.unlock(repository.secret)
    sealed = json.loads(keys.seal_slot(repository.config.id, found.ways[-1].ring_key, secret, label, b""))
    for name in ("public", "pin", "ring"):
        facts.pop(name)
    salt = bytes.fromhex(sealed["salt"])
    bare = {name: sealed[name] for name in facts if name != "wrapped"}
    wrapped = AESGCM(derive(secret.value, salt, secret.kdf).wrapping).encrypt(
        bytes.fromhex(bare["nonce"]), found.ways[-1].ring_key, canonical(bare)
    )
    name = put(store, canonical({**bare, "wrapped": wrapped.hex()}))
    repository.log.append(KEYS, {"keys": [name], "removed": [slot.name]})


def canonical(facts: dict[str, object]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


class Interrupted(MemoryStore):
    """A place where something else happens once, right before or after its nth put."""

    def __init__(self, place: MemoryStore, at: int, between: Callable[[], object], after: bool) -> None:
        super().__init__()
        self.objects, self._at, self._between, self._after, self.puts = place.objects, at, between, after, 0

    def put(self, name: str, data: Data) -> None:
        self.puts += 1
        due = self.puts == self._at
        if due and not self._after:
            self._between()
        super().put(name, data)
        if due and self._after:
            self._between()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 8))
def test_two_who_draw_new_keys_at_once_lose_nothing(store: MemoryStore, tmp_path: Path, at: int, after: bool) -> None:
    second = by(store, PAPER)
    first = Repository.open(Interrupted(store, at, lambda: rekey.rotate(second), after), KEY)

    rekey.rotate(first)

    for name, repository in (("first", first), ("second", second), ("third", by(store, ANN))):
        archived(repository, scanned(plant(tmp_path / name, {name: name.encode()})), name)
    rings = [by(store, secret).ring for secret in (KEY, PAPER, ANN)]
    assert rings[0].masters.keys() >= {1, 2} and rings[0] == rings[1] == rings[2]
    assert sound(store, ANN).problems == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_secret_that_is_added_while_the_keys_change_opens_afterwards(
    store: MemoryStore, at: int, after: bool
) -> None:
    second = by(store, PAPER)
    first = Repository.open(Interrupted(store, at, lambda: rekey.add(second, BOB, "Bob"), after), KEY)

    rekey.rotate(first)

    assert by(store, BOB).ring == by(store).ring
    assert "Bob" in labels(store)
    assert sound(store).problems == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("deed", [lambda one: rekey.add(one, BOB, "Bob"), lambda one: rekey.change(one, ANN, BOB)])
def test_keys_that_change_while_a_secret_is_added_shut_it_not_out(
    store: MemoryStore, at: int, after: bool, deed: Callable[[Repository], object]
) -> None:
    second = by(store, PAPER)
    first = Repository.open(Interrupted(store, at, lambda: rekey.rotate(second), after), KEY)

    deed(first)

    assert [by(store, secret).ring.epoch for secret in (KEY, PAPER, BOB)] == [2, 2, 2]
    assert sound(store).problems == []


# ------------------------------------------------------------------------------------------------------- enemies


def test_a_slot_that_an_enemy_puts_follows_no_new_keys(store: MemoryStore) -> None:
    """Who may write to the store, and holds no secret, puts a slot of their own beside the others."""
    objects = KeyObjects(store, by(store).config.id)
    enemy = keys.seal_slot(by(store).config.id, bytes(32), BOB, "paper", b"")
    name, facts = next(iter(objects.slots.items()))
    put(store, enemy)
    put(store, canonical({**json.loads(enemy), "origin": name, "ring": facts["ring"], "ephemeral": "00" * 32}))

    rekey.rotate(by(store))

    assert not [
        data for data in store.objects.values() if json_of(data).get("label") == "paper" and opened_by(data, BOB)
    ]
    with pytest.raises(EngineError):
        by(store, BOB)


def json_of(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def opened_by(data: bytes, secret: Secret) -> bool:
    facts = json_of(data)
    return facts.get("format") == keys.FOLLOWED and keys.open_slot(facts, secret) not in (None, bytes(32))


def test_a_ring_that_an_enemy_wraps_for_our_slot_is_not_taken_for_ours(store: MemoryStore) -> None:
    """Everybody may wrap a ring key for a public key: the pin tells that these are not our keys."""
    repository = by(store)
    slot = rekey.find(repository, "application")
    theirs, ring_key = keys.KeyRing.generate(), bytes(32)
    forged = keys.KeyRing(99, {**theirs.masters, 99: bytes(32)}, theirs.id_key, 1)
    put(store, keys.follow_slot(slot.name, json.loads(store.objects[slot.name]), ring_key))
    put(store, keys.seal_ring(repository.config.id, ring_key, forged))

    assert by(store).ring == repository.ring
    del store.objects[slot.name]
    with pytest.raises(ObjectDamaged, match="leads to keys that it was not made for"):
        by(store)


def test_a_master_key_that_the_one_before_does_not_vouch_for_is_damage(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = by(store)
    found = repository.key_objects()
    found.unlock(KEY)
    grown = keys.KeyRing(7, {**repository.ring.masters, 2: bytes(32)}, repository.ring.id_key, 1)
    monkeypatch.setattr(keys.KeyRing, "vouchers", lambda _ring, _id: {2: bytes(32)})
    put(store, keys.seal_ring(repository.config.id, found.ways[-1].ring_key, grown))
    monkeypatch.undo()

    assert by(store).ring == repository.ring


def test_no_two_slots_are_wrapped_with_one_key() -> None:
    public = derive(b"s" * 32, bytes(32), {"name": "hkdf-sha256"}).public

    assert agree(public) != agree(public)


# ------------------------------------------------------------------------------------------------------------ kills

ADD: Deed = lambda repository: rekey.add(repository, BOB, "Bob")  # noqa: E731
REMOVE: Deed = lambda repository: rekey.remove(repository, "Ann")  # noqa: E731
CHANGE: Deed = lambda repository: rekey.change(repository, ANN, BOB)  # noqa: E731
ROTATE: Deed = rekey.rotate
ADOPT: Deed = lambda repository: rekey.adopt(repository, BOB, "application")  # noqa: E731


@pytest.mark.parametrize("harm", [Harm.CRASH, Harm.CRASH_AFTER])
@pytest.mark.parametrize(
    ("deed", "always", "after", "never"),
    [
        (ADD, (KEY, PAPER, ANN), (BOB,), ()),
        (REMOVE, (KEY, PAPER), (), (ANN,)),
        (CHANGE, (KEY, PAPER), (BOB,), (ANN,)),
        (ROTATE, (KEY, PAPER, ANN), (), ()),
        (ADOPT, (KEY, PAPER, ANN), (BOB,), ()),
    ],
    ids=["add", "remove", "change", "rotate", "adopt"],
)
def test_killed_between_any_two_steps_everybody_gets_in_and_the_deed_is_simply_done_again(
    store: MemoryStore, tmp_path: Path, deed: Deed, always: tuple[Secret, ...], after: tuple[Secret, ...],
    never: tuple[Secret, ...], harm: Harm,
) -> None:  # fmt: skip
    archived(by(store), scanned(plant(tmp_path / "a", {"one": b"first"})), "first")
    whole = FaultyStore(copied(store))
    deed(Repository.open(whole, KEY))
    steps = 0
    for at in range(1, whole.operations + 1):
        place = copied(store)
        faulty = FaultyStore(place, [Fault(harm, at=at)])
        try:
            deed(Repository.open(faulty, KEY))
        except Crash:
            steps += 1
        assert all(opens(place, secret) for secret in always), at
        assert any(opens(place, secret) for secret in (*never, *after, KEY)), at
        again(place, deed, tmp_path / f"{at}")
        assert all(opens(place, secret) for secret in (*always, *after)), at
        assert not any(opens(place, secret) for secret in never), at
        assert sound(place, PAPER).problems == [], at
    assert steps == whole.operations


def again(place: MemoryStore, deed: Deed, folder: Path) -> None:
    """A backup in between, as the night brings it; then the deed once more, unless it had got through."""
    archived(by(place, PAPER), scanned(plant(folder, {"two": b"second"})), "second")
    try:
        deed(by(place))
    except (InvalidOption, WrongSecret) as error:
        assert "Ann" in str(error) or "keyfile" in str(error)  # it is removed already
        rekey.settle(by(place))


def copied(store: MemoryStore) -> MemoryStore:
    place = MemoryStore()
    place.objects = copy.copy(store.objects)
    return place


@pytest.mark.parametrize("harm", [Harm.CRASH, Harm.CRASH_AFTER])
def test_what_a_killed_change_of_keys_left_is_finished_by_whoever_comes_next(store: MemoryStore, harm: Harm) -> None:
    whole = FaultyStore(copied(store))
    rekey.rotate(Repository.open(whole, KEY))
    for at in range(1, whole.operations + 1):
        place = copied(store)
        with pytest.raises(Crash):
            rekey.rotate(Repository.open(FaultyStore(place, [Fault(harm, at=at)]), KEY))

        rekey.settle(by(place, PAPER))

        listed = set(by(place).log.keys)
        rings = [name for name in listed if json.loads(place.objects[name])["aihub"] == keys.RING]
        assert len(rings) == 2, at
        assert all(slot.works for slot in rekey.slots(by(place))), at
        assert by(place, ANN).ring == by(place, PAPER).ring == by(place).ring, at


# --------------------------------------------------------------------------------------------- wrong is not damaged


def test_a_wrong_secret_is_told_from_damage_after_new_keys_too(store: MemoryStore) -> None:
    rekey.rotate(by(store))
    slot = rekey.find(by(store), "Ann").name

    with pytest.raises(WrongSecret, match="keyfile is wrong: the repository's key slots are intact"):
        by(store, BOB)
    store.objects[slot] = store.objects[slot][:-3] + b"0}}"
    with pytest.raises(WrongSecret, match=f"may be a damaged object: {slot}"):
        by(store, ANN)


def test_a_damaged_key_object_stops_new_keys_before_anything_is_written(store: MemoryStore) -> None:
    slot = rekey.find(by(store), "Ann").name
    store.objects[slot] = b"{}"
    before = dict(store.objects)

    with pytest.raises(ObjectDamaged, match=r"new keys need it.* heal it from a copy first") as caught:
        rekey.rotate(by(store))

    assert caught.value.name == slot
    assert store.objects == before


def test_a_record_of_a_change_of_keys_that_is_gone_shuts_nobody_out(store: MemoryStore) -> None:
    """The log looks as if the change had been cut off, and the old objects are gone: nothing is guessed."""
    rekey.rotate(by(store))
    newest = max(name for name in store.objects if name.startswith("log/"))
    del store.objects[newest]

    with pytest.raises(ObjectDamaged, match="new keys need it"):
        rekey.settle(by(store))

    assert [by(store, secret).ring.epoch for secret in (KEY, PAPER, ANN)] == [2, 2, 2]


def test_the_next_backup_takes_away_what_a_killed_removal_left(store: MemoryStore) -> None:
    place = FaultyStore(store, [Fault(Harm.CRASH, "delete")])
    with pytest.raises(Crash):
        rekey.remove(Repository.open(place, KEY), "Ann")
    left = sound(store).removed_keys

    rekey.tidy(by(store))

    assert set(left) == by(store).log.removed.keys()
    assert sound(store).removed_keys == ()


def test_when_the_new_ring_is_gone_it_is_damage_that_is_named(store: MemoryStore) -> None:
    rekey.rotate(by(store))
    rings = [name for name in by(store).log.keys if json.loads(store.objects[name])["aihub"] == keys.RING]
    for name in rings:
        del store.objects[name]

    with pytest.raises(ObjectDamaged, match="the key ring is missing"):
        by(store, PAPER)
