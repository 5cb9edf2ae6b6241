"""Keys: slots wrap the ring key, the ring holds the master keys, the id key and the chunker's seed.

A slot is opened by a passphrase (Argon2id), a keyfile or a printed recovery code (both 256 random bits, HKDF only).
Beside the wrapped ring key a slot stores a commitment to the derived key: an intact slot whose commitment differs
means a wrong secret; an object whose SHA-256 is not its name means damage. (Key commitment: without it AES-GCM
would let one wrapped value open under two keys.)
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets as random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from backups.engine import format as fmt
from backups.engine.errors import InvalidOption, NewerFormat, ObjectDamaged, WrongSecret
from backups.engine.store import ObjectStore

ARGON2 = {"name": "argon2id", "t": 3, "m": 64 << 10, "p": 4}  # passes, KiB, lanes
ARGON2_LIMITS = {"t": (1, 16), "m": (8 << 10, 1 << 20), "p": (1, 16)}  # what a hostile slot may ask of us
HKDF_ONLY = {"name": "hkdf-sha256"}
SLOT, RING = "key-slot", "key-ring"
RINGS = 2  # copies of the ring
_SHAPES: dict[str, dict[str, type]] = {
    SLOT: {"kind": str, "kdf": dict, "salt": str, "nonce": str, "commitment": str, "wrapped": str},
    RING: {"generation": int, "nonce": str, "sealed": str},
}
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U


@dataclass(frozen=True)
class Secret:
    """Something that opens a slot. Its repr never shows the value."""

    kind: str  # passphrase | keyfile | recovery
    value: bytes = field(repr=False)

    @classmethod
    def passphrase(cls, text: str) -> Secret:
        """The text in Unicode's form NFC: the same letters open the slot, however a keyboard composes them."""
        if not text:
            raise InvalidOption("The passphrase is empty; choose one of at least a few words.")
        try:
            return cls("passphrase", unicodedata.normalize("NFC", text).encode())
        except UnicodeEncodeError:  # its traceback would show the text
            raise InvalidOption("The passphrase is no valid text: save it as UTF-8.") from None

    @classmethod
    def keyfile(cls, data: bytes) -> Secret:
        if len(data) < 32:
            raise InvalidOption("A keyfile holds at least 32 random bytes.")
        return cls("keyfile", data)

    @classmethod
    def recovery_code(cls, text: str) -> Secret:
        return cls("recovery", decode_recovery_code(text))

    @property
    def kdf(self) -> dict[str, Any]:
        return dict(ARGON2) if self.kind == "passphrase" else dict(HKDF_ONLY)


def new_keyfile() -> Secret:
    return Secret.keyfile(os.urandom(32))


def new_recovery_code() -> str:
    """A fresh 256-bit code with a checksum, in groups of four letters for the printer."""
    return encode_recovery_code(os.urandom(32))


def blank_recovery_code() -> str:
    """Room for one to be written by hand: as many groups of as many letters."""
    return re.sub(r"[^-]", "_", encode_recovery_code(bytes(32)))


def encode_recovery_code(raw: bytes) -> str:
    number = int.from_bytes(raw + fmt.sha256(b"recovery" + raw)[:3], "big")  # 280 bits = 56 letters
    letters = "".join(_ALPHABET[number >> 5 * i & 31] for i in reversed(range(56)))
    return "-".join(letters[i : i + 4] for i in range(0, 56, 4))


def decode_recovery_code(text: str) -> bytes:
    """The 32 bytes behind a typed code; raises WrongSecret with a hint when a letter is wrong."""
    typed = "".join(c for c in text.upper() if not c.isspace() and unicodedata.category(c) != "Pd")
    letters = typed.translate(str.maketrans("ILO", "110"))
    bad = sorted({c for c in letters if c not in _ALPHABET})
    if bad or len(letters) != 56:
        reason = f"{bad[0]!r} is not one of its letters" if bad else f"it has 56 letters, {len(letters)} were given"
        raise WrongSecret(f"This is not a recovery code: {reason}.")
    number = 0
    for letter in letters:
        number = number << 5 | _ALPHABET.index(letter)
    data = number.to_bytes(35, "big")
    if not hmac.compare_digest(fmt.sha256(b"recovery" + data[:32])[:3], data[32:]):
        raise WrongSecret("The recovery code has a typing error: its checksum does not fit.")
    return data[:32]


