"""What one command costs: wall time, processor time of its whole process tree, and, when watched, memory."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

SAMPLED_EVERY = 0.02  # seconds between two looks at a watched tree


@dataclass(frozen=True)
class Command:
    """What to run, where, and what to add to a bare environment (secrets go there, never into argv)."""

    argv: list[str]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Cost(NamedTuple):
    """wall   seconds
    cpu    user + system seconds of the command and of all descendants it waited for
    sync   seconds that writing out what it left dirty took afterwards
    memory bytes, the peak of Pss_Anon + Pss_Shmem over the tree; None when it was not watched
    failure the end of what it said when it failed, or ""
    """

    wall: float
    cpu: float
    sync: float
    memory: int | None
    failure: str


def run(command: Command, *, watch: bool = False) -> Cost:
    """Run to the end. A watched run is slowed by the watching: its times are not for comparison."""
    os.sync()
    with tempfile.TemporaryFile() as said, _started(command, said) as process:
        begun = time.perf_counter()
        with Watch(process.pid) if watch else _unwatched() as watched:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        failure = _said(said) if process.returncode else ""
    begun = time.perf_counter()
    os.sync()
    cpu, sync = usage.ru_utime + usage.ru_stime, time.perf_counter() - begun
    return Cost(wall, cpu, sync, watched.peak if watched else None, failure)


@contextmanager
def _started(command: Command, said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **command.environment}
    process = subprocess.Popen(
        command.argv,
        cwd=command.cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _said(file: IO[bytes]) -> str:
    file.seek(0)
    return " ".join(file.read().decode(errors="replace").split())[-300:] or "it failed without a word"


class Watch:
    """Samples the memory of a process and its descendants in a thread, as long as the context lasts."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLED_EVERY):
            self.peak = max(self.peak, sum(map(own_memory, tree(self._pid))))


@contextmanager
def _unwatched() -> Iterator[None]:
    yield None


def tree(root: int) -> list[int]:
    """The process and its descendants, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(_parent(int(entry)), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _parent(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
    return 0


def own_memory(pid: int) -> int:
    """Bytes of anonymous and shared memory, shared pages divided among their users; page cache does not count."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith((b"Pss_Anon:", b"Pss_Shmem:"))) * 1024
    return 0
