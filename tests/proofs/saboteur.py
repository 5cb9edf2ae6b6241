"""Somebody who kills and freezes processes of a running console at random moments, also past their leases."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from aihub_backup.core import processes
from tests.proofs.stack import Console, Process, family, struck

# Of the pool only those that hold a job: `./aihub prove console` kills the others, and tells how long it takes to heal.
KILLED = ("runner", "runner", "runner", "engine worker", "engine worker", "holder", "holder", "worker")
FROZEN = ("writer", "writer", "writer", "committing writer", "committing writer", "committing writer", "holder",
          "holder", "runner", "engine worker", "worker")  # fmt: skip
GONE_WITHIN = 5.0  # seconds until nobody lives below a killed process
TAKEN_WITHIN = 180.0  # seconds after which the lease of a frozen holder is somebody else's
ENDED_WITHIN = 30.0  # seconds in which a runner ends whose holder woke up without its lease
AIM = 20.0  # seconds for which a commit is waited for
AT_ONCE = 2  # holders that are frozen at the same time, at most
BACKUP = "backup-part"  # kind of the jobs that write snapshots
LEASED = ("running", "committing", "cancelling")


class Held(NamedTuple):
    """A job that somebody holds now. owner: of the lease; pid: its process."""

    id: str
    kind: str
    state: str
    epoch: int
    owner: str

    @property
    def pid(self) -> int:
        """0: it cannot be read."""
        identity = processes.Identity.parse(self.owner)
        return identity.pid if identity else 0


def held(home: Path) -> list[Held]:
    """From the console's own rows, without the console."""
    told = "SELECT id, kind, state, lease_epoch, lease_owner FROM core_job WHERE state IN (?, ?, ?)"
    with closing(sqlite3.connect(f"file:{home}/console.sqlite3?mode=ro", uri=True, timeout=30)) as connection:
        return [Held(*row) for row in connection.execute(told, LEASED)]


class Saboteur:
    """Strikes from beginning to end of the context, and leaves nobody frozen behind.

    SQLite lets nobody write for as long as somebody is frozen in the middle of a write, so such a one is woken at once.

    lease: seconds of the console's leases; pauses: seconds between two strikes, from and to
    """

    def __init__(self, console: Console, numbers: random.Random, lease: float, pauses: tuple[float, float]) -> None:
        self._console, self._random, self._lease, self._pauses = console, numbers, lease, pauses
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._guarded, args=(self._work,), daemon=True)
        self._freezers: list[threading.Thread] = []
        self.kills = self.freezes = self.past_lease = self.woken = self.in_a_write = 0
        self.told: list[str] = []
        self.error: BaseException | None = None

    def __enter__(self) -> Saboteur:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in (self._thread, *self._freezers):
            thread.join()

    # striking

    def _guarded(self, deed: Callable[..., None], *given: object) -> None:
        try:
            deed(*given)
        except BaseException as error:  # whoever waits for the end raises it
            self.error = self.error or error

    def _work(self) -> None:
        while not self._over.wait(self._random.uniform(*self._pauses)):
            busy = sum(thread.is_alive() for thread in self._freezers)
            if busy < AT_ONCE and self._random.random() < 0.5:
                self._freeze(self._random.choice(FROZEN))
            else:
                self._kill(self._random.choice(KILLED))

    def _kill(self, role: str) -> None:
        if (victim := self._met(role)) is not None:
            struck(victim, GONE_WITHIN)
            self.kills += 1
            self._tell(f"killed: {role}")

    def _met(self, role: str) -> Process | None:
        found = self._console.victims("pool process" if role == "holder" else role)
        if role == "holder":
            pids = {job.pid for job in held(self._console.home)}
            found = [process for process in found if process.pid in pids]
        return self._random.choice(found) if found else None

    def _freeze(self, role: str) -> None:
        pause = self._random.uniform(0.0, self._lease / 2)  # after the lease is gone
        if role in ("writer", "committing writer"):
            job = self._writer("committing") if role == "committing writer" else self._writer("running")
            holders = [process for process in self._console.victims("pool process") if job and process.pid == job.pid]
            victims = family(holders[0].pid) if holders else []
        else:
            victims = [victim] if (victim := self._met(role)) else []
        if not victims:
            return
        _send(victims, signal.SIGSTOP)
        if not _writable(self._console.home):
            _send(victims, signal.SIGCONT)
            self.in_a_write += 1
            return
        self.freezes += 1
        self._tell(f"frozen: {role}")
        thread = threading.Thread(target=self._guarded, args=(self._thaw_later, role, victims, pause), daemon=True)
        self._freezers.append(thread)
        thread.start()

    def _writer(self, state: str) -> Held | None:
        """Whoever makes a backup, in this state; for a commit, which is short, some time is waited."""
        end = time.monotonic() + (AIM if state == "committing" else 0.0)
        while True:
            found = [job for job in held(self._console.home) if job.kind == BACKUP and job.state == state]
            if found or time.monotonic() > end or self._over.is_set():
                return self._random.choice(found) if found else None
            time.sleep(0.01)

    # waking

    def _thaw_later(self, role: str, victims: list[Process], pause: float) -> None:
        jobs = [job for job in held(self._console.home) if job.pid in {process.pid for process in victims}]
        runners = family(victims[0].pid)[1:] if role != "worker" and jobs else []
        try:
            lost = self._lost(jobs, pause) if jobs else not self._over.wait(self._lease + pause)
        finally:
            _send(victims, signal.SIGCONT)
        self._tell(f"woken: {role}{', its lease gone' if jobs and lost else ''}")
        if jobs and lost:
            self.past_lease += 1
            self._ended(runners)

    def _lost(self, jobs: list[Held], pause: float) -> bool:
        """Until the leases of these belong to nobody or to somebody else, and a while longer."""
        ours = {(job.id, job.epoch) for job in jobs}
        end = time.monotonic() + TAKEN_WITHIN
        while ours & {(job.id, job.epoch) for job in held(self._console.home)}:
            assert time.monotonic() < end, f"the lease of a frozen {jobs[0].kind} was not taken away"
            time.sleep(0.5)
        time.sleep(pause)
        return True

    def _ended(self, runners: list[Process]) -> None:
        """What worked under a lost lease does not go on working."""
        left: list[str] = []
        end = time.monotonic() + ENDED_WITHIN
        while left := [process.command for process in runners if process.alive]:
            assert time.monotonic() < end, f"goes on after its lease was lost: {left}"
            time.sleep(0.1)
        self.woken += bool(runners)

    def _tell(self, words: str) -> None:
        self.told.append(f"{time.strftime('%H:%M:%S')} {words}")


def _send(victims: list[Process], number: signal.Signals) -> None:
    """Only to those that are still themselves."""
    for victim in victims:
        with suppress(ProcessLookupError):
            if victim.alive:
                os.kill(victim.pid, number)


def _writable(home: Path) -> bool:
    """Does the console's database take a write within some seconds?"""
    with closing(sqlite3.connect(home / "console.sqlite3", timeout=3, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
    return True
