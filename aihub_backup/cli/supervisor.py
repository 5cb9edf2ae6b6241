"""Keep a few programs running: start them, restart the ones that die, drain them at the end, leave nothing behind.

Each program runs in a process group of its own and dies with the supervisor, also after kill -9 of it. Descendants that
lose their parent are adopted and reaped. Everything happens in the one thread that made the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aihub_backup.cli import orphans
from aihub_backup.cli.signals import STOPS, Mailbox
from aihub_backup.core import processes

FIRST_DELAY = 1.0  # seconds before a program that died is started again; doubles with each early death
LONGEST_DELAY = 30.0
STEADY = 60.0  # seconds a program has to run for its earlier deaths to be forgotten
LOG_LIMIT = 16 * 1024 * 1024  # bytes of a log file before its content moves to <name>.1
HOUSEKEEPING = 60.0  # seconds between looks at the log files

Report = Callable[[str], None]


@dataclass(frozen=True)
class Pulse:
    """Two files: one is touched whenever the program is called, the other by the program when it hears that.

    Where nobody calls, nobody need answer. `silence`: seconds of calls without an answer; `alone`: seconds for which
    in addition no child of its children has run, that could be what it is busy with (a pool whose processes all work
    hears nothing either, and has moments between two programs); `starting`: seconds that a new process may take until
    its first answer, because on a busy host one that was killed for its slow start would never come up.
    """

    called: Path
    heard: Path
    silence: float
    alone: float
    starting: float = 0.0

    def is_silent(self, lived: float) -> bool:
        """Of a program that has run for so many seconds."""
        called, heard = _changed(self.called), _changed(self.heard) or 0.0
        has_answered = time.time() - heard < lived  # this process, not the one before it
        patience = self.silence if has_answered else max(self.silence, self.starting)
        return called is not None and called - heard > self.silence and lived > patience


def _changed(path: Path) -> float | None:
    """Seconds since 1970; None where there is no such file."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Program:
    """What to keep running. `grace`: seconds between the request to end (SIGTERM) and the kill of its whole group."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    log: Path | None = None  # None: the supervisor's own stderr
    descriptors: tuple[int, ...] = ()
    grace: float = 10.0
    pulse: Pulse | None = None  # None: whether it is stuck is not asked


class Kept:
    """One program and its present process, if it has one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self.started_at = 0.0
        self.start_at = 0.0  # monotonic seconds; due when reached and no process runs
        self._alone_since: float | None = None  # monotonic seconds; None: not silent, or busy

    @property
    def due(self) -> bool:
        return self.process is None and time.monotonic() >= self.start_at

    def is_stuck(self) -> bool:
        """Called in vain, and alone, for so long that it will never answer. To be asked every second or so."""
        pulse, now = self.program.pulse, time.monotonic()
        if pulse is None or self.process is None or self._is_well(pulse, self.process.pid):
            self._alone_since = None
            return False
        self._alone_since = self._alone_since or now
        return now - self._alone_since > pulse.alone

    def _is_well(self, pulse: Pulse, pid: int) -> bool:
        silent = pulse.is_silent(time.monotonic() - self.started_at)
        return not silent or any(orphans.children(child) for child in orphans.children(pid))

    def start(self) -> None:
        """Start the program; the kernel kills it when this thread ends."""
        program = self.program
        with _log_file(program.log) as log:
            self.process = processes.spawn(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.environment),
                cwd=program.directory,
                pass_fds=program.descriptors,
            ).process
        self.started_at = time.monotonic()

    def bury(self) -> int:
        """Reap the dead process, kill the rest of its group, set the time of the next start. Returns its exit code."""
        process = self._running()
        self.kill_group()  # before the reaping: until then no stranger can get this group's number
        code = process.wait()
        self.process = None
        steady = time.monotonic() - self.started_at >= STEADY
        self.deaths = 1 if steady else self.deaths + 1
        self.start_at = time.monotonic() + min(LONGEST_DELAY, FIRST_DELAY * 2 ** (self.deaths - 1))
        return code

    def ask_to_end(self) -> None:
        """SIGTERM to the program itself, not to its group: it ends its own children in good order."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._running().pid, signal.SIGTERM)

    def kill_group(self) -> None:
        """SIGKILL to the program and to all that stayed in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._running().pid, signal.SIGKILL)

    def trim_log(self) -> None:
        """Move the content of an overlong log aside. The program appends, so it goes on at the new beginning."""
        log = self.program.log
        if log is None or not log.exists() or log.stat().st_size < LOG_LIMIT:
            return
        shutil.copy(log, log.with_name(log.name + ".1"))  # in pieces, with its mode: logs are for their owner alone
        os.truncate(log, 0)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, f"{self.program.name} does not run"
        return self.process


