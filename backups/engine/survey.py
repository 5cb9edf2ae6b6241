"""What really lies in a place: every object read, and its bytes compared with its name."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from backups.engine import format as fmt
from backups.engine.envelope import Sealer
from backups.engine.errors import (
    EngineError,
    ForeignRepository,
    NewerFormat,
    ObjectDamaged,
    ObjectMissing,
    StoreAbsent,
    StoreUnavailable,
    WrongSecret,
)
from backups.engine.keyobjects import parse_public
from backups.engine.options import default_workers
from backups.engine.pack import PackInfo, read_ends
from backups.engine.repository import Config, read_config
from backups.engine.store import ObjectStore
from backups.engine.workers import Emit, ForkedPool, InlinePool, Task

SMALL = ("keys/", "log/", "index/")  # what is read before anything can be opened


class Wrong(NamedTuple):
    """Other bytes than the name promises: why, and their own SHA-256 as hex ("" where they cannot be read)."""

    why: str
    sha256: str


@dataclass
class Survey:
    """sizes: bytes of every object there, by name; wrong: those of them that are not what was written;
    told: what packs that no index object describes say of themselves, by their SHA-256."""

    sizes: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, Wrong] = field(default_factory=dict)
    told: dict[bytes, PackInfo] = field(default_factory=dict)
    bytes_read: int = 0

    def intact(self, name: str) -> bool:
        return name in self.sizes and name not in self.wrong

    @property
    def packs(self) -> list[bytes]:
        """SHA-256 of every pack there, as their names tell it."""
        return [fmt.digest_of(name) for name in self.sizes if name.startswith("packs/")]


def listed(store: ObjectStore) -> dict[str, int]:
    """The size of every object of a repository in a place, in bytes; nothing else that may lie there."""
    return {info.name: info.size for info in store.list("") if fmt.is_object_name(info.name)}


def begun(store: ObjectStore) -> Survey:
    """Everything is listed, and all but the packs is read. Whether a config that can be read is right the log tells."""
    survey = Survey(listed(store))
    if "config" in survey.sizes:
        _read_config(survey, store)
    for name in [name for name in survey.sizes if name.startswith(SMALL)]:
        _take(survey, name, _Reader(store).do([name, False]))
    return survey


def _read_config(survey: Survey, store: ObjectStore) -> None:
    try:
        read_config(store)
    except (ObjectDamaged, ForeignRepository, NewerFormat) as error:  # a really newer format the key objects tell, too
        survey.wrong["config"] = Wrong(error.why if isinstance(error, ObjectDamaged) else str(error), "")


def proves_itself(name: str, data: bytes) -> bool:
    """Are these the bytes that the name promises? A config's name promises nothing: is it one at all?"""
    if name != "config":
        return fmt.name_matches(name, data)
    try:
        return bool(Config.decode(data, "").id)
    except EngineError:
        return False


def finish(
    survey: Survey,
    store: ObjectStore,
    sealer: Sealer,
    described: Collection[bytes],
    workers: int | None,
    progress: Callable[[Survey], None],
) -> None:
    """Read all packs, too. Those that no index object describes are asked what they hold."""
    digests = sorted(survey.packs)
    pool, told = _pool(store, sealer, len(digests), workers), time.monotonic()
    try:
        for digest in digests:
            name = fmt.pack_name(digest)
            pool.submit([name, digest not in described], partial(_take, survey, name))
            if time.monotonic() - told >= 1:
                told = time.monotonic()
                progress(survey)
        pool.flush()
    finally:
        pool.close()


def _take(survey: Survey, name: str, found: dict[str, Any]) -> None:
    if found["gone"]:
        del survey.sizes[name]
        return
    survey.bytes_read += survey.sizes[name]
    if found["why"]:
        survey.wrong[name] = Wrong(found["why"], found["sha256"])
    if found["pack"]:
        survey.told[fmt.digest_of(name)] = PackInfo.unpack(found["pack"])


def _pool(store: ObjectStore, sealer: Sealer, tasks: int, workers: int | None) -> ForkedPool | InlinePool:
    count = default_workers() if workers is None else workers
    if tasks < 3 or not count or not store.capabilities().across_processes:
        return InlinePool(lambda _emit: _Reader(store, sealer), _ignore)

    def make(_emit: Emit) -> _Reader:
        return _Reader(store.fresh(), sealer)

    return ForkedPool(make, _ignore, count)


class _Reader:
    """The worker's side: reads one object whole."""

    def __init__(self, store: ObjectStore, sealer: Sealer | None = None) -> None:
        self._store, self._sealer = store, sealer

    def do(self, task: Task) -> dict[str, Any]:
        name, ask = task
        try:
            data = self._store.get(name)
        except ObjectMissing:
            return _found(gone=True)
        except (ObjectDamaged, StoreUnavailable) as error:
            return _found(why=unreadable(self._store, name, error))
        digest = hashlib.sha256(data).hexdigest()
        why = "" if fmt.name_matches(name, data) else "its SHA-256 is not its name"
        return _found(why=why, sha256=digest, pack=self._asked(name, data) if ask else None)

    def _asked(self, name: str, data: bytes) -> list[Any] | None:
        assert self._sealer is not None
        try:
            info = read_ends(self._sealer, fmt.digest_of(name), len(data), lambda _, at, n: data[at : at + n])
        except (ObjectDamaged, NewerFormat, WrongSecret):
            return None
        return info.pack()

    def finish(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is kept open."""


def unreadable(store: ObjectStore, name: str, error: EngineError) -> str:
    """Why an object cannot be read. A place that does not answer is no damage, and raises; one that answers, and cannot
    read this object, has lost it."""
    if isinstance(error, ObjectDamaged):
        return error.why
    if isinstance(error, StoreAbsent):
        raise error
    store.stat(name)
    return "the place cannot read it"


def _found(**facts: Any) -> dict[str, Any]:
    return {"gone": False, "why": "", "sha256": "", "pack": None, **facts}


def _ignore(_topic: str, _value: Any) -> None:
    """Readers emit nothing."""


def identities(store: ObjectStore, names: Iterable[str]) -> set[str]:
    """The repositories (hex) that the key objects of a place name."""
    found = set()
    for name in names:
        try:
            found.add(str(parse_public(name, store.get(name))["repository"]))
        except (ObjectMissing, ObjectDamaged, NewerFormat):
            continue
    return found
