"""Starting a server program on free ports, and ending it."""

from __future__ import annotations

import atexit
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aihub_backup.core import processes

_PORTS = range(20_000, 28_000)
_BESIDE = 10_000  # some programs take a second port that far above the one they are given
_PATIENCE = 60.0  # seconds until a server has to be ready
_OWNER = os.getpid()
_running: list[processes.Child] = []
_afterwards: list[Callable[[], object]] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor on the one 10,000 above."""
    while True:
        port = random.choice(_PORTS)
        if _free(port) and _free(port + _BESIDE):
            return port


def start(command: Sequence[str], log: Path, ready: Callable[[], bool]) -> processes.Child:
    """The program in a process group of its own that dies with us, once `ready` says so. RuntimeError with its last
    words when it ends before (another process may have taken a port meanwhile)."""
    with log.open("wb") as file:
        child = processes.spawn(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    _running.append(child)
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            stop(child)
            raise RuntimeError(f"{command[0]} is not ready: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    return child


def stop(child: processes.Child) -> None:
    """End it; nothing of it is needed any more."""
    child.kill_group(grace=0)
    if child in _running:
        _running.remove(child)


def stop_all() -> None:
    """End everything this process started."""
    for child in (*_running,):
        stop(child)
    while _afterwards:
        _afterwards.pop()()


@atexit.register
def _at_the_end() -> None:
    """Of a process that is no test: proofs start servers too. What was forked from it has others to end."""
    if os.getpid() == _OWNER:
        stop_all()


def after(deed: Callable[[], object]) -> None:
    """Do this once everything has ended."""
    _afterwards.append(deed)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
