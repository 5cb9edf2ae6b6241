"""How a ring key lies in a key slot: what a secret is derived to, and the two ways to wrap.

With the secret at hand the ring key is wrapped under a key of it. A later ring key is wrapped without the secret, for
the slot's public key (X25519), so that a change of keys needs nobody's passphrase or paper. Everybody may do that, so a
slot pins whose ring it may lead to: the pin was made with the secret, over the root of the repository's keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ARGON2_LIMITS = {"t": (1, 16), "m": (8 << 10, 1 << 20), "p": (1, 16)}  # what a hostile slot may ask of us


class Derived(NamedTuple):
    """What one secret and one salt give; 32 bytes each."""

    wrapping: bytes  # wraps a ring key while the secret is at hand
    commitment: bytes  # stands in the slot: another one means another secret
    agreement: bytes  # private key (X25519) of the slot
    pinning: bytes  # key of the pin

    @property
    def public(self) -> bytes:
        """For whom ring keys are wrapped while the secret is not at hand."""
        return X25519PrivateKey.from_private_bytes(self.agreement).public_key().public_bytes_raw()

    def pin(self, root: bytes) -> bytes:
        """Says that the slot leads to the keys with this root, and to no others."""
        return hmac.digest(self.pinning, root, "sha256")

    def agreed(self, ephemeral: bytes) -> bytes:
        """The key that `agree` wrapped with. Raises ValueError for an ephemeral key that is none."""
        shared = X25519PrivateKey.from_private_bytes(self.agreement).exchange(
            X25519PublicKey.from_public_bytes(ephemeral)
        )
        return _key(shared, ephemeral, self.public)


def derive(secret: bytes, salt: bytes, kdf: Mapping[str, Any]) -> Derived:
    """Raises ValueError for a derivation that is unknown or asks for too much."""
    if kdf["name"] == "argon2id":
        for name, (low, high) in ARGON2_LIMITS.items():
            if type(kdf[name]) is not int or not low <= kdf[name] <= high:
                raise ValueError(f"Argon2id's {name} = {kdf[name]} is outside {low} to {high}")
        cost = Argon2id(salt=salt, length=32, iterations=kdf["t"], lanes=kdf["p"], memory_cost=kdf["m"])
        secret = cost.derive(secret)
    elif kdf["name"] != "hkdf-sha256":
        raise ValueError(f"key derivation {kdf['name']!r} is unknown")
    all_four = HKDF(SHA256(), 128, salt, b"aihub-backup/key-slot").derive(secret)
    return Derived(*(all_four[at : at + 32] for at in range(0, 128, 32)))


def agree(public: bytes) -> tuple[bytes, bytes]:
    """(ephemeral public key, key to wrap with) for the slot with this public key, drawn anew each time."""
    own = X25519PrivateKey.generate()
    ephemeral = own.public_key().public_bytes_raw()
    return ephemeral, _key(own.exchange(X25519PublicKey.from_public_bytes(public)), ephemeral, public)


def _key(shared: bytes, ephemeral: bytes, public: bytes) -> bytes:
    return HKDF(SHA256(), 32, ephemeral + public, b"aihub-backup/key-slot/agreement").derive(shared)
