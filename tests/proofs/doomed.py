"""The engine's own command line, killed at an operation of a store: python -m tests.proofs.doomed VERB …

AIHUB_DOOM is NUMBER:before or NUMBER:after: SIGKILL around the operation of this number (from 1); 0: nobody is killed.
AIHUB_DOOM_SINCE begins the first operation that counts ("put index/"). Every one that counts is written, before it is
carried out, into the file AIHUB_OPERATIONS, one a line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from backups.engine import __main__ as command_line
from backups.engine import copyverb
from backups.engine.store import Place

VERBS = ("put", "get", "stat", "list", "delete", "set_aside")


class Doom:
    """Counts the operations of all stores of this process."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        number, _, moment = environment.pop("AIHUB_DOOM").partition(":")
        self._at, self._after = int(number), moment == "after"
        self._since, self._counts = environment.pop("AIHUB_DOOM_SINCE"), False
        self._journal = os.open(environment.pop("AIHUB_OPERATIONS"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count, self._lock = 0, Lock()

    def close(self) -> None:
        os.close(self._journal)

    def around(self, operation: str, deed: Callable[[], Any]) -> Any:
        with self._lock:
            self._counts = self._counts or operation.startswith(self._since)
            self._count += self._counts
            due = self._counts and self._count == self._at
            if self._counts:
                os.write(self._journal, operation.encode() + b"\n")
        if due and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = deed()
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class Doomed:
    """A store whose operations are counted."""

    def __init__(self, store: Any, doom: Doom) -> None:
        self._store, self._doom = store, doom

    def __getattr__(self, verb: str) -> Any:
        deed = getattr(self._store, verb)
        if verb not in VERBS:
            return deed

        def counted(name: str, *more: Any) -> Any:
            def done() -> Any:  # a listing is an operation when all of it is there
                return iter(list(deed(name))) if verb == "list" else deed(name, *more)

            return self._doom.around(f"{verb} {name}", done)

        return counted

    def fresh(self) -> Any:
        return Doomed(self._store.fresh(), self._doom)


@contextmanager
def counted(doom: Doom) -> Iterator[None]:
    """Whatever the command line opens meanwhile is counted."""
    verbs, copying = vars(command_line), vars(copyverb)
    one, several = verbs["open_address"], verbs["open_addresses"]

    def doomed_one(address: str, environment: MutableMapping[str, str]) -> Place:
        return Doomed(one(address, environment), doom)

    def doomed_several(addresses: Sequence[str], environment: MutableMapping[str, str]) -> list[Place]:
        return [Doomed(store, doom) for store in several(addresses, environment)]

    try:
        verbs.update(open_address=doomed_one, open_addresses=doomed_several)
        copying.update(open_addresses=doomed_several)
        yield
    finally:
        doom.close()
        verbs.update(open_address=one, open_addresses=several)
        copying.update(open_addresses=several)


if __name__ == "__main__":
    with counted(Doom(os.environ)):
        sys.exit(command_line.main())
