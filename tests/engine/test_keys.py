"""Slots, ring and secrets: who gets in, what a wrong secret is told, and that no secret is ever shown."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backups.engine import format as fmt
from backups.engine import keys
from backups.engine.errors import EngineError, NewerFormat, ObjectDamaged, WrongSecret
from backups.engine.keyobjects import KeyObjects
from backups.engine.keys import KeyRing, Secret
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import ID, KEY, RING

OTHER = Secret.keyfile(bytes(32))
CODE = keys.encode_recovery_code(bytes(range(100, 132)))
CHEAP = {"name": "argon2id", "t": 1, "m": 8 << 10, "p": 1}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least Argon2id that is accepted: 8 MiB, one pass."""
    monkeypatch.setattr(keys, "ARGON2", CHEAP)


def unlock(store: MemoryStore, secret: Secret) -> KeyRing:
    return KeyObjects(store, ID).unlock(secret)


def put(store: MemoryStore, facts: Mapping[str, Any]) -> str:
    """Store a key object that says this, under its right name."""
    data = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    name = fmt.key_name(fmt.sha256(data))
    store.put(name, data)
    return name


def rewritten(store: MemoryStore, name: str, **changes: Any) -> str:
    """The object with other values, under the name that fits them: what an enemy with write access can do."""
    facts = {**json.loads(store.objects.pop(name)), **changes}
    return put(store, {key: value for key, value in facts.items() if value is not None})


def flip(store: MemoryStore, name: str, at: int = 60) -> None:
    data = bytearray(store.objects[name])
    data[at] ^= 1
    store.objects[name] = bytes(data)


# ------------------------------------------------------------------------ slots


@pytest.mark.usefixtures("cheap")
def test_it_opens_with_every_kind_of_secret(store: MemoryStore) -> None:
    secrets = [Secret.passphrase("correct horse"), KEY, Secret.recovery_code(CODE)]

    keys.write_keys(store, ID, RING, [(secret, "mine") for secret in secrets])

    assert [unlock(store, secret) for secret in secrets] == [RING] * 3


def test_a_passphrase_costs_an_attacker_64_mib_and_three_passes(store: MemoryStore) -> None:
    secret = Secret.passphrase("correct horse")

    *_, name = keys.write_keys(store, ID, RING, [(secret, "mine")])

    assert json.loads(store.get(name))["kdf"] == {"name": "argon2id", "t": 3, "m": 65536, "p": 4}
    assert unlock(store, secret) == RING


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (Secret.passphrase("Correct horse"), "passphrase"),
        (OTHER, "keyfile"),
        (Secret.recovery_code(keys.encode_recovery_code(bytes(32))), "recovery code"),
    ],
    ids=["passphrase", "keyfile", "recovery"],
)
@pytest.mark.usefixtures("cheap")
def test_a_wrong_secret_is_told_from_damage(store: MemoryStore, wrong: Secret, word: str) -> None:
    right = [Secret.passphrase("correct horse"), KEY, Secret.recovery_code(CODE)]
    keys.write_keys(store, ID, RING, [(secret, "mine") for secret in right])
    before = dict(store.objects)

    with pytest.raises(WrongSecret, match=f"The {word} is wrong: the repository's key slots are intact"):
        unlock(store, wrong)

    assert store.objects == before


def test_it_says_when_no_slot_of_that_kind_was_ever_made(store: MemoryStore) -> None:
    keys.write_keys(store, ID, RING, [(KEY, "mine")])

    with pytest.raises(WrongSecret, match="no key slot that a recovery code opens"):
        unlock(store, Secret.recovery_code(CODE))


def test_it_says_when_all_slots_are_gone(store: MemoryStore) -> None:
    with pytest.raises(WrongSecret, match="every object under keys/ is gone"):
        unlock(store, KEY)


def test_a_damaged_slot_is_named_and_is_no_wrong_secret(store: MemoryStore) -> None:
    *_, slot = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    flip(store, slot)

    with pytest.raises(ObjectDamaged, match="its SHA-256 is not its name") as caught:
        unlock(store, KEY)

    assert caught.value.name == slot


