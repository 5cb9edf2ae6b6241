"""The keys of the console that writes a repository, sealed in its log: any secret that opens it gives them back.

A record of the kind “console” holds them. Readers that do not know the kind pass over it; the newest one counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backups.engine.disk import printable, reason
from backups.engine.errors import EngineError, KeysMissing, ObjectDamaged, ObjectMissing, TargetError
from backups.engine.log import Log, Record
from backups.engine.repository import Repository

KIND = "console"
LONGEST = 64 << 10  # bytes of one file; keys are small
_NAME = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True)
class ConsoleKeys:
    """What one record holds. Its repr never shows the keys."""

    record: str  # name of the log record
    time: float  # Unix seconds
    console: str  # address of the console they belong to
    files: Mapping[str, bytes] = field(repr=False)


def seal(repository: Repository, files: Mapping[str, bytes], console: str) -> ConsoleKeys:
    """Write the files (name → content), unless the newest record that can be read holds the very same."""
    for name, content in files.items():
        if not _NAME.fullmatch(name) or len(content) > LONGEST:
            raise EngineError(f"{name!r} is no key: names have small letters, digits and _, contents up to 64 KiB.")
    with suppress(KeysMissing, ObjectDamaged, ObjectMissing):  # what cannot be read is written again
        there = read(repository)
        if there.files == dict(files) and there.console == console:
            return there
    body = {"files": dict(files), "console": console, "time": time.time()}
    record = repository.log.append(KIND, body)
    repository.remember_leaves()
    return _told(record)


def read(repository: Repository) -> ConsoleKeys:
    """The newest keys. Raises KeysMissing when there are none, ObjectDamaged or ObjectMissing of their record."""
    log = repository.log
    record = log.read(log.console) if log.console else _searched(log)
    if record is None:
        raise KeysMissing("No console has sealed its keys in this repository; look in the first one that it made.")
    return _told(record)


def _make_private(directory: str) -> None:
    """With every parent that is not there (`os.makedirs` opens those to all): they become a console's home."""
    parent = os.path.dirname(directory)
    if parent and not os.path.isdir(parent):
        _make_private(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)


def write(keys: ConsoleKeys, directory: str) -> list[str]:
    """Put each file (0600) into the directory, made (0700) when it is not there; their paths, by name.

    TargetError when one of them exists: nothing is written over.
    """
    try:
        _make_private(directory)
        paths = {os.path.join(directory, name): content for name, content in sorted(keys.files.items())}
        for path in filter(os.path.lexists, paths):
            raise TargetError(
                f"{printable(os.fsencode(path))} exists already; move it away, or choose another directory."
            )
        for path, content in paths.items():
            _put(path, content)
    except OSError as error:
        where = printable(os.fsencode(directory))
        raise TargetError(f"The keys cannot be written to {where}: {reason(error)}.") from None
    return list(paths)


def _searched(log: Log) -> Record | None:
    """Among the records behind a checkpoint whose writer did not know the kind; the newest first."""
    for name in sorted(log.unread, reverse=True):
        with suppress(ObjectDamaged, ObjectMissing):
            record = log.read(name)
            if record.kind == KIND:
                return record
    return None


def _told(record: Record) -> ConsoleKeys:
    body: Mapping[str, Any] = record.body
    try:
        files = {name: bytes(content) for name, content in body["files"].items()}
        keys = ConsoleKeys(record.name, float(body["time"]), str(body["console"]), files)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ObjectDamaged(record.name, "it does not hold a console's keys as they are written") from None
    if not all(_NAME.fullmatch(name) for name in files):
        raise ObjectDamaged(record.name, "it names a key as no console does")
    return keys


def _put(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
