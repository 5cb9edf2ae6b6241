"""What a run looks at before it relies on what is stored, so that its start does not grow with the history.

Everything could be asked for with two listings, of the packs and of the index objects; after thousands of runs they are
what the next one costs. So a host remembers in its cache when it last saw what, and looks again in turn:

- Packs lie in 256 shards. A run lists some of them, those first that nobody looked at for longest, and any before
  something new is deduplicated against a pack in it. Where one pack is gone all are looked at.
- Which index objects are new the log tells, unless it tells of anything but snapshots and other harmless words.

A run that does not end well remembers nothing: the next one looks at everything, and finds what it left.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from backups.engine import format as fmt
from backups.engine.log import covers
from backups.engine.repository import Repository

SHARDS = 256  # of packs: by the first byte of their names
EACH_RUN = 16  # shards that a run looks at: all of them in 16 runs
LONGEST = 7 * 86_400.0  # seconds for which it counts that a shard was seen
SEEN, DOUBT = "seen", "doubt"  # files of the cache
LISTED = 86_400.0  # seconds for which it counts that the index objects were listed


@dataclass
class Memory:
    """What was seen, when (Unix seconds). A time to come counts as never: somebody has set the clock."""

    place: str  # which store: copies of a repository share its id
    shards: list[float] = field(default_factory=lambda: [0.0] * SHARDS)  # when no known pack of it was missing
    listed: float = 0.0  # the index objects
    since: int = 0  # number of the log's next record then; `covered` is what covers() told below it
    covered: dict[str, list[Any]] = field(default_factory=dict)
    objects: int = 0  # index objects that the cache knew then

    def due(self, now: float) -> list[int]:
        """Shards that a run has to look at."""
        by_age = sorted(range(SHARDS), key=lambda shard: (_age(self.shards[shard], now) * -1, shard))
        old = sum(_age(seen, now) > LONGEST for seen in self.shards)
        return by_age[: max(EACH_RUN, old)]


def _age(seen: float, now: float) -> float:
    return now - seen if seen <= now else float("inf")


class Lookout:
    """Made when a run begins; keep() when it has ended well.

    Workers ask holds() too, each for itself, and leave a word beside the memory when something is gone.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._path = repository.cache / SEEN if repository.cache else None
        place = repository.store.describe()
        self._memory = _taken(self._path, place) or Memory(place)
        self._fine = set[int]()  # shards that were looked at in this run, and nothing was missing

    def look(self) -> frozenset[bytes]:
        """Bring the index up to date, and look for packs; SHA-256 of those that are gone or have another size."""
        now = time.time()
        self._read_index(now)
        absent = self._absent(self._memory.due(now))
        if absent:  # one that is gone is seldom alone
            absent = self._absent(range(SHARDS))
        for shard in self._fine:
            self._memory.shards[shard] = now
        for pack in absent:  # until it is told no more
            self._memory.shards[pack[0]] = 0.0
        return absent

    def holds(self, pack: bytes) -> bool:
        """Whether a pack that the index knows is stored. Asks for its shard once."""
        if pack[0] in self._fine:
            return True
        absent = self._absent([pack[0]])
        if absent:
            distrust(self._repository)
        return pack not in absent

    def keep(self) -> None:
        """What was seen counts for the next run."""
        if self._path is None or not self._memory.listed:
            return
        with suppress(OSError):  # without it the next run looks at more
            _keep(self._path, self._memory)

    def _absent(self, shards: Collection[int]) -> frozenset[bytes]:
        stored = self._stored(shards)
        known = self._repository.sync_index().packs_in(frozenset(shards))
        absent = frozenset(pack.digest for pack in known if stored.get(pack.digest) != pack.size)
        self._fine |= set(shards) - {digest[0] for digest in absent}
        return absent

    def _stored(self, shards: Collection[int]) -> dict[bytes, int]:
        if len(shards) == SHARDS:
            return self._repository.stored_packs()
        found = dict[bytes, int]()
        for shard in shards:
            found |= self._repository.stored_packs(f"{shard:02x}/")
        return found

    def _read_index(self, now: float) -> None:
        memory, log = self._memory, self._repository.log
        told = log.index_told_since(memory.since, memory.covered) if _age(memory.listed, now) <= LISTED else None
        if told is None or not self._repository.learn_index(told, memory.objects):
            self._repository.sync_index()
            memory.listed = now
        memory.since, memory.covered = log.next_seq, covers(log.names, log.next_seq)
        memory.objects = len(self._repository.index.objects)


def distrust(repository: Repository) -> None:
    """Something is gone or damaged: the next run looks at everything, whatever a run that goes on now remembers."""
    if repository.cache is not None:
        with suppress(OSError):
            (repository.cache / DOUBT).touch(0o600)


def _taken(path: Path | None, place: str) -> Memory | None:
    """What is remembered of this place; it is taken away, until a run has ended well."""
    if path is None:
        return None
    try:
        data = path.read_bytes()
        path.unlink()
        if (doubt := path.with_name(DOUBT)).exists():
            doubt.unlink()
            return None
        told: Mapping[str, Any] = msgpack.unpackb(data[32:])
        memory = Memory(**told)
    except (OSError, ValueError, TypeError):
        return None
    sound = fmt.sha256(data[32:]) == data[:32] and len(memory.shards) == SHARDS
    return memory if sound and memory.place == place else None


def _keep(path: Path, memory: Memory) -> None:
    data = msgpack.packb(asdict(memory))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".seen-{time.monotonic_ns()}")
    temporary.touch(0o600)
    temporary.write_bytes(fmt.sha256(data) + data)
    temporary.rename(path)
