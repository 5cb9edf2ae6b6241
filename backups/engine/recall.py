"""The log's newest records as this host has read them before, kept in its cache: up to 256 need not be fetched again.

They are sealed with the repository's own keys, because they tell what is backed up. A record never changes, so one that
is listed under the same name is the same; whether the stored object is still what it was, checks look and runs do not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgpack

from backups.engine.envelope import METADATA, Opened, Sealer
from backups.engine.errors import EngineError
from backups.engine.format import ObjectType, SectionKind


def recalled(path: Path, sealer: Sealer) -> dict[str, bytes]:
    """Raw bytes of records by name; none where the cache was lost, is damaged, or is of keys that are gone."""
    try:
        opened = Opened(sealer, path.name, path.read_bytes(), (ObjectType.LOCAL,))
        records: dict[str, bytes] = msgpack.unpackb(opened.section(opened.sections[0]))
        return records
    except (OSError, EngineError, ValueError):
        return {}


def remember(path: Path, sealer: Sealer, records: Mapping[str, bytes]) -> None:
    """In place of what was kept before."""
    writer = sealer.new(ObjectType.LOCAL)
    writer.add(SectionKind.RECORD, msgpack.packb(dict(records)), METADATA)
    temporary = path.with_name(f".records-{os.getpid()}")
    with suppress(OSError):  # without it they are fetched
        temporary.touch(0o600)
        temporary.write_bytes(writer.finish({}, METADATA))
        temporary.rename(path)
