"""One writer and one compactor over one store, in an order that a story decides: the real code, stopped before each
operation of the store that the other one could notice.

Reads of single objects are no stops: objects never change, and where they are deleted the deletion is the stop. Orders
are told by the numbers of stops after which the other one goes on, so that few numbers make all orders with few
changes from one to the other; an actor that has to wait gives way for nothing.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from backups.engine import CompactOptions, check, compact
from backups.engine.commit import proven
from backups.engine.errors import EngineError, LostLease, SnapshotMissing
from backups.engine.store import Capabilities, Data, ObjectInfo
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import archived, files_of, opened
from tests.faults import Crash

WRITER, COMPACTOR = "writer", "compactor"
OPTIONS = CompactOptions(unused=0.0, grace=0.0)
Backup = Callable[["Stepped", Callable[[], None]], object]  # the store, and what a commit asks


@dataclass(frozen=True)
class Order:
    """first begins; after switches[0] of its stops the other one goes on, after switches[1] of that one's stops the
    first again, and so on; who goes on last goes on to the end.

    lost     the writer loses its lease, without knowing, when it is stopped for the first time
    crash    who is killed, and before which of its stops (from 1)
    """

    first: str
    switches: tuple[int, ...]
    lost: bool = False
    crash: tuple[str, int] | None = None


class Actor:
    """A thread that stands still before every stop until it is told to go on."""

    def __init__(self, name: str, deed: Callable[[], object]) -> None:
        self.name = name
        self.stops = 0
        self.waiting: Callable[[], bool] = lambda: False
        self.ended = False
        self.error: BaseException | None = None
        self.crash_at = 0
        self._deed = deed
        self._go, self._still = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def go(self) -> None:
        """On to the next stop, or to the end."""
        self._go.release()
        assert self._still.acquire(timeout=60), f"{self.name} does not come to a stop"

    def stop(self) -> None:
        """Called by its own thread."""
        self.stops += 1
        self._still.release()
        self._go.acquire()
        if self.crash_at and self.stops >= self.crash_at:
            raise Crash

    def wait_while(self, condition: Callable[[], bool]) -> None:
        self.waiting = condition
        while condition():
            self.stop()
        self.waiting = lambda: False

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._deed()
        except BaseException as error:
            self.error = error
        self.ended = True
        self._still.release()


class Stepped:
    """The store as one actor sees it."""

    def __init__(self, store: MemoryStore) -> None:
        self.inner, self.actor = store, None
        self.stop: Callable[[], None] = lambda: None

    def create(self) -> None:
        self.inner.create()

    def put(self, name: str, data: Data) -> None:
        self.stop()
        self.inner.put(name, data)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self.inner.get(name, start, length)

    def stat(self, name: str) -> ObjectInfo:
        return self.inner.stat(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.stop()
        return self.inner.list(prefix)

    def delete(self, name: str) -> None:
        self.stop()
        self.inner.delete(name)

    def set_aside(self, name: str, aside: str) -> None:
        self.stop()
        self.inner.set_aside(name, aside)

    def sweep(self, older_than_seconds: float) -> int:
        return self.inner.sweep(older_than_seconds)

    def capabilities(self) -> Capabilities:
        return self.inner.capabilities()

    def fresh(self) -> Stepped:
        return self

    def describe(self) -> str:
        return self.inner.describe()


@dataclass
class World:
    """What there was before, the backup that is made, and what it holds.

    objects  of a repository with snapshots `kept`: id → below which directory, with which files
    backup   makes the snapshot "made" of `files` in `folder`
    """

    objects: dict[str, bytes]
    kept: dict[str, tuple[str, dict[str, bytes]]]
    folder: str
    files: dict[str, bytes]
    backup: Backup


@dataclass
class Outcome:
    """What one order led to. broken: sentences about promises that were not kept."""

    order: Order
    stops: dict[str, int] = field(default_factory=dict)
    acknowledged: bool = False
    broken: list[str] = field(default_factory=list)


class Play:
    """One order, played."""

    def __init__(self, world: World, order: Order, *, waits: bool = True) -> None:
        """waits: the compactor waits for the lease of the writer (step 3)."""
        self._world, self._order, self._waits = world, order, waits
        self._store = MemoryStore()
        self._store.objects = dict(world.objects)
        self._leased = self._acknowledged = False
        self._lost = False
        self._actors = {WRITER: Actor(WRITER, self._write), COMPACTOR: Actor(COMPACTOR, self._compact)}

    def outcome(self) -> Outcome:
        if crash := self._order.crash:
            self._actors[crash[0]].crash_at = crash[1]
        self._play()
        told = Outcome(self._order, {name: actor.stops for name, actor in self._actors.items()})
        self._settle()
        told.acknowledged = self._acknowledged
        told.broken = [*self._errors(), *self._losses("at once")]
        if not told.broken:
            told.broken = [*self._next_run(), *self._losses("after the next run")]
        return told

    # the two

    def _write(self) -> None:
        """Under a lease, from before the repository is opened to behind the commit."""
        self._leased = True
        try:
            self._world.backup(self._stepped(WRITER), self._asked)
            self._acknowledged = True
        finally:
            self._leased = False

    def _asked(self) -> None:
        if self._lost:
            raise LostLease("The lease is lost.")

    def _compact(self) -> None:
        compact(opened(self._stepped(COMPACTOR)), OPTIONS, wait=self._wait if self._waits else lambda _marks: True)

    def _wait(self, _marks: Sequence[str]) -> bool:
        self._actors[COMPACTOR].wait_while(lambda: self._leased and not self._lost)
        return True

    def _stepped(self, name: str) -> Stepped:
        store = Stepped(self._store)
        store.stop = self._actors[name].stop
        return store

    # their order

    def _play(self) -> None:
        second = COMPACTOR if self._order.first == WRITER else WRITER
        turns = itertools.cycle((self._order.first, second))
        for many in (*self._order.switches, None, None, None):
            self._turn(self._actors[next(turns)], many)
        assert all(actor.ended for actor in self._actors.values()), self._order

    def _turn(self, actor: Actor, many: int | None) -> None:
        done = 0
        while not actor.ended and not actor.waiting() and (many is None or done < many):
            actor.go()
            done += 1
        if actor.name == WRITER and self._order.lost and not actor.ended and actor.stops:
            self._lost = True

    # what became of it

    def _settle(self) -> None:
        """A console asks the log whether the commit of a killed writer happened, and counts it when it did."""
        error = self._actors[WRITER].error
        if not isinstance(error, Crash):
            return
        repository = opened(self._store)
        try:
            snapshot = repository.log.snapshot("made")
        except SnapshotMissing:
            return
        if proven(repository, snapshot):
            self._acknowledged = True
        else:
            repository.log.append("forget", {"forget": ["made"]})

    def _errors(self) -> Iterator[str]:
        """Who has its lease and is not killed comes to a good end."""
        writer, compactor = self._actors[WRITER].error, self._actors[COMPACTOR].error
        if writer and not self._lost and not isinstance(writer, Crash):
            yield f"the healthy writer failed: {writer}"
        if isinstance(writer, BaseException) and not isinstance(writer, EngineError | Crash):
            yield f"the writer met a bug: {writer!r}"
        if compactor and not isinstance(compactor, Crash):
            yield f"the compactor failed: {compactor!r}"

    def _next_run(self) -> Iterator[str]:
        """Whatever was cut off, the next compaction finishes it, and leaves a sound repository."""
        try:
            compact(opened(self._store), OPTIONS, wait=lambda _marks: True)
            yield from (f"{p.object}: {p.message}" for p in check(opened(self._store), 3, workers=0).problems)
        except EngineError as error:
            yield f"the next run failed: {error}"

    def _losses(self, when: str) -> Iterator[str]:
        repository = opened(self._store)
        promised = dict(self._world.kept)
        if self._acknowledged:
            promised["made"] = (self._world.folder, self._world.files)
        for snapshot, (folder, files) in promised.items():
            try:
                if files_of(repository, repository.log.snapshot(snapshot), folder) != files:
                    yield f"{snapshot} came back otherwise {when}"
            except EngineError as error:
                yield f"{snapshot} is lost {when}: {error}"


def played(world: World, orders: Sequence[Order] | Iterator[Order], *, waits: bool = True) -> Iterator[Outcome]:
    for order in orders:
        yield Play(world, order, waits=waits).outcome()


def stops(world: World) -> dict[str, int]:
    """How many stops each has when one goes on to the end after the other."""
    return Play(world, Order(WRITER, ())).outcome().stops


def orders(many: dict[str, int], changes: int) -> Iterator[Order]:
    """All orders with so many changes before one of the two goes on to the end; with and without a lost lease."""
    other = {WRITER: COMPACTOR, COMPACTOR: WRITER}
    for first in (WRITER, COMPACTOR):
        turns = list(itertools.islice(itertools.cycle((first, other[first])), changes))
        for switches in itertools.product(*(range(1, many[name] + 1) for name in turns)):
            if all(sum(switches[at::2]) <= many[name] for at, name in enumerate(turns[:2])):
                yield Order(first, switches)
                yield Order(first, switches, lost=True)


def killed(order: Order, many: dict[str, int]) -> Iterator[Order]:
    """The order with one of the two killed before each of its stops."""
    for name, count in many.items():
        for at in range(1, count + 1):
            yield replace(order, crash=(name, at))


def backup_of(folder: str, entries: Callable[[], Iterator[object]]) -> Backup:
    """A writer that opens the repository and stores these entries as the snapshot "made"."""

    def backup(store: Stepped, asked: Callable[[], None]) -> object:
        return archived(opened(store), entries(), "made", commit=asked)  # type: ignore[arg-type]

    return backup
