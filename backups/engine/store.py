"""The narrow port to a place that keeps objects: seven verbs and their promises."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from backups.engine.errors import EngineError, ObjectDamaged, ObjectExists

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)*\Z")
_PREFIX = re.compile(r"[a-z0-9/-]*\Z")
_PROMISE = re.compile(r"(?:[0-9]{12}-([0-9a-f]{32})|([0-9a-f]{64}))\Z")


Data = bytes | memoryview


class ObjectInfo(NamedTuple):
    """A finished object: its name and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a place can do, found out when a repository is made and daily."""

    across_processes: bool = True  # a second process sees what the first one put
    durable: bool = True  # put returns only after the bytes survive a power cut
    overwrite_refused: bool = True  # a name that exists with other content is refused even in a race of two writers
    writable: bool = True  # put may succeed at all
    parallel: int = 2  # transfers that may run at once
    free_bytes: int | None = None  # room left for us; None: the place does not tell
    free_objects: int | None = None  # inodes left for us; None: unlimited, or the place does not tell


class ObjectStore(Protocol):
    """Named, write-once byte objects. Names are lower-case ASCII with '/', see validate_name().

    put     is atomic and durable: readers see all of it or none, and it has survived when put returns.
            Putting the same name again is harmless. A name that promises its content (promised_digest) is
            healed when what is kept under it is damaged; any other name with other content: ObjectExists.
            The data may be a view of memory that its owner uses again once put has returned: it is copied if kept.
    get     returns exactly the asked bytes, or raises ObjectMissing, ObjectDamaged (the object ends before
            the asked range does) or StoreUnavailable; never short.
    stat    raises ObjectMissing.
    list    yields every finished object whose name starts with the prefix, in name order; unfinished
            uploads are invisible.
    delete  of a missing object is not an error.
    set_aside  keeps an object's bytes under a second name as well, whatever they are and also where they cannot be
            read; the first name keeps them too. It is durable when it returns. A second name that is taken stays as it
            is. ObjectMissing when there is nothing to keep.

    A name is never also the folder of another name: beside "a" there is no "a/b".
    """

    def put(self, name: str, data: Data) -> None: ...

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes: ...

    def stat(self, name: str) -> ObjectInfo: ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]: ...

    def delete(self, name: str) -> None: ...

    def set_aside(self, name: str, aside: str) -> None: ...

    def capabilities(self) -> Capabilities: ...

    def fresh(self) -> ObjectStore:
        """The same place with connections of its own; called in every child after a fork."""
        ...

    def describe(self) -> str:
        """The place in words, for messages; without secrets."""
        ...


class Place(ObjectStore, Protocol):
    """A store in the hands of its owner, who may also make it and tidy it."""

    def create(self) -> None:
        """Make the place ready to be written to; harmless when it is. Nothing else ever makes it."""
        ...

    def sweep(self, older_than_seconds: float) -> int:
        """Remove unfinished uploads not touched for that long; how many they were. A writer that lost a
        slow upload this way gets a temporary error and sends it again."""
        ...

    def fresh(self) -> Place: ...


def validate_name(name: str) -> str:
    """No crap in, no crap out: raise EngineError unless the name is one a store may keep."""
    if not _NAME.match(name):
        raise EngineError(f"{name!r} is not an object name: lower-case letters, digits, '-' and '/' only.")
    return name


def validate_prefix(prefix: str) -> str:
    """Raise EngineError unless the prefix could begin an object's name ("" begins them all)."""
    if not _PREFIX.match(prefix):
        raise EngineError(f"{prefix!r} cannot begin an object name: lower-case letters, digits, '-' and '/' only.")
    return prefix


def promised_digest(name: str) -> str | None:
    """The SHA-256 (64 hex digits, or their first 32) that a name promises of its content; None: it promises nothing."""
    found = _PROMISE.match(name.rpartition("/")[2])
    return (found[1] or found[2]) if found else None


def refuse_overwrite(name: str, data: Data, where: str) -> None:
    """Other bytes than data are kept under the name: raise, unless the name promises data.

    Then what is kept is damaged, and is to be replaced. Raises ObjectDamaged when data itself breaks the
    promise, and ObjectExists when the name promises nothing.
    """
    promise = promised_digest(name)
    if promise is None:
        raise ObjectExists(name, where)
    if not hashlib.sha256(data).hexdigest().startswith(promise):
        raise ObjectDamaged(name, "the bytes to be put do not have the SHA-256 of the name")


def span(name: str, size: int, start: int, length: int | None) -> int:
    """How many bytes to read of an object of that size; ObjectDamaged when it ends before the asked range does."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"Bytes {start} + {length} of {name}: a range cannot be negative.")
    wanted = size - start if length is None else length
    if wanted < 0 or start + wanted > size:
        raise ObjectDamaged(name, f"it ends at byte {size}, and byte {start + max(wanted, 0)} was asked for")
    return wanted
