"""A real worker on the real broker: what only processes can show."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from celery import current_app
from django.utils import timezone
from pytest_django.fixtures import Settings

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import Job, Node
from aihub_backup.core.processes import start_time
from tests.core.conftest import eventually
from tests.core.handlers import notes, place

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

CELERY = [sys.executable, "-m", "celery", "-A", "aihub_backup", "--quiet"]
COMMAND = [*CELERY, "worker", "--concurrency=1", "--loglevel=WARNING"]
Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def worker(elsewhere: dict[str, str]) -> Iterator[Start]:
    """Starts workers of this test's database and broker; none of them outlives the test."""
    started: list[subprocess.Popen[bytes]] = []
    swift = {"AIHUB_JOB_TICK_SECONDS": "0.1", "AIHUB_JOB_RETRY_SECONDS": "0.1"}

    current_app.control.purge()  # rings of tests before

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(COMMAND, env=elsewhere | swift, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def probe() -> Job:
    return jobs.enqueue("probe", queue="backup")


def let_go(job: Job) -> None:
    (place(job.pk) / "go").touch()


def state(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def running(job: Job) -> tuple[int, int]:
    """(pool process, child) of the attempt in hand."""
    eventually(lambda: notes(job.pk), within=40)
    _word, _epoch, pool, child = notes(job.pk)[-1].split()
    return int(pool), int(child)


def gone(pid: int) -> bool:
    return start_time(pid) is None


def test_a_job_goes_through_the_broker_and_comes_out_done(worker: Start) -> None:
    worker()
    eventually(lambda: Node.objects.filter(name="testnode").exists(), within=40)
    job = probe()
    let_go(job)

    eventually(lambda: state(job) == "completed")
    assert Node.objects.get().alive


def test_a_running_job_hears_of_its_cancel(worker: Start) -> None:
    job = probe()
    worker()
    _pool, child = running(job)

    jobs.cancel(job, by=SYSTEM)

    eventually(lambda: state(job) == "cancelled", within=5)
    assert gone(child)


def test_a_terminated_worker_hands_its_job_to_the_next(worker: Start) -> None:
    job = probe()
    first = worker()
    _pool, child = running(job)

    first.terminate()

    assert first.wait(20) == 0
    assert (state(job), job.attempts) == ("queued", 0)
    assert gone(child)
    let_go(job)
    worker()
    eventually(lambda: state(job) == "completed", within=40)


def test_a_killed_pool_process_leaves_nothing_behind(worker: Start) -> None:
    job = probe()
    worker()
    pool, child = running(job)

    os.kill(pool, signal.SIGKILL)

    eventually(lambda: gone(child), within=5)
    eventually(lambda: jobs.watchdog().recovered, within=5)
    assert (state(job), job.error_code) == ("queued", "worker-lost")
    let_go(job)
    Job.objects.update(not_before=timezone.now())
    assert jobs.ring_unrung() == 1
    eventually(lambda: state(job) == "completed")  # by the pool process that took the place of the killed one


def test_a_killed_main_process_takes_everything_with_it(worker: Start) -> None:
    job = probe()
    first = worker()
    pool, child = running(job)

    first.kill()
    first.wait()

    eventually(lambda: gone(pool) and gone(child), within=5)
    let_go(job)
    worker()  # looks for what the first one left behind before anything else
    eventually(lambda: jobs.ring_unrung() or state(job) == "completed", within=40)
    eventually(lambda: state(job) == "completed")
    assert [line.split()[0] for line in notes(job.pk)] == ["run", "run", "commit"]


def test_every_job_is_done_once_whatever_is_killed(worker: Start, settings: Settings) -> None:
    settings.AIHUB_JOB_RETRY_SECONDS = 0.1
    chance = random.Random(7)
    queue = [jobs.enqueue("brief", queue="backup", max_attempts=20) for _ in range(60)]

    for _ in range(4):
        process = worker()
        eventually(_progress(queue), within=60)
        time.sleep(chance.uniform(0.1, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        jobs.watchdog()
        Job.objects.filter(state="queued").update(rung_at=None)  # the rings it had fetched died with it
    worker()

    eventually(lambda: _tended() == len(queue), within=90)
    assert set(Job.objects.values_list("state", flat=True)) == {"completed"}
    assert [len([line for line in notes(job.pk) if line.startswith("commit")]) for job in queue] == [1] * len(queue)


def _finished() -> int:
    return Job.objects.filter(state="completed").count()


def _tended() -> int:
    """What beat's ticks do."""
    jobs.watchdog()
    jobs.ring_unrung()
    return _finished()


def _progress(queue: list[Job]) -> Callable[[], bool]:
    before = _finished()
    return lambda: _finished() > before or before == len(queue)