def test_another_slot_opens_what_a_damaged_one_cannot(store: MemoryStore) -> None:
    recovery = Secret.recovery_code(CODE)
    _, _, slot, _ = keys.write_keys(store, ID, RING, [(KEY, "mine"), (recovery, "paper")])
    flip(store, slot)

    assert unlock(store, recovery) == RING


def test_beside_a_damaged_slot_no_secret_is_called_wrong_for_certain(store: MemoryStore) -> None:
    _, _, slot, _ = keys.write_keys(store, ID, RING, [(KEY, "mine"), (OTHER, "other")])
    flip(store, slot)

    with pytest.raises(WrongSecret, match=f"Its slot may be a damaged object: {slot}") as caught:
        unlock(store, KEY)

    assert "intact, and it opens none" not in str(caught.value)


def test_a_slot_whose_key_was_overwritten_is_damage_not_a_wrong_secret(store: MemoryStore) -> None:
    *_, slot = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    forged = rewritten(store, slot, wrapped="00" * 48)

    with pytest.raises(ObjectDamaged, match="fails its authentication") as caught:
        unlock(store, KEY)

    assert caught.value.name == forged


@pytest.mark.parametrize("changes", [{"label": "yours"}, {"created": "1999-12-31"}, {"kind": "keyfile", "extra": 1}])
def test_what_a_slot_says_of_itself_is_sealed_too(store: MemoryStore, changes: dict[str, Any]) -> None:
    *_, slot = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    rewritten(store, slot, **changes)

    with pytest.raises(ObjectDamaged, match="fails its authentication"):
        unlock(store, KEY)


@pytest.mark.parametrize(
    "kdf",
    [
        {**CHEAP, "m": 2 << 20},  # 2 GiB
        {**CHEAP, "m": 1 << 40},
        {**CHEAP, "m": 7 << 10},
        {**CHEAP, "t": 17},
        {**CHEAP, "t": 0},
        {**CHEAP, "p": 17},
        {**CHEAP, "p": 0},
        {**CHEAP, "t": "3"},
        {**CHEAP, "t": True},
        {**CHEAP, "m": 65536.5},
        {"name": "argon2id"},
        {"name": "md5"},
        {},
    ],
    ids=str,
)
@pytest.mark.usefixtures("cheap")
def test_hostile_cost_parameters_are_refused_before_they_cost(store: MemoryStore, kdf: dict[str, Any]) -> None:
    secret = Secret.passphrase("correct horse")
    *_, slot = keys.write_keys(store, ID, RING, [(secret, "mine")])
    forged = rewritten(store, slot, kdf=kdf)

    with pytest.raises(ObjectDamaged, match="cannot be used") as caught:
        unlock(store, secret)

    assert caught.value.name == forged


@pytest.mark.parametrize(
    "junk",
    [b"", b"no JSON", b"[1]", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"aihub":"key-slot","format":1}'],
    ids=["empty", "text", "list", "object", "deep", "binary", "half"],
)
def test_junk_under_keys_stops_nobody(store: MemoryStore, junk: bytes) -> None:
    keys.write_keys(store, ID, RING, [(KEY, "mine")])
    name = fmt.key_name(fmt.sha256(junk))
    store.put(name, junk)

    objects = KeyObjects(store, ID)

    assert objects.unlock(KEY) == RING
    assert list(objects.damaged) == [name]


@pytest.mark.parametrize("missing", ["kind", "kdf", "salt", "nonce", "commitment", "wrapped"])
def test_half_a_slot_is_damage(store: MemoryStore, missing: str) -> None:
    *_, slot = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    forged = rewritten(store, slot, **{missing: None})

    with pytest.raises(ObjectDamaged, match="neither a key slot nor a key ring") as caught:
        unlock(store, KEY)

    assert caught.value.name == forged