class Supervisor:
    """Starts the programs, then `step()` again and again, then `stop()`. All in the main thread."""

    def __init__(self, programs: Sequence[Program], report: Report) -> None:
        self.kept = [Kept(program) for program in programs]
        self._report = report
        self._housekeeping_at = 0.0
        self._mailbox = Mailbox()
        orphans.adopt()

    def step(self, patience: float = 1.0) -> bool:
        """Bury the dead, start what is due, wait up to `patience` seconds. False when a signal asks to stop."""
        self._stop_the_stuck()
        self._bury_the_dead()
        for kept in self.kept:
            if kept.due:
                kept.start()
        self._keep_house()
        return not self._asked_to_stop(self._until_next_start(patience))

    def stop(self) -> None:
        """Ask every program to end, wait its grace, kill what is left. A second signal cuts the waiting short."""
        asked = time.monotonic()
        for kept in self._running():
            kept.ask_to_end()
        while self._running():
            hurry = self._asked_to_stop(0.2)
            self._bury_the_dead(quiet=True)
            for kept in self._running():
                if hurry or time.monotonic() - asked > kept.program.grace:
                    self._report(f"{kept.program.name} did not end in time and was killed.")
                    kept.kill_group()
                    kept.bury()
        self._kill_adopted()

    def _asked_to_stop(self, patience: float) -> bool:
        return not self._mailbox.wait(patience).isdisjoint(STOPS)

    def _stop_the_stuck(self) -> None:
        for kept in self.kept:
            if kept.is_stuck():
                self._report(f"{kept.program.name} gave no sign of life any more and is killed.")
                kept.kill_group()
                self._report(_obituary(kept, kept.bury()))

    def _bury_the_dead(self, quiet: bool = False) -> None:
        """Reap every dead child: ours are buried, adopted strangers only reaped."""
        while (dead := _a_dead_child()) is not None:
            kept = next((kept for kept in self._running() if kept.process and kept.process.pid == dead), None)
            if kept is None:
                os.waitpid(dead, os.WNOHANG)
                continue
            code = kept.bury()
            if not quiet:
                self._report(_obituary(kept, code))

    def _keep_house(self) -> None:
        if time.monotonic() >= self._housekeeping_at:
            self._housekeeping_at = time.monotonic() + HOUSEKEEPING
            for kept in self.kept:
                kept.trim_log()

    def _kill_adopted(self) -> None:
        """The last descendants, in whatever group they are: kill and reap until there are none."""
        while left := orphans.children():
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def _until_next_start(self, patience: float) -> float:
        waits = [kept.start_at - time.monotonic() for kept in self.kept if kept.process is None]
        return max(0.0, min([patience, *waits]))

    def _running(self) -> list[Kept]:
        return [kept for kept in self.kept if kept.process is not None]


def _a_dead_child() -> int | None:
    """The process id of some dead child, left unreaped so that its number stays taken; None when none is dead."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


@contextlib.contextmanager
def _log_file(path: Path | None) -> Iterator[int]:
    """A descriptor to append to; the supervisor's stderr when there is no file."""
    if path is None:
        yield 2
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _obituary(kept: Kept, code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    delay = max(0.0, kept.start_at - time.monotonic())
    where = f" Its log: {kept.program.log}" if kept.program.log else ""
    return f"{kept.program.name} {how}; it is started again in {delay:.0f} s.{where}"
