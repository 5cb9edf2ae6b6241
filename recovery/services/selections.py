"""From what a person names to what the engine restores: the base, and patterns counted from it."""

from __future__ import annotations

import os

from backups.engine.disk import from_printable
from backups.engine.patterns import escape
from backups.kinds import STRATEGIES
from backups.models import BackupPart
from recovery.models import Recovery, RecoveryType


def base_of(part: BackupPart) -> bytes:
    """The path in the snapshot that becomes the root of the target: the strategy knows which of what it captured."""
    base: bytes = STRATEGIES.load(part.source.kind).restore_base(part.facts)
    return base


def patterns(recovery: Recovery, base: bytes) -> tuple[list[bytes], list[bytes]]:
    """(include, exclude) as the engine reads them."""
    literal = recovery.type == RecoveryType.PARTIAL
    include = [_included(_path(text) if literal else os.fsencode(text), base, literal) for text in recovery.include]
    return include, [os.fsencode(text) for text in recovery.exclude]


def _path(text: str) -> bytes:
    """A path as listings show it, with \\xNN for odd bytes; as it is when nothing was shown like that."""
    try:
        return from_printable(text)
    except (ValueError, IndexError):
        return os.fsencode(text)


def _included(pattern: bytes, base: bytes, literal: bool) -> bytes:
    """A leading slash means the path as it was on the host; without one it counts from the base. Only a name with
    wildcards and without a slash is looked for at every depth."""
    floats = not literal and b"/" not in pattern and any(sign in pattern for sign in (b"*", b"?", b"["))
    if floats:
        return pattern
    body = escape(pattern) if literal else pattern
    return body if pattern.startswith(b"/") else b"/" + escape(base) + b"/" + body if base else b"/" + body