def test_a_slot_of_another_repository_opens_nothing_here(store: MemoryStore) -> None:
    keys.write_keys(store, ID, RING, [(OTHER, "mine")])
    strangers = keys.write_keys(store, bytes(16), RING, [(KEY, "theirs")])

    objects = KeyObjects(store, ID)

    assert set(objects.damaged) == set(strangers)
    assert "another repository" in objects.damaged[strangers[0]].why
    with pytest.raises(WrongSecret):
        objects.unlock(KEY)


def test_the_key_objects_tell_whose_they_are(store: MemoryStore) -> None:
    keys.write_keys(store, ID, RING, [(KEY, "mine")])

    assert KeyObjects(store, bytes(16)).repository_id == ID
    assert KeyObjects(MemoryStore(), bytes(16)).repository_id == bytes(16)


def test_a_key_object_of_a_newer_format_is_not_guessed_at(store: MemoryStore) -> None:
    *_, slot = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    rewritten(store, slot, format=keys.FOLLOWED + 1)

    with pytest.raises(NewerFormat, match="Upgrade first"):
        unlock(store, KEY)


# ------------------------------------------------------------------------- ring


def test_the_newest_ring_counts(store: MemoryStore) -> None:
    ring_key = os.urandom(32)
    newer = KeyRing(2, {**RING.masters, 2: os.urandom(32)}, RING.id_key, RING.chunker_seed)
    for blob in (
        keys.seal_slot(ID, ring_key, KEY, "mine", RING.root),
        keys.seal_ring(ID, ring_key, newer),
        keys.seal_ring(ID, ring_key, RING),
    ):
        store.put(fmt.key_name(fmt.sha256(blob)), blob)

    ring = unlock(store, KEY)

    assert ring == newer
    assert ring.epoch == 2


def test_a_damaged_ring_has_a_twin(store: MemoryStore) -> None:
    one, two, _ = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    intact = dict(store.objects)

    for ring in (one, two):
        flip(store, ring)
        assert unlock(store, KEY) == RING
        store.delete(ring)
        assert unlock(store, KEY) == RING
        store.objects = dict(intact)


def test_when_both_rings_are_damaged_one_is_named(store: MemoryStore) -> None:
    *rings, _ = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    for ring in rings:
        flip(store, ring)

    with pytest.raises(ObjectDamaged) as caught:
        unlock(store, KEY)

    assert caught.value.name in rings


def test_a_forged_ring_is_named_and_not_the_slot_beside_it(store: MemoryStore) -> None:
    one, two, slot, _ = keys.write_keys(store, ID, RING, [(OTHER, "damaged"), (KEY, "mine")])
    flip(store, slot)
    store.delete(two)
    forged = rewritten(store, one, sealed="00" * 100)

    with pytest.raises(ObjectDamaged, match="the key ring cannot be read") as caught:
        unlock(store, KEY)

    assert caught.value.name == forged


def test_a_ring_that_is_gone_is_told(store: MemoryStore) -> None:
    *rings, _ = keys.write_keys(store, ID, RING, [(KEY, "mine")])
    for ring in rings:
        store.delete(ring)

    with pytest.raises(ObjectDamaged, match="the key ring is missing"):
        unlock(store, KEY)


def test_every_object_has_a_key_of_its_own() -> None:
    nonce, text = bytes(12), bytes(16)
    sealed = {
        RING.object_key(1, kind, salt).encrypt(nonce, text, None)
        for kind in (1, 2, 3, 4)
        for salt in (bytes(32), bytes(31) + b"\x01")
    }

    assert len(sealed) == 8


def test_an_epoch_the_ring_does_not_know_is_told() -> None:
    with pytest.raises(WrongSecret, match="no master key of epoch 2"):
        RING.object_key(2, 1, bytes(32))


def test_two_rings_share_nothing() -> None:
    one, two = KeyRing.generate(), KeyRing.generate()

    assert one.masters[1] != two.masters[1]
    assert one.id_key != two.id_key
    assert one.chunker_seed != two.chunker_seed
    assert 0 <= one.chunker_seed < 1 << 63


# ---------------------------------------------------------------- recovery code


