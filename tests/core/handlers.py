"""Handlers of the job tests: one that a test scripts, one that works in a real worker and leaves traces in files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from django.conf import settings

from aihub_backup.core import jobs
from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import Lease
from aihub_backup.core.models import Job
from aihub_backup.core.processes import spawn


class Scripted(jobs.Handler):
    """Does what the test says and remembers what it was told."""

    script: ClassVar[Callable[[Lease], None]]
    settled: ClassVar[Callable[[Job], bool]]
    told: ClassVar[list[str]] = []

    @classmethod
    def reset(cls) -> None:
        cls.script = lambda _lease: None
        cls.settled = lambda _job: False
        cls.told.clear()

    def run(self, lease: Lease) -> None:
        self.told.append("run")
        type(self).script(lease)

    def settle(self, job: Job) -> bool:
        self.told.append("settle")
        return type(self).settled(job)

    def failed(self, job: Job, failure: Failure) -> None:
        self.told.append(f"failed {job.state} {failure.code}")

    def cancelled(self, job: Job) -> None:
        self.told.append(f"cancelled {job.state}")

    def requeued(self, job: Job, failure: Failure) -> None:
        self.told.append(f"requeued {job.state} {failure.code}")


class Probe(jobs.Handler):
    """Waits until the test puts a file "go" down, with a child process beside it; leaves a line for each step."""

    def run(self, lease: Lease) -> None:
        child = spawn(["sleep", "600"], stdin=None, stdout=None, stderr=None)
        lease.own(child)
        note(lease.id, f"run {lease.epoch} {os.getpid()} {child.pid}")
        try:
            while not (place(lease.id) / "go").exists():
                lease.check()
                time.sleep(0.05)
        finally:
            child.kill_group(grace=0)
        lease.commit_guard()
        note(lease.id, f"commit {lease.epoch}")

    def settle(self, job: Job) -> bool:
        return any(line.startswith("commit") for line in notes(job.pk))


class Brief(Probe):
    """A short job that commits once."""

    def run(self, lease: Lease) -> None:
        time.sleep(0.1)
        lease.check()
        lease.commit_guard()
        time.sleep(0.02)
        if not self.settle(lease.job):
            note(lease.id, f"commit {lease.epoch}")
        time.sleep(0.02)


def place(job_id: object) -> Path:
    """Where a probe and its test leave word for each other."""
    found = Path(settings.AIHUB_HOME) / "probe" / str(job_id)
    found.mkdir(parents=True, exist_ok=True)
    return found


def note(job_id: object, line: str) -> None:
    with (place(job_id) / "notes").open("a") as file:
        file.write(line + "\n")


def notes(job_id: object) -> list[str]:
    path = place(job_id) / "notes"
    return path.read_text().splitlines() if path.exists() else []
