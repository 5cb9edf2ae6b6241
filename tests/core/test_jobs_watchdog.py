from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import NoReturn

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone
from pytest_django.fixtures import Settings

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import Job, Node
from aihub_backup.core.processes import Identity, me, start_time
from tests.core.handlers import Scripted

pytestmark = pytest.mark.django_db(transaction=True)
sqlite_only = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the host's clock rules on SQLite only")

__all__ = ["connection"]  # used by the condition above


@pytest.fixture
def dead() -> str:
    """The identity of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = me()._replace(pid=child.pid, started=start_time(child.pid) or 0)
    child.communicate()
    return str(identity)


@pytest.fixture
def alive() -> Iterator[str]:
    """The identity of another process that lives."""
    child = subprocess.Popen(["sleep", "600"])
    yield str(me()._replace(pid=child.pid, started=start_time(child.pid) or 0))
    child.kill()
    child.wait()


@pytest.fixture
def far() -> str:
    """The identity of a process on a host nobody can look into."""
    return str(Identity("far", me().boot, "pid:[1]", 1, 1))


def held_by(job: Job, owner: str, state: str = "running", silent: float = 0) -> Job:
    """The job as that owner holds it, without a heartbeat for so many seconds."""
    assert jobs.claim(job.pk, owner)
    last = timezone.now() - timedelta(seconds=silent)
    Job.objects.filter(pk=job.pk).update(state=state, heartbeat_at=last, lease_expires_at=last + timedelta(seconds=90))
    job.refresh_from_db()
    return job


def test_a_job_of_a_living_holder_is_left_alone(queued: Job, alive: str) -> None:
    held_by(queued, alive)

    assert jobs.watchdog() == (1, 0)
    queued.refresh_from_db()
    assert queued.state == "running"


def test_a_job_of_a_dead_process_is_recovered_at_once(queued: Job, dead: str) -> None:
    held_by(queued, dead)

    assert jobs.watchdog() == (1, 1)

    queued.refresh_from_db()
    assert (queued.state, queued.lease_owner, queued.error_code) == ("queued", "", "worker-lost")
    assert queued.not_before > timezone.now()
    assert Scripted.told == ["requeued queued worker-lost"]


def test_a_job_of_another_host_waits_for_the_end_of_its_lease(queued: Job, far: str) -> None:
    held_by(queued, far, silent=85)
    assert jobs.watchdog().recovered == 0

    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert jobs.watchdog().recovered == 1


@sqlite_only
def test_a_step_of_the_clock_takes_no_job_from_a_living_holder(queued: Job, alive: str) -> None:
    held_by(queued, alive, silent=3600)
    assert jobs.watchdog().recovered == 0

    Job.objects.update(heartbeat_at=F("heartbeat_at") + timedelta(seconds=15))  # its next heartbeat
    assert jobs.watchdog().recovered == 0


@sqlite_only
def test_a_living_holder_that_stays_silent_loses_the_job(queued: Job, alive: str) -> None:
    held_by(queued, alive, silent=3600)
    jobs.watchdog()

    assert jobs.watchdog().recovered == 1


@sqlite_only
def test_a_job_from_before_a_reboot_is_recovered_at_once(queued: Job) -> None:
    held_by(queued, str(me()._replace(boot="the-boot-before")))

    assert jobs.watchdog().recovered == 1


def test_the_old_holder_is_fenced(queued: Job, dead: str) -> None:
    lease = jobs.claim(queued.pk, dead)
    assert lease is not None
    jobs.watchdog()

    with pytest.raises(jobs.LostLease):
        lease.commit_guard()


def test_a_job_that_kills_its_workers_fails_in_the_end(queued: Job, dead: str) -> None:
    for _ in range(3):
        Job.objects.update(not_before=timezone.now())
        held_by(queued, dead)
        jobs.watchdog()

    queued.refresh_from_db()
    assert (queued.state, queued.attempts, queued.error_code) == ("failed", 3, "worker-lost")
    assert Scripted.told[-1] == "failed failed worker-lost"


def test_a_cancelled_job_of_a_dead_process_is_cancelled(queued: Job, dead: str) -> None:
    held_by(queued, dead)
    jobs.cancel(queued, by=SYSTEM)

    jobs.watchdog()

    queued.refresh_from_db()
    assert queued.state == "cancelled"
    assert Scripted.told == ["cancelled cancelled"]


def test_a_commit_that_happened_is_completed(queued: Job, dead: str) -> None:
    held_by(queued, dead, "committing")
    Scripted.settled = lambda _job: True

    jobs.watchdog()

    queued.refresh_from_db()
    assert (queued.state, queued.lease_owner) == ("completed", "")
    assert Scripted.told == ["settle"]


def test_a_commit_that_did_not_happen_is_tried_again_by_the_watchdog(queued: Job, dead: str) -> None:
    held_by(queued, dead, "committing")

    jobs.watchdog()

    queued.refresh_from_db()
    assert queued.state == "queued"
    assert Scripted.told == ["settle", "requeued queued worker-lost"]


def test_a_commit_nobody_can_tell_about_is_not_left_lying(queued: Job, dead: str) -> None:
    def unreachable(_job: Job) -> NoReturn:
        raise Failure("The repository does not answer.", permanent=False)

    held_by(queued, dead, "committing")
    Scripted.settled = unreachable

    jobs.watchdog()

    queued.refresh_from_db()
    assert queued.state == "queued"


def test_while_the_watchdog_asks_it_holds_the_lease(queued: Job, dead: str, quick: Settings) -> None:
    owners = []

    def look(job: Job) -> bool:
        owners.append(Job.objects.get(pk=job.pk).lease_owner)
        return jobs.watchdog().recovered == 0

    held_by(queued, dead, "committing")
    Scripted.settled = look

    jobs.watchdog()

    assert owners == [str(me())]
    queued.refresh_from_db()
    assert queued.state == "completed"


def test_a_commit_on_another_node_is_left_to_that_node(dead: str, settings: Settings) -> None:
    job = jobs.enqueue("scripted", queue="backup", node=Node.objects.create(name="testnode"))
    held_by(job, dead, "committing")
    settings.AIHUB_NODE = "othernode"

    jobs.watchdog()

    job.refresh_from_db()
    assert job.state == "queued"
    assert "settle" not in Scripted.told


def test_one_sick_job_does_not_keep_the_others(queued: Job, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = jobs.enqueue("scripted", queue="backup")
    held_by(queued, dead)
    held_by(other, dead)
    from aihub_backup.core.jobs import machine

    take, calls = machine.lost, []

    def sick(*args: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError
        take(*args)  # type: ignore[arg-type]  # the same arguments

    monkeypatch.setattr(machine, "lost", sick)

    assert jobs.watchdog() == (2, 1)


def test_a_job_of_a_removed_app_is_recovered_too(queued: Job, dead: str, settings: Settings) -> None:
    held_by(queued, dead)
    settings.AIHUB_JOB_HANDLERS = {}

    jobs.watchdog()

    queued.refresh_from_db()
    assert queued.state == "queued"
