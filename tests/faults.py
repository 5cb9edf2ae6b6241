"""A store that fails on purpose, by script or at random from a seed: the same seed, the same faults."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from backups.engine.errors import EngineError, StoreUnavailable
from backups.engine.store import Capabilities, Data, ObjectInfo, Place

T = TypeVar("T")


class Harm(Enum):
    """What happens to an operation."""

    ERROR = "error"  # it is not carried out
    LOST_REPLY = "lost reply"  # it is carried out, and then an error is raised
    DELAY = "delay"  # it takes longer
    SHORT = "short"  # a get returns too few bytes: a place that breaks the port's promise
    CORRUPT = "corrupt"  # a get returns one bit turned over
    CRASH = "crash"  # the process ends before the operation
    CRASH_AFTER = "crash after"  # the process ends after the operation


class Crash(BaseException):
    """The process is dead: nobody may catch this, and the store answers nothing any more."""


BROKEN = StoreUnavailable("The connection broke.")


@dataclass(frozen=True)
class Fault:
    """Harm to some operations.

    verb   put, get, stat, list, delete, set_aside, or "any"
    at     the first operation harmed, counted from 1 among those of the verb
    times  how many in a row are harmed
    """

    harm: Harm
    verb: str = "any"
    at: int = 1
    times: int = 1
    error: EngineError = BROKEN
    seconds: float = 0.0

    def hits(self, verb: str, count: int, total: int) -> bool:
        number = total if self.verb == "any" else count
        return self.verb in (verb, "any") and self.at <= number < self.at + self.times


class FaultyStore:
    """Passes every verb on to the store inside, with the harm that the script tells.

    storm  the share of operations that get a temporary error or lose their reply, besides the script
    kill   a crash is SIGKILL to the own process instead of the exception Crash
    """

    def __init__(
        self,
        store: Place,
        faults: Iterable[Fault] = (),
        *,
        storm: float = 0.0,
        seed: int = 0,
        kill: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = store
        self.faults = list(faults)
        self.counts: Counter[str] = Counter()
        self._storm = storm
        self._random = random.Random(seed)
        self._kill = kill
        self._sleep = sleep
        self._dead = False

    @property
    def operations(self) -> int:
        """How many operations were begun; a crash test runs once for each of them."""
        return self.counts.total()

    def create(self) -> None:
        self.inner.create()

    def put(self, name: str, data: Data) -> None:
        self._harmed("put", lambda: self.inner.put(name, data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._harmed("get", lambda: self.inner.get(name, start, length), self._spoil)

    def stat(self, name: str) -> ObjectInfo:
        return self._harmed("stat", lambda: self.inner.stat(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """An error strikes in the middle: after the first half of the names."""
        found = list(self.inner.list(prefix))
        half = len(found) // 2
        yield from found[:half]
        yield from self._harmed("list", lambda: found[half:])

    def delete(self, name: str) -> None:
        self._harmed("delete", lambda: self.inner.delete(name))

    def set_aside(self, name: str, aside: str) -> None:
        self._harmed("set_aside", lambda: self.inner.set_aside(name, aside))

    def sweep(self, older_than_seconds: float) -> int:
        return self.inner.sweep(older_than_seconds)

    def capabilities(self) -> Capabilities:
        return self.inner.capabilities()

    def fresh(self) -> FaultyStore:
        """The same script from its beginning, around a fresh store."""
        seed = self._random.randrange(2**32)
        return FaultyStore(
            self.inner.fresh(), self.faults, storm=self._storm, seed=seed, kill=self._kill, sleep=self._sleep
        )

    def describe(self) -> str:
        return self.inner.describe()

    def _harmed(self, verb: str, deed: Callable[[], T], spoil: Callable[[T, Harm], T] = lambda data, _: data) -> T:
        if self._dead:
            raise Crash
        faults = self._due(verb)
        for fault in faults:
            self._before(fault)
        result = deed()
        for fault in faults:
            self._after(fault)
            result = spoil(result, fault.harm)
        return result

    def _due(self, verb: str) -> Sequence[Fault]:
        self.counts[verb] += 1
        due = [fault for fault in self.faults if fault.hits(verb, self.counts[verb], self.operations)]
        if self._random.random() < self._storm:
            due.append(Fault(self._random.choice((Harm.ERROR, Harm.LOST_REPLY))))
        return due

    def _before(self, fault: Fault) -> None:
        if fault.harm is Harm.ERROR:
            raise fault.error.with_traceback(None)
        if fault.harm is Harm.DELAY:
            self._sleep(fault.seconds)
        if fault.harm is Harm.CRASH:
            self._die()

    def _after(self, fault: Fault) -> None:
        if fault.harm is Harm.LOST_REPLY:
            raise fault.error.with_traceback(None)
        if fault.harm is Harm.CRASH_AFTER:
            self._die()

    def _die(self) -> None:
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self._dead = True
        raise Crash

    def _spoil(self, data: bytes, harm: Harm) -> bytes:
        if harm is Harm.SHORT:
            return data[: len(data) // 2]
        if harm is Harm.CORRUPT and data:
            place = self._random.randrange(len(data))
            return data[:place] + bytes([data[place] ^ 1 << self._random.randrange(8)]) + data[place + 1 :]
        return data
