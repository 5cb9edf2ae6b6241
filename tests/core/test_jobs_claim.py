from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from aihub_backup.core import jobs
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import Job, Node
from aihub_backup.core.processes import Identity, me
from tests.core.handlers import Scripted

pytestmark = pytest.mark.django_db(transaction=True)

CLAIM = """
import sys, django
django.setup()
from uuid import UUID
from aihub_backup.core import jobs
print("ready", flush=True)
sys.stdin.readline()
print(sum(jobs.claim(UUID(job)) is not None for job in sys.argv[1:]))
"""


def test_a_claimed_job_is_running_and_ours(queued: Job) -> None:
    lease = jobs.claim(queued.pk)

    assert lease is not None
    stored = Job.objects.get()
    assert (stored.state, stored.attempts, stored.lease_epoch, lease.epoch) == ("running", 1, 1, 1)
    assert Identity.parse(stored.lease_owner) == me()
    assert stored.lease_expires_at is not None
    assert timedelta(seconds=80) < stored.lease_expires_at - timezone.now() <= timedelta(seconds=90)


def test_a_job_is_claimed_once(queued: Job) -> None:
    assert jobs.claim(queued.pk) is not None
    assert jobs.claim(queued.pk) is None


def test_of_many_threads_one_gets_the_job() -> None:
    queue = [jobs.enqueue("scripted", queue="backup") for _ in range(10)]
    together = threading.Barrier(8)

    def claim_all() -> int:
        together.wait()
        try:
            return sum(jobs.claim(job.pk) is not None for job in queue)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        won = sum(future.result() for future in [pool.submit(claim_all) for _ in range(8)])

    assert won == 10
    assert set(Job.objects.values_list("lease_epoch", "attempts")) == {(1, 1)}


def test_of_many_processes_one_gets_the_job(elsewhere: dict[str, str]) -> None:
    queue = [str(jobs.enqueue("scripted", queue="backup").pk) for _ in range(30)]
    command = [sys.executable, "-c", CLAIM, *queue]
    rivals = [
        subprocess.Popen(command, env=elsewhere, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for rival in rivals:
        assert rival.stdout is not None
        rival.stdout.readline()

    won = [int(rival.communicate("go\n")[0]) for rival in rivals]

    assert sum(won) == 30
    assert set(Job.objects.values_list("state", "attempts")) == {("running", 1)}


def test_a_job_is_not_claimed_before_its_time() -> None:
    early = jobs.enqueue("scripted", queue="backup", not_before=timezone.now() + timedelta(hours=1))

    assert jobs.claim(early.pk) is None


def test_a_job_of_another_node_is_not_claimed() -> None:
    there, here = Node.objects.create(name="elsewhere"), Node.objects.create(name="testnode")

    assert jobs.claim(jobs.enqueue("scripted", queue="backup", node=there).pk) is None
    assert jobs.claim(jobs.enqueue("scripted", queue="backup", node=here).pk) is not None


def test_the_bell_brings_the_most_urgent_job_first() -> None:
    rung = jobs.enqueue("scripted", queue="backup")
    urgent = jobs.enqueue("scripted", queue="backup", priority=5)
    jobs.enqueue("scripted", queue="recovery", priority=9)

    assert jobs.answer(rung.pk)

    assert list(Job.objects.filter(state="completed")) == [urgent]


def test_a_bell_without_a_job_is_harmless(queued: Job) -> None:
    jobs.run(queued.pk)

    assert not jobs.answer(queued.pk)
    assert not jobs.run(queued.pk)
    assert Scripted.told == ["run"]


def test_a_bell_for_a_deleted_job_is_harmless() -> None:
    assert not jobs.answer(Job().pk)


def test_only_known_kinds_and_queues_are_taken() -> None:
    with pytest.raises(Failure, match="Nobody knows how to do a “dance” job"):
        jobs.enqueue("dance", queue="backup")
    with pytest.raises(ValueError, match="no queue 'cellar'"):
        jobs.enqueue("scripted", queue="cellar")


def test_a_job_whose_app_has_gone_fails_at_once(queued: Job, settings: Settings) -> None:
    settings.AIHUB_JOB_HANDLERS = {}

    jobs.run(queued.pk)

    queued.refresh_from_db()
    assert (queued.state, queued.error_code, queued.error_permanent) == ("failed", "unknown-kind", True)


def test_apps_register_their_handlers() -> None:
    jobs.register("waltz", "tests.core.handlers.Scripted")

    assert isinstance(jobs.handler_for("waltz"), Scripted)