@given(raw=some.binary(min_size=32, max_size=32))
def test_a_recovery_code_comes_back_from_paper(raw: bytes) -> None:
    code = keys.encode_recovery_code(raw)

    assert keys.decode_recovery_code(code) == raw
    assert keys.decode_recovery_code(code.lower().replace("-", " ")) == raw


def test_it_reads_what_people_make_of_a_printed_code() -> None:
    raw = keys.decode_recovery_code(CODE)
    tidied = CODE.replace("-", "–").replace("0", "o").replace("1", "l")

    assert keys.decode_recovery_code(f"\u00a0 {tidied}\r\n") == raw


def test_every_wrong_letter_is_noticed() -> None:
    wrong = [
        CODE[:at] + letter + CODE[at + 1 :]
        for at, right in enumerate(CODE)
        if right != "-"
        for letter in "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        if letter != right
    ]

    for code in wrong:
        with pytest.raises(WrongSecret, match="typing error: its checksum does not fit"):
            keys.decode_recovery_code(code)

    assert len(wrong) == 56 * 31


def test_two_letters_in_the_wrong_order_are_noticed() -> None:
    letters = CODE.replace("-", "")
    swapped = [
        letters[:at] + letters[at + 1] + letters[at] + letters[at + 2 :]
        for at in range(55)
        if letters[at] != letters[at + 1]
    ]

    for code in swapped:
        with pytest.raises(WrongSecret, match="typing error"):
            keys.decode_recovery_code(code)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (CODE[:-1], "it has 56 letters, 55 were given"),
        (CODE + "0", "it has 56 letters, 57 were given"),
        ("", "0 were given"),
        (CODE.replace(CODE[0], "U"), "'U' is not one of its letters"),
        (CODE.replace(CODE[0], "_"), "'_' is not one of its letters"),
    ],
)
def test_it_says_what_is_wrong_with_a_code(code: str, hint: str) -> None:
    with pytest.raises(WrongSecret, match=hint):
        keys.decode_recovery_code(code)


# ---------------------------------------------------------------------- secrets


def test_a_passphrase_is_the_same_however_its_letters_are_composed() -> None:
    assert Secret.passphrase("Zoe\u0308") == Secret.passphrase("Zo\u00eb")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Secret.passphrase(""), "The passphrase is empty"),
        (lambda: Secret.keyfile(bytes(31)), "at least 32 random bytes"),
    ],
)
def test_a_secret_that_protects_nothing_is_refused(make: Callable[[], Secret], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        make()


def test_a_passphrase_that_is_no_text_is_refused_without_showing_it() -> None:
    try:
        Secret.passphrase("canary\udce4")
    except EngineError as error:
        told = "".join(traceback.format_exception(error))

    assert "save it as UTF-8" in told
    assert "canary" not in told.replace('Secret.passphrase("canary', "")


def test_no_secret_is_shown_by_repr() -> None:
    secret, ring = Secret.passphrase("canary-phrase"), KeyRing.generate()
    shown = f"{secret!r} {ring!r} {Secret.recovery_code(CODE)!r} {ring!s} {KEY}"

    assert "canary" not in shown
    assert CODE not in shown
    for value in (*ring.masters.values(), ring.id_key, KEY.value):
        assert repr(value) not in shown
        assert value.hex() not in shown
    assert str(ring.chunker_seed) not in shown


def test_no_secret_lies_open_in_the_store(store: MemoryStore) -> None:
    recovery = Secret.recovery_code(CODE)

    keys.write_keys(store, ID, RING, [(KEY, "mine"), (recovery, "paper")])

    stored = b"".join(store.objects.values())
    for value in (KEY.value, recovery.value, RING.id_key, RING.masters[1]):
        assert value not in stored
        assert value.hex().encode() not in stored


def test_a_new_keyfile_and_a_new_code_are_never_the_same_twice() -> None:
    assert keys.new_keyfile() != keys.new_keyfile()
    assert keys.new_recovery_code() != keys.new_recovery_code()
    assert len(keys.decode_recovery_code(keys.new_recovery_code())) == 32
