"""Request → broker → worker → runner → storage, with workers that are killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from celery import current_app
from django.db import connection

from aihub_backup.core import jobs
from aihub_backup.core.audit import Actor
from backups import engine
from backups.models import Backup, PartState, Source
from backups.services import backups, sources, storages
from tests.backups import stories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

WORKER = [sys.executable, "-m", "celery", "-A", "aihub_backup", "--quiet", "worker", "--concurrency=1",
          "--loglevel=ERROR"]  # fmt: skip
BY = Actor(None, "olivia", "user")
KILLS = 3
TRUTH_WITHIN = 120.0  # seconds until the row says what happened, and the next attempt has succeeded

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def worker() -> Iterator[Start]:
    """Starts workers of this test's database and broker; none of them outlives the test."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ, "AIHUB_DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}", "AIHUB_MODE": "embedded",
        "DJANGO_SETTINGS_MODULE": "tests.settings", "AIHUB_JOB_TICK_SECONDS": "0.1", "AIHUB_JOB_RETRY_SECONDS": "0.1",
    }  # fmt: skip
    current_app.control.purge()  # rings of tests before

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(WORKER, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        stop(process)


def stop(worker: subprocess.Popen[bytes]) -> None:
    """kill -9 of the worker and its pool; the runners have groups of their own and must follow by themselves."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@pytest.fixture
def source(transactional_db: None, tmp_path: Path) -> Source:
    """Some tens of megabytes, so that a run takes a moment."""
    data, random = tmp_path / "data", Random(5)
    data.mkdir()
    for number in range(200):
        (data / f"{number:03}").write_bytes(random.randbytes(150_000))
    disk = storages.create("disk", "local", {"path": str(tmp_path / "disk")}, by=BY)
    stories.ready("main", disk, by=BY)
    return sources.create("docs", "files", {"paths": [str(data)]}, by=BY)


def test_killed_workers_are_found_out_and_the_backup_is_made(source: Source, worker: Start, tmp_path: Path) -> None:
    random, data = Random(3), tmp_path / "data"
    kept: list[tuple[Backup, dict[str, bytes]]] = []
    for number in range(KILLS):
        (data / f"{number:03}").write_bytes(random.randbytes(200_000))
        kept.append((backups.request("full", by=BY), stories.files(data)))
        victim = worker()
        watched(lambda: running(kept[-1][0]), 60)
        time.sleep(random.uniform(0.0, 0.5))

        stop(victim)

        killed = time.monotonic()
        assert not runners(), "a runner outlived its worker"
        second = worker()
        watched(lambda: stories.part_of(kept[-1][0]).state == PartState.COMPLETED, TRUTH_WITHIN)
        assert time.monotonic() - killed < TRUTH_WITHIN
        stop(second)

    repository = stories.opened(stories.part_of(kept[0][0]).repository)
    assert len(repository.snapshots) == KILLS
    assert engine.check(repository, 3).sound
    for number, (backup, files) in enumerate(kept):
        assert stories.restored(stories.part_of(backup), data, tmp_path / f"back{number}") == files


def running(backup: Backup) -> bool:
    return stories.part_of(backup).state in (PartState.RUNNING, PartState.COMPLETED)


def runners() -> list[int]:
    """Runners without a worker, after they had a moment to follow theirs."""
    end = time.monotonic() + 5
    while found := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_runner(pid)]:
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return found


def is_runner(pid: int) -> bool:
    """A runner that lost its worker; it is known by its bootstrap and its parent."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        orphan = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == "1"
    except OSError:
        return False
    return b"from backups.runner import main" in command and orphan


def watched(true: Callable[[], bool], within: float) -> None:
    """Wait, with the watchdog and the bell that beat would otherwise ask."""
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, f"not true within {within} s"
        jobs.watchdog()
        jobs.ring_unrung()
        time.sleep(0.2)
