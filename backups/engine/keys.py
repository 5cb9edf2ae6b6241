"""Keys: slots wrap the ring key, the ring holds the master keys, the id key and the chunker's seed.

A slot is opened by a passphrase (Argon2id), a keyfile or a printed recovery code (both 256 random bits, HKDF only).
Beside the wrapped ring key a slot stores a commitment to the derived key: an intact slot whose commitment differs
means a wrong secret; an object whose SHA-256 is not its name means damage. (Key commitment: without it AES-GCM
would let one wrapped value open under two keys.) `rekey` tells how slots come, go and follow a new ring.
"""

from __future__ import annotations

import hmac
import itertools
import json
import os
import re
import secrets as random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backups.engine import format as fmt
from backups.engine.errors import InvalidOption, UnknownEpoch, WrongSecret
from backups.engine.store import ObjectStore
from backups.engine.wrapping import Derived, agree, derive

ARGON2 = {"name": "argon2id", "t": 3, "m": 64 << 10, "p": 4}  # passes, KiB, lanes
HKDF_ONLY = {"name": "hkdf-sha256"}
SLOT, RING = "key-slot", "key-ring"
RINGS = 2  # copies of the ring
FOLLOWED = 2  # format of a slot whose ring key was wrapped without its secret
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

    @property
    def root(self) -> bytes:
        """Tells these keys from all others: it comes from the first master key, which never goes."""
        return hmac.digest(self.masters[min(self.masters)], b"aihub-backup/key-root", "sha256")

    def vouchers(self, repository_id: bytes) -> dict[int, bytes]:
        """For each epoch but the first: whoever drew its master key held that of the epoch before."""
        epochs = sorted(self.masters)
        text = b"aihub-backup/key-epoch" + repository_id
        return {
            new: hmac.digest(self.masters[old], text + new.to_bytes(2, "big") + self.masters[new], "sha256")
            for old, new in itertools.pairwise(epochs)
        }

    def object_key(self, epoch: int, kind: int, salt: bytes) -> AESGCM:
        """The cipher of one object: HKDF-Expand (RFC 5869) of the epoch's master key; one block of SHA-256."""
        master = self.masters.get(epoch)
        if master is None:
            raise UnknownEpoch(f"The key ring has no master key of epoch {epoch}; it is older than the object.")
        info = b"aihub-backup/object" + bytes([kind]) + salt
        return AESGCM(hmac.digest(master, info + b"\x01", "sha256"))


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def seal_slot(
    repository_id: bytes, ring_key: bytes, secret: Secret, label: str, root: bytes, origin: str = ""
) -> bytes:
    """The bytes of a slot object. root: of the ring; origin: name of the slot whose place it takes, if any."""
    salt, nonce = os.urandom(32), os.urandom(12)
    derived = derive(secret.value, salt, secret.kdf)
    facts = {
        "aihub": SLOT, "format": fmt.FORMAT, "repository": repository_id.hex(), "kind": secret.kind,
        "label": label, "kdf": secret.kdf, "salt": salt.hex(), "nonce": nonce.hex(),
        "commitment": derived.commitment.hex(), "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "public": derived.public.hex(), "pin": derived.pin(root).hex(), "ring": commitment(ring_key),
        **({"origin": origin} if origin else {}),
    }  # fmt: skip
    wrapped = AESGCM(derived.wrapping).encrypt(nonce, ring_key, _canonical(facts))
    return _canonical({**facts, "wrapped": wrapped.hex()})


def follow_slot(name: str, slot: Mapping[str, Any], ring_key: bytes) -> bytes:
    """The bytes of a slot object by which the same secret opens another ring; made without the secret."""
    ephemeral, key = agree(bytes.fromhex(slot["public"]))
    nonce = os.urandom(12)
    changed = {
        "format": FOLLOWED, "nonce": nonce.hex(), "ephemeral": ephemeral.hex(), "ring": commitment(ring_key),
        "origin": origin_of(name, slot),
    }  # fmt: skip
    facts = {**{key: value for key, value in slot.items() if key != "wrapped"}, **changed}
    return _canonical({**facts, "wrapped": AESGCM(key).encrypt(nonce, ring_key, _canonical(facts)).hex()})