@dataclass(frozen=True)
class KeyRing:
    """What everything in the repository is sealed with."""

    generation: int
    masters: Mapping[int, bytes] = field(repr=False)  # key epoch → 32 bytes
    id_key: bytes = field(repr=False)
    chunker_seed: int = field(repr=False)

    @classmethod
    def generate(cls) -> KeyRing:
        return cls(1, {1: os.urandom(32)}, os.urandom(32), random.randbits(63))

    @property
    def epoch(self) -> int:
        return max(self.masters)

    def object_key(self, epoch: int, kind: int, salt: bytes) -> AESGCM:
        """The cipher of one object: HKDF-Expand (RFC 5869) of the epoch's master key; one block of SHA-256."""
        master = self.masters.get(epoch)
        if master is None:
            raise WrongSecret(f"The key ring has no master key of epoch {epoch}; it is older than the object.")
        info = b"aihub-backup/object" + bytes([kind]) + salt
        return AESGCM(hmac.digest(master, info + b"\x01", "sha256"))


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _derive(secret: bytes, salt: bytes, kdf: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(key that wraps, commitment), 32 bytes each."""
    if kdf["name"] == "argon2id":
        for name, (low, high) in ARGON2_LIMITS.items():
            if type(kdf[name]) is not int or not low <= kdf[name] <= high:
                raise ValueError(f"Argon2id's {name} = {kdf[name]} is outside {low} to {high}")
        cost = Argon2id(salt=salt, length=32, iterations=kdf["t"], lanes=kdf["p"], memory_cost=kdf["m"])
        secret = cost.derive(secret)
    elif kdf["name"] != "hkdf-sha256":
        raise ValueError(f"key derivation {kdf['name']!r} is unknown")
    both = HKDF(SHA256(), 64, salt, b"aihub-backup/key-slot").derive(secret)
    return both[:32], both[32:]


def seal_slot(repository_id: bytes, ring_key: bytes, secret: Secret, label: str) -> bytes:
    """The bytes of a slot object."""
    salt, nonce = os.urandom(32), os.urandom(12)
    key, commitment = _derive(secret.value, salt, secret.kdf)
    facts = {
        "aihub": SLOT, "format": fmt.FORMAT, "repository": repository_id.hex(), "kind": secret.kind,
        "label": label, "kdf": secret.kdf, "salt": salt.hex(), "nonce": nonce.hex(),
        "commitment": commitment.hex(), "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    wrapped = AESGCM(key).encrypt(nonce, ring_key, _canonical(facts))
    return _canonical({**facts, "wrapped": wrapped.hex()})


def open_slot(slot: Mapping[str, Any], secret: Secret) -> bytes | None:
    """The ring key, or None when the commitment says that this secret is another one's."""
    facts = {key: value for key, value in slot.items() if key != "wrapped"}
    key, commitment = _derive(secret.value, bytes.fromhex(slot["salt"]), slot["kdf"])
    if not hmac.compare_digest(commitment, bytes.fromhex(slot["commitment"])):
        return None
    return AESGCM(key).decrypt(bytes.fromhex(slot["nonce"]), bytes.fromhex(slot["wrapped"]), _canonical(facts))


def seal_ring(repository_id: bytes, ring_key: bytes, ring: KeyRing) -> bytes:
    """The bytes of the key ring object."""
    nonce = os.urandom(12)
    facts = {
        "aihub": RING, "format": fmt.FORMAT, "repository": repository_id.hex(),
        "generation": ring.generation, "nonce": nonce.hex(),
    }  # fmt: skip
    body = {"masters": dict(ring.masters), "id_key": ring.id_key, "chunker_seed": ring.chunker_seed}
    sealed = AESGCM(ring_key).encrypt(nonce, msgpack.packb(body), _canonical(facts))
    return _canonical({**facts, "sealed": sealed.hex()})


def open_ring(ring: Mapping[str, Any], ring_key: bytes) -> KeyRing:
    facts = {key: value for key, value in ring.items() if key != "sealed"}
    raw = AESGCM(ring_key).decrypt(bytes.fromhex(ring["nonce"]), bytes.fromhex(ring["sealed"]), _canonical(facts))
    body = msgpack.unpackb(raw, strict_map_key=False)
    return KeyRing(ring["generation"], body["masters"], body["id_key"], body["chunker_seed"])


class KeyObjects:
    """The objects under keys/, sorted into slots, rings and damaged ones.

    repository_id  whose they are: the expected repository, or the only one that the intact ones name (then the
                   config that gave rise to the expectation is damaged); b"" when nothing tells
    """

    def __init__(self, store: ObjectStore, expected: bytes) -> None:
        self.slots: dict[str, dict[str, Any]] = {}
        self.rings: dict[str, dict[str, Any]] = {}
        self.damaged: dict[str, ObjectDamaged] = {}
        self.opened = ""  # name of the slot that unlock() went through
        found = {name: facts for name, _ in store.list("keys/") if (facts := self._parsed(name, store.get(name)))}
        self.repository_id = _whose(found.values(), expected)
        for name, facts in found.items():
            if facts["repository"] == self.repository_id.hex():
                {SLOT: self.slots, RING: self.rings}[facts["aihub"]][name] = facts
            else:
                self.damaged[name] = ObjectDamaged(name, "it belongs to another repository")

    def _parsed(self, name: str, data: bytes) -> dict[str, Any] | None:
        try:
            return parse_public(name, data)
        except ObjectDamaged as error:
            self.damaged[name] = error
            return None

    def unlock(self, secret: Secret) -> KeyRing:
        """The newest ring that this secret leads to.

        Raises WrongSecret (slots intact, none opens) or ObjectDamaged (what could have opened is broken).
        """
        self.opened, ring_key = self.ring_key(secret)
        return self._ring(ring_key)

    def ring_key(self, secret: Secret) -> tuple[str, bytes]:
        """(name of the slot that this secret opens, the key that lies in it). Raises what `unlock` raises."""
        for name, slot in list(self.slots.items()):
            if slot["kind"] == secret.kind and (ring_key := self._try(name, slot, secret)) is not None:
                return name, ring_key
        if self.damaged and not self._has_slot_for(secret):
            raise next(iter(self.damaged.values()))
        raise WrongSecret(self._why(secret))

    def _has_slot_for(self, secret: Secret) -> bool:
        return any(slot["kind"] == secret.kind for slot in self.slots.values())

    def _try(self, name: str, slot: Mapping[str, Any], secret: Secret) -> bytes | None:
        try:
            return open_slot(slot, secret)
        except InvalidTag:
            why = "the key slot's wrapped key fails its authentication"
        except (ValueError, KeyError, TypeError) as error:
            why = f"a value of the key slot cannot be used: {error}"
        self.damaged[name] = ObjectDamaged(name, why)
        del self.slots[name]
        return None

    def _ring(self, ring_key: bytes) -> KeyRing:
        failed: list[ObjectDamaged] = []
        for name, facts in sorted(self.rings.items(), key=lambda item: item[1]["generation"], reverse=True):
            try:
                return open_ring(facts, ring_key)
            except (InvalidTag, ValueError, KeyError) as error:
                failed.append(ObjectDamaged(name, f"the key ring cannot be read ({type(error).__name__})"))
        for damage in (*failed, *self.damaged.values()):
            raise damage
        raise ObjectDamaged("keys/", "the key ring is missing, only slots are left")

    def _why(self, secret: Secret) -> str:
        word = {"passphrase": "passphrase", "keyfile": "keyfile", "recovery": "recovery code"}[secret.kind]
        if not self.slots:
            return "The repository has no key slot at all: every object under keys/ is gone."
        if not self._has_slot_for(secret):
            return f"The repository has no key slot that a {word} opens."
        if self.damaged:
            names = ", ".join(sorted(self.damaged))
            return f"The {word} opens none of the intact key slots. Its slot may be a damaged object: {names}."
        return f"The {word} is wrong: the repository's key slots are intact, and it opens none of them."


def _whose(found: Iterable[Mapping[str, Any]], expected: bytes) -> bytes:
    ids = {bytes.fromhex(facts["repository"]) for facts in found}
    return ids.pop() if len(ids) == 1 else expected


def parse_public(name: str, data: bytes) -> dict[str, Any]:
    """The facts of a plain-text object (a key object). Raises ObjectDamaged, NewerFormat."""
    if not fmt.name_matches(name, data):
        raise ObjectDamaged(name, "its SHA-256 is not its name")
    facts = _parse(name, data)
    if facts["format"] > fmt.FORMAT:
        raise NewerFormat(f"{name} has format {facts['format']}; this version reads up to {fmt.FORMAT}. Upgrade first.")
    shape = _SHAPES.get(facts["aihub"])
    if shape is None or not all(type(facts.get(key)) is kind for key, kind in shape.items()):
        raise ObjectDamaged(name, "it is neither a key slot nor a key ring")
    return facts


def _parse(name: str, data: bytes) -> dict[str, Any]:
    shape = {"aihub": str, "format": int, "repository": str}
    with suppress(ValueError, RecursionError):
        facts = json.loads(data)
        if isinstance(facts, dict) and all(type(facts.get(key)) is kind for key, kind in shape.items()):
            bytes.fromhex(facts["repository"])
            return facts
    raise ObjectDamaged(name, "it is no key object")


def write_keys(
    store: ObjectStore, repository_id: bytes, ring: KeyRing, secrets: Sequence[tuple[Secret, str]]
) -> list[str]:
    """Put a new ring and one slot per (secret, label); the names of the objects, rings first.

    The ring is put twice, each with a nonce of its own: it is small, and without it nothing can ever be opened.
    """
    ring_key = os.urandom(32)
    blobs = [seal_ring(repository_id, ring_key, ring) for _ in range(RINGS)]
    blobs += [seal_slot(repository_id, ring_key, secret, label) for secret, label in secrets]
    names = [fmt.key_name(fmt.sha256(blob)) for blob in blobs]
    for name, blob in zip(names, blobs, strict=True):
        store.put(name, blob)
    return names


def add_slot(store: ObjectStore, repository_id: bytes, known: Secret, secret: Secret, label: str) -> str:
    """Put a slot for one more secret beside that of a known one; its name. One that opens already keeps its slot.

    It counts once a log record lists it among the keys. Raises what `KeyObjects.unlock` raises of the known one.
    """
    keys = KeyObjects(store, repository_id)
    with suppress(WrongSecret):
        return keys.ring_key(secret)[0]
    slot = seal_slot(repository_id, keys.ring_key(known)[1], secret, label)
    name = fmt.key_name(fmt.sha256(slot))
    store.put(name, slot)
    return name
