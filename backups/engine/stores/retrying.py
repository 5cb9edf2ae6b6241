"""A store around a store: passing faults are tried again, with growing and random pauses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from backups.engine.errors import EngineError, StoreAbsent, StoreUnavailable
from backups.engine.store import Capabilities, Data, ObjectInfo, Place

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on. The n-th pause is drawn from 0 … min(longest, first × 2ⁿ) seconds ("full jitter"), so
    that many writers that failed together do not come back together."""

    attempts: int = 6
    first: float = 0.5  # seconds
    longest: float = 30.0  # seconds
    total: float = 180.0  # seconds from the first attempt; no pause begins that would end later

    def pause(self, failures: int, chance: float) -> float:
        return min(self.longest, self.first * 2.0 ** (failures - 1)) * chance


class RetryingStore:
    """Tries again what failed with a temporary error; a permanent one, and a place that is not there, pass at once.

    Every verb may be repeated by the promises of the port, also when the first try was carried out and only
    its reply was lost. Sharing one between threads is as safe as sharing the store inside.
    """

    def __init__(
        self,
        store: Place,
        patience: Patience = Patience(),
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._chance = chance

    def create(self) -> None:
        self._tried(self._store.create)

    def put(self, name: str, data: Data) -> None:
        self._tried(lambda: self._store.put(name, data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        return self._tried(lambda: self._store.get(name, start, length))

    def stat(self, name: str) -> ObjectInfo:
        return self._tried(lambda: self._store.stat(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Begins again after a fault and skips what it has told already; every step forward renews the patience."""
        last, failed_at, trial = "", "", self._trial()
        while True:
            try:
                for info in self._store.list(prefix):
                    if info[0] > last:
                        last = info[0]
                        yield info
                return
            except EngineError as error:
                if last != failed_at:
                    failed_at, trial = last, self._trial()
                trial.failed(error)

    def delete(self, name: str) -> None:
        self._tried(lambda: self._store.delete(name))

    def set_aside(self, name: str, aside: str) -> None:
        self._tried(lambda: self._store.set_aside(name, aside))

    def sweep(self, older_than_seconds: float) -> int:
        return self._tried(lambda: self._store.sweep(older_than_seconds))

    def capabilities(self) -> Capabilities:
        return self._tried(self._store.capabilities)

    def fresh(self) -> RetryingStore:
        fresh = self._tried(self._store.fresh)
        return RetryingStore(fresh, self._patience, sleep=self._sleep, clock=self._clock, chance=self._chance)

    def describe(self) -> str:
        return self._store.describe()

    def _tried(self, deed: Callable[[], T]) -> T:
        trial = self._trial()
        while True:
            try:
                return deed()
            except EngineError as error:
                trial.failed(error)

    def _trial(self) -> _Trial:
        return _Trial(self._patience, self._sleep, self._clock, self._chance, self._clock())


@dataclass(slots=True)
class _Trial:
    """The attempts at one deed."""

    patience: Patience
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    chance: Callable[[], float]
    begun: float
    failures: int = 0

    def failed(self, error: EngineError) -> None:
        """Pause, or raise: what no pause mends as it is, the last temporary error with what was tried."""
        if error.permanent or isinstance(error, StoreAbsent):
            raise error
        self.failures += 1
        pause = self.patience.pause(self.failures, self.chance())
        spent = self.clock() - self.begun
        if self.failures >= self.patience.attempts or spent + pause > self.patience.total:
            raise StoreUnavailable(f"{error} (Given up after {self.failures} attempts in {spent:.0f} s.)") from error
        self.sleep(pause)
