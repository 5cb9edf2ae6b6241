"""A store around a store that counts: for progress, limits and bills."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from threading import Lock

from backups.engine.store import Capabilities, Data, ObjectInfo, Place


@dataclass(frozen=True, slots=True)
class Usage:
    """What went through a store: finished requests by verb, and payload bytes each way."""

    puts: int = 0
    gets: int = 0
    stats: int = 0
    lists: int = 0
    deletes: int = 0
    bytes_put: int = 0
    bytes_got: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Usage)))


class MeteredStore:
    """Counts what succeeded. Safe for threads; fresh() counts from zero, so that the sums of all children add up."""

    def __init__(self, store: Place) -> None:
        self._store = store
        self._usage = Usage()
        self._lock = Lock()

    @property
    def usage(self) -> Usage:
        return self._usage

    def create(self) -> None:
        self._store.create()

    def put(self, name: str, data: Data) -> None:
        self._store.put(name, data)
        self._count(Usage(puts=1, bytes_put=len(data)))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = self._store.get(name, start, length)
        self._count(Usage(gets=1, bytes_got=len(data)))
        return data

    def stat(self, name: str) -> ObjectInfo:
        info = self._store.stat(name)
        self._count(Usage(stats=1))
        return info

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._store.list(prefix)
        self._count(Usage(lists=1))

    def delete(self, name: str) -> None:
        self._store.delete(name)
        self._count(Usage(deletes=1))

    def set_aside(self, name: str, aside: str) -> None:
        """Neither counted nor billed: the bytes stay where they are."""
        self._store.set_aside(name, aside)

    def sweep(self, older_than_seconds: float) -> int:
        return self._store.sweep(older_than_seconds)

    def capabilities(self) -> Capabilities:
        return self._store.capabilities()

    def fresh(self) -> MeteredStore:
        return MeteredStore(self._store.fresh())

    def describe(self) -> str:
        return self._store.describe()

    def _count(self, more: Usage) -> None:
        with self._lock:
            self._usage += more
