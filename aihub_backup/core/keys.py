"""The application's own keys: reading, checking, and making them once for the embedded default. No Django."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

KEY_BYTES = 32
_KID = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True)
class KeyRing:
    """Named 32-byte keys; `current` seals, all of them open."""

    current: str = ""
    keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.keys)


def parse_ring(text: str) -> KeyRing:
    """Read "kid:base64,kid:base64"; the first is current. ValueError with a sentence that shows no key."""
    parts = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    pairs = [_pair(part, number) for number, part in enumerate(parts, 1)]
    names = [kid for kid, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("two keys have the same id")
    return KeyRing(names[0] if names else "", dict(pairs))


def written(ring: KeyRing) -> str:
    """The ring as `parse_ring` reads it."""
    names = sorted(ring.keys, key=lambda kid: kid != ring.current)
    return ",".join(f"{kid}:{base64.b64encode(ring.keys[kid]).decode()}" for kid in names)


def new_ring(kid: str = "k1") -> str:
    """A fresh key in the written form."""
    return f"{kid}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def new_secret() -> str:
    """A fresh Django secret key (86 characters)."""
    return secrets.token_urlsafe(64)


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The file's text; made (0600, whole or not at all) when it is not there. Many processes may ask at once."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        _publish(path, make())
        return path.read_text().strip()


def _publish(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp gives 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        _link(temporary, path)
    finally:
        Path(temporary).unlink()


def _link(temporary: str, path: Path) -> None:
    """Give the file its name unless another process was first; then the first one's key is the key."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _pair(part: str, number: int) -> tuple[str, bytes]:
    kid, colon, encoded = part.partition(":")
    if not colon or not _KID.fullmatch(kid):
        raise ValueError(f"key {number} is not written as id:base64 (ids are lower-case letters, digits and dashes)")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError(f"key {number} (“{kid}”) is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"key {number} (“{kid}”) has {len(key)} bytes instead of {KEY_BYTES}")
    return kid, key
