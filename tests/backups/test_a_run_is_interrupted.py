"""Kills, cancels and lost leases: the rows tell the truth, nothing half is visible, the next run succeeds."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.db import OperationalError, connection

from aihub_backup.core import jobs, processes
from aihub_backup.core.audit import Actor
from aihub_backup.core.jobs import Lease, drain
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from backups.models import Backup, BackupState, Mode, PartState, Repository, Source
from backups.services import backups, parts, running
from tests.backups import stories

KILLS = 12


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[processes.Child]]:
    """Every runner that is started, in order; none of them may be left at the end."""
    children: list[processes.Child] = []

    def spawn(argv: Sequence[str | bytes], **options: Any) -> processes.Child:
        children.append(processes.spawn(argv, **options))
        return children[-1]

    monkeypatch.setattr(running, "processes", type("Watched", (), {"spawn": staticmethod(spawn)}))
    yield children
    assert not [pid for child in children for pid in group(child.pid)]


def group(leader: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def put_off(deed: threading.Timer) -> None:
    """What comes too late for this run must not fall upon the next one."""
    deed.cancel()
    deed.join()


def later(seconds: float, deed: Callable[[], object]) -> threading.Timer:
    """Do it in a while, beside the test."""
    thread = threading.Timer(seconds, deed)
    thread.daemon = True
    thread.start()
    return thread


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_one_of(started: list[processes.Child], since: int, random: Random) -> None:
    """Kill a runner or one of its workers, if there are any now."""
    for child in started[since:]:
        if found := group(child.pid):
            kill(random.sample(found, 1))


def point_of(source: Source, by: Actor) -> Backup:
    """A recovery point from before."""
    backup = backups.request("files", by=by)
    stories.work()
    backup.refresh_from_db()
    assert backup.state == BackupState.COMPLETED
    return backup


def test_killed_runners_leave_nothing_and_the_next_attempt_succeeds(
    source: Source, heavy: Path, by: Actor, tmp_path: Path, started: list[processes.Child]
) -> None:
    begun = time.monotonic()
    before, kept = point_of(source, by), stories.files(heavy)
    usual = time.monotonic() - begun  # seconds of a run, on this machine and today
    random, hit = Random(11), 0
    for number in range(KILLS):
        (heavy / "lots" / f"{number:03}").write_bytes(random.randbytes(90_000))
        backup = backups.request("full", by=by)
        killer = later(random.uniform(0.0, usual), partial(kill_one_of, started, len(started), random))

        stories.work()
        put_off(killer)

        part = stories.part_of(backup)
        assert part.state in (PartState.QUEUED, PartState.COMPLETED), part.error
        if part.state == PartState.QUEUED:
            hit += 1
            assert part.error_code in ("runner-died", "worker-died")
            assert str(part.pk) not in stories.opened(part.repository).log.live
            stories.hurry()
            stories.work()
        part = stories.part_of(backup)
        assert (part.state, part.error, part.job and part.job.state) == (PartState.COMPLETED, None, JobState.COMPLETED)

    assert hit >= KILLS // 4, "most kills came too late to prove anything"
    assert stories.restored(part, heavy, tmp_path / "last") == stories.files(heavy)
    assert stories.restored(stories.part_of(before), heavy, tmp_path / "first") == kept
    assert len(stories.opened(part.repository).snapshots) == KILLS + 1


def test_a_killed_worker_takes_its_runner_along_and_is_found_out(
    source: Source, heavy: Path, by: Actor, elsewhere: dict[str, str], started: list[processes.Child]
) -> None:
    backup = backups.request("full", by=by)
    job = stories.part_of(backup).job
    assert job
    code = f"import django; django.setup(); from aihub_backup.core import jobs; jobs.run({str(job.pk)!r})"
    worker = subprocess.Popen([sys.executable, "-c", code], env=elsewhere)
    runner = eventually(lambda: children_of(worker.pid))[0]

    worker.kill()
    worker.wait()

    eventually(lambda: not group(runner))
    assert (stories.part_of(backup).state, jobs.watchdog().recovered) == (PartState.RUNNING, 1)
    assert (stories.part_of(backup).state, stories.part_of(backup).error_code) == (PartState.QUEUED, "worker-lost")
    stories.hurry()
    stories.work()
    assert stories.part_of(backup).state == PartState.COMPLETED


def test_a_cancelled_run_ends_and_leaves_nothing(
    source: Source, heavy: Path, by: Actor, started: list[processes.Child]
) -> None:
    backup = backups.request("full", by=by)
    thread = later(0, lambda: _cancel_elsewhere(backup, by, eventually(lambda: started)))

    stories.work()

    thread.join()
    backup.refresh_from_db()
    part = stories.part_of(backup)
    assert (backup.state, part.state, part.job and part.job.state) == ("cancelled", "cancelled", JobState.CANCELLED)
    assert not stories.opened(part.repository).snapshots
    assert "backup.cancel" in stories.deeds()


def test_a_runner_that_does_not_listen_is_killed(
    source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch, started: list[processes.Child]
) -> None:
    monkeypatch.setattr(running, "CANCEL_PATIENCE", 0.2)
    monkeypatch.setattr(running, "TERM_PATIENCE", 0.2)
    backup = backups.request("full", by=by)

    def hang_and_cancel() -> None:
        os.kill(eventually(lambda: started)[-1].pid, signal.SIGSTOP)
        _cancel_elsewhere(backup, by)

    thread = later(0, hang_and_cancel)

    stories.work()

    thread.join()
    assert stories.part_of(backup).state == PartState.CANCELLED


def test_a_stopping_worker_hands_its_run_back(
    source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch, started: list[processes.Child]
) -> None:
    monkeypatch.setattr(running, "CANCEL_PATIENCE", 0.2)
    monkeypatch.setattr(running, "TERM_PATIENCE", 0.2)
    backup = backups.request("full", by=by)

    def hang_and_stop() -> None:
        os.kill(eventually(lambda: started)[-1].pid, signal.SIGSTOP)
        drain.begin()

    thread = later(0, hang_and_stop)
    job = stories.part_of(backup).job
    assert job

    jobs.run(job.pk)

    thread.join()
    drain.end()
    job.refresh_from_db()
    assert (stories.part_of(backup).state, job.state, job.attempts) == (PartState.QUEUED, JobState.QUEUED, 0)
    stories.work()
    assert stories.part_of(backup).state == PartState.COMPLETED


def _cancel_elsewhere(backup: Backup, by: Actor, _started: object = None) -> None:
    try:
        backups.cancel(backup, by=by)
    finally:
        connection.close()


def test_a_queued_one_is_cancelled_at_once(source: Source, by: Actor) -> None:
    backup = backups.cancel(backups.request("full", by=by), by=by, reason="a mistake")

    assert (backup.state, stories.part_of(backup).state) == (BackupState.CANCELLED, PartState.CANCELLED)
    assert stories.work() == 0


def test_a_lease_lost_before_the_commit_leaves_nothing_visible(
    source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch, started: list[processes.Child]
) -> None:
    backup = backups.request("full", by=by)
    real = Lease.commit_guard

    def taken(lease: Lease) -> None:
        Job.objects.filter(pk=lease.id).update(lease_epoch=lease.epoch + 1, lease_owner="somebody/else/0/1/1")
        real(lease)

    monkeypatch.setattr(Lease, "commit_guard", taken)

    stories.work()

    part = stories.part_of(backup)
    assert not stories.opened(part.repository).snapshots
    assert part.state == PartState.RUNNING  # the other holder's business now
    monkeypatch.undo()
    Job.objects.update(lease_expires_at=stories.job_epoch())  # another host's holder is gone when its lease is over
    assert jobs.watchdog().recovered == 1
    stories.hurry()
    stories.work()
    assert stories.part_of(backup).state == PartState.COMPLETED


def test_a_commit_that_was_not_written_down_is_found_in_the_log(
    source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = backups.request("full", by=by)
    real = parts._close

    def unlucky(*_args: Any) -> None:
        monkeypatch.setattr(parts, "_close", real)
        raise OperationalError("the disk of the database was full for a moment")

    monkeypatch.setattr(parts, "_close", unlucky)

    stories.work()

    part = stories.part_of(backup)
    assert (part.state, part.job and part.job.state) == (PartState.COMPLETED, JobState.COMPLETED)
    assert part.stats["bytes_read"] == part.size_bytes
    assert list(stories.opened(part.repository).log.live) == [part.snapshot_id]


def test_a_runner_killed_at_the_word_commit_is_settled_by_the_log(
    source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch, started: list[processes.Child]
) -> None:
    backup = backups.request("full", by=by)
    real = Lease.commit_guard

    def fatal(lease: Lease) -> None:
        real(lease)
        kill([started[-1].pid])

    monkeypatch.setattr(Lease, "commit_guard", fatal)

    stories.work()

    part = stories.part_of(backup)
    assert (part.state, part.error_code) == (PartState.QUEUED, "runner-died")
    monkeypatch.undo()
    stories.hurry()
    stories.work()
    assert stories.part_of(backup).state == PartState.COMPLETED


def test_a_point_that_is_in_the_log_already_is_not_made_again(
    source: Source, by: Actor, repository: Repository
) -> None:
    backup = backups.request("full", by=by)
    stories.work()
    part = stories.part_of(backup)
    type(part).objects.filter(pk=part.pk).update(state=PartState.QUEUED, size_bytes=None, mode=Mode.INCREMENTAL)
    Job.objects.filter(backup_part=part).update(state=JobState.QUEUED)

    stories.work()

    again = stories.part_of(backup)
    assert (again.state, again.mode, again.size_bytes) == (PartState.COMPLETED, Mode.FULL, part.size_bytes)
    assert len(stories.opened(repository).snapshots) == 1


def test_it_gives_up_after_its_attempts(source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = backups.request("full", by=by)
    monkeypatch.setattr(running, "BOOTSTRAP", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    for _ in range(3):
        stories.hurry()
        stories.work()

    backup.refresh_from_db()
    part = stories.part_of(backup)
    assert (backup.state, part.state, part.error_code) == (BackupState.FAILED, PartState.FAILED, "runner-died")
    assert "signal 9" in part.error_message
    assert stories.deeds()[-1] == "backup.part.failed"


def children_of(pid: int) -> list[int]:
    """Its runner: the child that leads a process group of its own."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if os.getpgid(int(child)) == int(child)]


def eventually(true: Callable[[], Any], within: float = 20.0) -> Any:
    """Wait until it is true and return what it said."""
    end = time.monotonic() + within
    while not (value := true()):
        assert time.monotonic() < end, f"not true within {within} s"
        time.sleep(0.02)
    return value