def origin_of(name: str, slot: Mapping[str, Any]) -> str:
    """The name of the first object of this slot. It stays when the slot follows a new ring."""
    return str(slot.get("origin") or name)


def commitment(ring_key: bytes) -> str:
    """Tells which ring a ring key opens, and nothing about the key."""
    return hmac.digest(ring_key, b"aihub-backup/key-ring", "sha256").hex()


def open_slot(slot: Mapping[str, Any], secret: Secret) -> bytes | None:
    """The ring key, or None when the commitment says that this secret is another one's. Raises InvalidTag, ValueError,
    KeyError, TypeError."""
    return unwrap(slot, derive(secret.value, bytes.fromhex(slot["salt"]), slot["kdf"]))


def unwrap(slot: Mapping[str, Any], derived: Derived) -> bytes | None:
    """As `open_slot`, of a secret that was derived with the slot's salt and costs."""
    if not hmac.compare_digest(derived.commitment, bytes.fromhex(slot["commitment"])):
        return None
    facts = {key: value for key, value in slot.items() if key != "wrapped"}
    key = derived.agreed(bytes.fromhex(slot["ephemeral"])) if "ephemeral" in slot else derived.wrapping
    return AESGCM(key).decrypt(bytes.fromhex(slot["nonce"]), bytes.fromhex(slot["wrapped"]), _canonical(facts))


def seal_ring(repository_id: bytes, ring_key: bytes, ring: KeyRing) -> bytes:
    """The bytes of the key ring object."""
    nonce = os.urandom(12)
    facts = {
        "aihub": RING, "format": fmt.FORMAT, "repository": repository_id.hex(),
        "generation": ring.generation, "nonce": nonce.hex(), "commitment": commitment(ring_key),
    }  # fmt: skip
    body = {
        "masters": dict(ring.masters), "id_key": ring.id_key, "chunker_seed": ring.chunker_seed,
        "vouchers": ring.vouchers(repository_id),
    }  # fmt: skip
    sealed = AESGCM(ring_key).encrypt(nonce, msgpack.packb(body), _canonical(facts))
    return _canonical({**facts, "sealed": sealed.hex()})


def open_ring(ring: Mapping[str, Any], ring_key: bytes) -> KeyRing:
    """Raises InvalidTag, ValueError (a master key that the one before does not vouch for), KeyError."""
    facts = {key: value for key, value in ring.items() if key != "sealed"}
    raw = AESGCM(ring_key).decrypt(bytes.fromhex(ring["nonce"]), bytes.fromhex(ring["sealed"]), _canonical(facts))
    body = msgpack.unpackb(raw, strict_map_key=False)
    found = KeyRing(ring["generation"], body["masters"], body["id_key"], body["chunker_seed"])
    if "vouchers" in body and body["vouchers"] != found.vouchers(bytes.fromhex(ring["repository"])):
        raise ValueError("its master keys do not vouch for each other")
    return found


def write_keys(
    store: ObjectStore, repository_id: bytes, ring: KeyRing, secrets: Sequence[tuple[Secret, str]]
) -> list[str]:
    """Put a new ring and one slot per (secret, label); the names of the objects, rings first.

    The ring is put twice, each with a nonce of its own: it is small, and without it nothing can ever be opened.
    """
    ring_key = os.urandom(32)
    blobs = [seal_ring(repository_id, ring_key, ring) for _ in range(RINGS)]
    blobs += [seal_slot(repository_id, ring_key, secret, label, ring.root) for secret, label in secrets]
    names = [fmt.key_name(fmt.sha256(blob)) for blob in blobs]
    for name, blob in zip(names, blobs, strict=True):
        store.put(name, blob)
    return names
