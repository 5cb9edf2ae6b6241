from __future__ import annotations

import time
from datetime import datetime

import pytest
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from aihub_backup.core import jobs
from aihub_backup.core.jobs import Lease, LostLease
from aihub_backup.core.models import Job
from aihub_backup.core.processes import spawn
from tests.core.conftest import eventually

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """A steady clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def expiry() -> datetime:
    found = Job.objects.get().lease_expires_at
    assert found is not None
    return found


def claimed(job: Job) -> Lease:
    lease = jobs.claim(job.pk)
    assert lease is not None
    return lease


def test_the_heartbeat_renews_the_lease(queued: Job, quick: Settings) -> None:
    lease = claimed(queued)
    first = expiry()

    with lease:
        eventually(lambda: expiry() > first)
        assert not lease.lost
        lease.check()


def test_the_heartbeat_writes_the_progress(queued: Job, quick: Settings) -> None:
    with claimed(queued) as lease:
        lease.progress({"phase": "reading", "bytes_done": 1, "bytes_total": 4})

        eventually(lambda: Job.objects.get().progress.get("ratio") == 0.25)


def test_progress_is_written_once_a_tick_at_most(queued: Job, quick: Settings) -> None:
    quick.AIHUB_JOB_TICK_SECONDS = 0.3
    writes = []
    with claimed(queued) as lease:
        renew = lease._renew

        def counted() -> bool | None:
            writes.append(1)
            return renew()

        lease._renew = counted  # type: ignore[method-assign]  # counts, and does the same
        end = time.monotonic() + 1
        while time.monotonic() < end:
            lease.progress({"items_done": len(writes)})

    assert 1 <= len(writes) <= 4


def test_a_job_that_was_taken_away_is_noticed(queued: Job, quick: Settings) -> None:
    with claimed(queued) as lease:
        Job.objects.update(lease_epoch=7)

        eventually(lambda: lease.lost)
        with pytest.raises(LostLease):
            lease.check()


def test_a_lost_lease_kills_the_children(queued: Job, quick: Settings) -> None:
    child = spawn(["sleep", "600"])
    with claimed(queued) as lease:
        lease.own(child)
        Job.objects.update(lease_epoch=7)

        eventually(lambda: child.poll() is not None)


def test_a_holder_without_heartbeats_fences_itself(queued: Job, settings: Settings) -> None:
    clock = Clock()
    lease = claimed(queued)
    lease = Lease(lease.job, clock(), clock)

    clock.now += 59
    assert not lease.lost
    clock.now += 2
    assert lease.lost
    with pytest.raises(LostLease):
        lease.commit_guard()
    assert Job.objects.get().state == "running"


def test_a_database_that_does_not_answer_fences_the_holder(
    queued: Job, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = spawn(["sleep", "600"])
    lease = claimed(queued)

    def unreachable() -> None:
        raise OperationalError("no route to host")

    monkeypatch.setattr(lease, "_renew", unreachable)
    with lease:
        lease.own(child)

        eventually(lambda: lease.lost, within=5)
        eventually(lambda: child.poll() is not None)


def test_a_short_silence_of_the_database_is_survived(
    queued: Job, quick: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = claimed(queued)
    renew, tries = lease._renew, []

    def stumble() -> bool | None:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("the server is starting")
        return renew()

    monkeypatch.setattr(lease, "_renew", stumble)
    with lease:
        eventually(lambda: len(tries) > 4)

        assert not lease.lost


def test_the_wall_clock_does_not_matter_to_the_holder(queued: Job) -> None:
    lease = claimed(queued)
    Job.objects.update(lease_expires_at=datetime.fromisoformat("2001-01-01T00:00:00+00:00"))

    assert not lease.lost
    lease.commit_guard()


def test_a_zombie_can_commit_nothing(queued: Job) -> None:
    zombie = claimed(queued)
    Job.objects.update(state="queued", lease_owner="", lease_expires_at=None)
    owner = claimed(queued)

    with pytest.raises(LostLease):
        zombie.commit_guard()
    with pytest.raises(LostLease):
        zombie.finish()
    owner.commit_guard()
    owner.finish()
    assert Job.objects.get().state == "completed"


def test_finishing_twice_is_harmless(queued: Job) -> None:
    lease = claimed(queued)
    lease.finish()
    lease.finish()

    assert Job.objects.get().state == "completed"


def test_after_the_commit_guard_only_a_lost_lease_stops_the_work(queued: Job) -> None:
    lease = claimed(queued)
    lease.commit_guard()
    Job.objects.update(cancel_requested=True)

    assert lease.committing
    assert not lease.cancel_requested
    lease.check()


def test_the_heartbeat_has_a_connection_of_its_own(queued: Job, quick: Settings) -> None:
    lease = claimed(queued)
    connection.close()

    with lease:
        time.sleep(0.3)
        assert connection.connection is None
