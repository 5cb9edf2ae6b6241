"""Many transfers at once: threads, because whoever waits for a disk or a network holds no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2  # deeds that are handed out for each thread


class Hands:
    """So many deeds at once; with one the caller does them itself, one after the other.

    tick  called by the caller's thread about once a second while it waits; what it raises ends the work
    """

    def __init__(self, parallel: int, tick: Callable[[], None]) -> None:
        self._parallel, self._tick = parallel, tick

    def results(self, deed: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """What the deed returns for each name, in the order of the names; the first error ends everything, when the
        deeds under way have come to their ends."""
        if self._parallel <= 1:
            yield from map(deed, names)
            return
        pool = ThreadPoolExecutor(self._parallel)
        try:
            yield from self._pooled(pool, deed, names)
        finally:
            pool.shutdown(cancel_futures=True)

    def _pooled(self, pool: ThreadPoolExecutor, deed: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        waiting: deque[Future[T]] = deque()
        for name in names:
            waiting.append(pool.submit(deed, name))
            if len(waiting) > AHEAD * self._parallel:
                yield self._ended(waiting.popleft())
        while waiting:
            yield self._ended(waiting.popleft())

    def _ended(self, one: Future[T]) -> T:
        while not wait([one], timeout=1).done:
            self._tick()
        return one.result()
