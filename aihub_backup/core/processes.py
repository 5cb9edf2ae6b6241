"""Processes that cannot outlive their owner, and telling whether a process is still the one we knew. No Django."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import IO, Any, NamedTuple

_PR_SET_PDEATHSIG = 1
_KILL_PATIENCE = 5.0  # seconds a killed group gets to vanish; longer means uninterruptible sleep (D state)

NOT_STARTED = 127  # the status of a child whose program is not there or cannot be executed

# Runs in the child before the real program: fork hooks in Python are not safe beside our threads. The signal survives
# exec; the parent may have died before prctl, hence the look at getppid afterwards.
_TRAMPOLINE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGKILL)}, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    os.write(2, f"{{sys.argv[2]}}: {{error.strerror}}\\n".encode("utf-8", "surrogateescape"))
    os._exit({NOT_STARTED})
"""


# --- who is this process --------------------------------------------------------------------------------------------


class Presence(Enum):
    """What can be said from here about another process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Identity(NamedTuple):
    """One process, never to be mixed up with a later one of the same number. `started` is in clock ticks since boot."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    def __str__(self) -> str:
        return "/".join(str(part) for part in self)

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """The identity from its written form; None when it is not one."""
        parts = text.rsplit("/", 4)
        if len(parts) != len(cls._fields) or not (parts[3].isdigit() and parts[4].isdigit()):
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), int(parts[4]))


def me() -> Identity:
    """The identity of this very process (asked anew each time: a fork has another one)."""
    pid = os.getpid()
    return Identity(socket.gethostname(), boot_id(), _namespace(), pid, start_time(pid) or 0)


def presence(identity: Identity, *, one_host: bool) -> Presence:
    """Is the process still there? `one_host` says that nobody but this host writes these identities."""
    if identity.boot != boot_id():
        return Presence.DEAD if one_host else Presence.UNKNOWN
    if identity.namespace != _namespace():
        return Presence.UNKNOWN  # another container: its numbers mean nothing here
    return Presence.ALIVE if start_time(identity.pid) == identity.started else Presence.DEAD


def boot_id() -> str:
    """A fresh random id at each boot of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process started; None when it is gone or only a zombie is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def boottime() -> float:
    """Seconds since boot, sleep included; no step of the wall clock touches it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


# --- children -------------------------------------------------------------------------------------------------------


class Child:
    """A started program in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._killing = threading.Lock()

    @property
    def pid(self) -> int:
        """Number of the child and of its process group."""
        return self.process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The writing end of the child's input; only when it was spawned with a pipe."""
        return _pipe(self.process.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        """The reading end of the child's output; only when it was spawned with a pipe."""
        return _pipe(self.process.stdout)

    @property
    def stderr(self) -> IO[bytes]:
        """The reading end of the child's messages; only when it was spawned with a pipe."""
        return _pipe(self.process.stderr)

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; subprocess.TimeoutExpired after `timeout` seconds."""
        return self.process.wait(timeout)

    def kill_group(self, grace: float = 10.0) -> bool:
        """SIGTERM to the group, `grace` seconds, SIGKILL. False: it does not even die of that (D state), leave it."""
        with self._killing:  # heartbeat and owner may both want it dead
            if grace > 0 and self.process.poll() is None:
                self._signal(signal.SIGTERM)
                self._gone(grace)
            self._signal(signal.SIGKILL)  # also reaches grandchildren whose leader has ended
            return self._gone(_KILL_PATIENCE)

    def _gone(self, patience: float) -> bool:
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def spawn(
    argv: Sequence[str | bytes],
    *,
    stdin: int | IO[Any] | None = subprocess.PIPE,
    stdout: int | IO[Any] | None = subprocess.PIPE,
    stderr: int | IO[Any] | None = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: str | bytes | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a program that the kernel kills when the calling *thread* ends: call it from the thread that waits for it.

    The program gets a process group of its own. One that is not there shows as status NOT_STARTED and a line on stderr.
    """
    before = [sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid())]
    process = subprocess.Popen(
        [*before, *argv],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
        process_group=0,
    )
    return Child(process)


def die_with_parent() -> None:
    """For a forked child of a long-lived parent: end (SIGKILL) as soon as the parent process is gone.

    A pidfd is watched instead of PDEATHSIG, which would already fire when the parent's forking *thread* ends.
    """
    parent = os.getppid()
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=_follow, args=(descriptor,), name="die-with-parent", daemon=True).start()


def set_death_signal(number: int = signal.SIGKILL) -> None:
    """Ask the kernel for this signal when the thread that made this process ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _follow(descriptor: int) -> None:
    import select

    select.select([descriptor], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the child was started without this pipe")
    return stream
