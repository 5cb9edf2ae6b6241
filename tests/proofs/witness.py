"""Somebody who looks at a console's rows all the time, and remembers for how long one of them told an untruth."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from aihub_backup.core import processes
from tests.proofs.saboteur import Held, held

TRUTH_WITHIN = 120.0  # seconds for which a row may say "running" while nobody works
EVERY = 0.5  # seconds


class Witness:
    """Looks from beginning to end of the context. `error`: what it saw last that must not be."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._since: dict[tuple[str, int], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.longest, self.error = 0.0, ""

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(EVERY):
            self.look(held(self._home), time.monotonic())

    def look(self, jobs: list[Held], now: float) -> None:
        """At all jobs that are said to be worked on; now: seconds of any clock that only goes forward."""
        lies = {(job.id, job.epoch): job for job in jobs if not works(job)}
        self._since = {key: self._since.get(key, now) for key in lies}
        for key, begun in self._since.items():
            self.longest = max(self.longest, now - begun)
            if now - begun > TRUTH_WITHIN:
                job = lies[key]
                self.error = f"a {job.kind} is {job.state} for {now - begun:.0f} s, and nobody works on it"


def works(job: Held) -> bool:
    """Is its holder alive, and not frozen?"""
    holder = processes.Identity.parse(job.owner)
    alive = holder is not None and processes.presence(holder, one_host=True) is processes.Presence.ALIVE
    return alive and not frozen(job.pid)


def frozen(pid: int) -> bool:
    """Stopped by a signal."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False
