"""An authenticator app (RFC 6238: SHA-1, six digits, thirty seconds)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

STEP = 30  # seconds


def code(secret: str, at: float | None = None) -> str:
    """What the app shows for the secret at a moment (now)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    digest = hmac.digest(key, int((time.time() if at is None else at) // STEP).to_bytes(8), hashlib.sha1)
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4]) & 0x7FFFFFFF) % 1_000_000:06d}"


def wait_for_another() -> None:
    """Until the app shows another code: each is good once."""
    time.sleep(STEP - time.time() % STEP + 0.5)
