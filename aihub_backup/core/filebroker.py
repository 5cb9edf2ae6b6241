"""The embedded broker: kombu's file system transport, with messages and tables that come and go in one step.

The original writes a message under its final name, so a reader may move it away while it is still empty: of 3,000
messages on a busy machine 20 were lost. It also takes messages through /tmp. Here a message is written aside and
renamed, and taken by a rename in its own folder; the tables of bindings are replaced as a whole.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

Binding = filesystem.exchange_queue_t  # routing key, pattern, queue

ABANDONED = 3600.0  # seconds after which what a killed process had half written or half taken is thrown away


class Channel(filesystem.Channel):
    """One connection's view of the folders. Hidden files are not messages (yet, or any more)."""

    def _put(self, queue: str, payload: Any, **_options: Any) -> None:  # type: ignore[override]  # stubs disagree
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        _replace(folder / name, dumps(payload))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.partition(".")[2] == f"{queue}.msg" and (text := _taken(folder / name)):
                return loads(text)
        raise Empty

    def get_table(self, exchange: str) -> list[Binding]:  # type: ignore[override]  # stubs disagree
        """Who is bound to the exchange."""
        try:
            rows = loads(self._table(exchange).read_text())
        except FileNotFoundError:
            return []
        return [Binding(*row) for row in rows]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        _sweep(Path(self.data_folder_in))
        row = Binding(routing_key or "", pattern or "", queue or "")
        self._change(exchange, lambda rows: rows if row in rows else [*rows, row])

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_rest: Any, **_options: Any) -> None:
        row = Binding(routing_key or "", pattern or "", queue or "")
        self._change(exchange, lambda rows: [known for known in rows if known != row])
        self._purge(queue)

    def _table(self, exchange: str) -> Path:
        """The exchange's file; its name was checked by the original, which the type stubs do not know."""
        path: Path = super()._exchange_file(exchange)  # type: ignore[misc]  # as said
        return path

    def _change(self, exchange: str, change: Callable[[list[Binding]], list[Binding]]) -> None:
        with _alone(self.control_folder):
            before = self.get_table(exchange)
            after = change(before)
            if after != before:
                _replace(self._table(exchange), dumps(after))


class Transport(filesystem.Transport):
    """What `filesystem://` means here."""

    Channel = Channel


def _replace(path: Path, text: str) -> None:
    """The file with this text, whole from its first moment."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4()}")
    aside.write_text(text)
    aside.replace(path)


def _taken(path: Path) -> str | None:
    """The text of the message, which is then gone; None when somebody else was first."""
    mine = path.with_name(f".{path.name}.{uuid.uuid4()}")
    try:
        path.rename(mine)
    except FileNotFoundError:
        return None
    text = mine.read_text()
    mine.unlink()
    return text


def _sweep(folder: Path) -> None:
    """What killed processes left behind."""
    for path in folder.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time changes the tables of this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
