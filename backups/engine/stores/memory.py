"""Objects in this process's memory: for tests, rehearsals and the rescue of small things."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from backups.engine.errors import ObjectMissing
from backups.engine.store import (
    Capabilities,
    Data,
    ObjectInfo,
    refuse_overwrite,
    span,
    validate_name,
    validate_prefix,
)


class MemoryStore:
    """A dict with the promises of the port, except that it dies with the process. Safe for threads."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = Lock()

    def create(self) -> None:
        """Nothing to make."""

    def put(self, name: str, data: Data) -> None:
        validate_name(name)
        data = bytes(data)
        with self._lock:
            if self.objects.setdefault(name, data) != data:
                refuse_overwrite(name, data, self.describe())
                self.objects[name] = data

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = self._kept(name)
        return data[start : start + span(name, len(data), start, length)]

    def stat(self, name: str) -> ObjectInfo:
        return ObjectInfo(name, len(self._kept(name)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        validate_prefix(prefix)
        with self._lock:
            found = [ObjectInfo(name, len(data)) for name, data in self.objects.items() if name.startswith(prefix)]
        return iter(sorted(found))

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(validate_name(name), None)

    def set_aside(self, name: str, aside: str) -> None:
        data = self._kept(name)
        with self._lock:
            self.objects.setdefault(validate_name(aside), data)

    def sweep(self, older_than_seconds: float) -> int:
        """Nothing is ever unfinished here."""
        return 0

    def capabilities(self) -> Capabilities:
        return Capabilities(across_processes=False, durable=False)

    def fresh(self) -> MemoryStore:
        return self

    def describe(self) -> str:
        return "this process's memory"

    def _kept(self, name: str) -> bytes:
        try:
            return self.objects[validate_name(name)]
        except KeyError:
            raise ObjectMissing(name, self.describe()) from None
