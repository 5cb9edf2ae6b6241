"""Reading ahead: a scan begins while something that takes its time, and needs no scan, is still under way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Generic, TypeVar

from backups.engine.entry import Entry
from backups.engine.remembered import footprint
from backups.engine.workers import few_collections

TURN = 0.0002  # seconds
ROOM = 24 << 20  # bytes of entries that may wait: about 50,000

T = TypeVar("T")


class Beside(Generic[T]):
    """A call in a thread of its own, begun at once. It has ended when result() returns: only then may anybody fork."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._made: list[T] = []
        self._error: BaseException | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name="beside", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._over = True

    def result(self) -> T:
        """What the call returned; raises what it raised."""
        self._thread.join()
        if self._error:
            raise self._error
        return self._made[0]

    def meanwhile(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """All the entries; the first of them are taken now, until the call has ended or ROOM is full."""
        source, first, room = iter(entries), list[Entry](), ROOM
        with few_collections(), _quick_turns():
            for entry in source:
                first.append(entry)
                room -= footprint(entry)
                if self._over or room < 0:
                    break
        return chain(first, source)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """A call that waits for a disk or a cipher gives the interpreter away each time, and would get it back only after
    five milliseconds of ours."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
