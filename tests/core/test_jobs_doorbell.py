from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

import pytest
from celery import current_app
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from aihub_backup.core import jobs, nodes
from aihub_backup.core.models import Job, Node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """(queue, job id) of every ring; the broker itself is tested with a real worker."""
    heard: list[tuple[str, ...]] = []

    def send(_task: str, args: tuple[str, ...] = (), queue: str = "", **_options: Any) -> None:
        heard.append((queue, *args))

    monkeypatch.setattr(current_app, "send_task", send)
    return heard


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A broker that is down; counts the tries."""
    tries: list[int] = []

    def send(*_args: object, **_options: object) -> NoReturn:
        tries.append(1)
        raise OperationalError("connection refused")

    monkeypatch.setattr(current_app, "send_task", send)
    return tries


def long_ago(seconds: float = 3600) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


def test_it_rings_after_the_commit(rung: list[tuple[str, ...]]) -> None:
    with transaction.atomic():
        job = jobs.enqueue("scripted", queue="recovery")
        assert rung == []

    assert rung == [("recovery", str(job.pk))]
    job.refresh_from_db()
    assert job.rung_at is not None


def test_a_transaction_that_fails_rings_for_nothing(rung: list[tuple[str, ...]]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs.enqueue("scripted", queue="recovery")
        raise ZeroDivisionError

    assert rung == []


def test_it_rings_on_the_nodes_own_queue(rung: list[tuple[str, ...]]) -> None:
    job = jobs.enqueue("scripted", queue="backup", node=Node.objects.create(name="vault"))

    assert rung == [("node.vault", str(job.pk))]


def test_a_broker_that_is_down_does_not_hurt_the_caller(silent: list[int]) -> None:
    job = jobs.enqueue("scripted", queue="backup")

    job.refresh_from_db()
    assert (job.state, job.rung_at) == ("queued", None)


def test_a_broker_that_is_down_is_asked_once_a_pass(silent: list[int]) -> None:
    for _ in range(3):
        jobs.enqueue("scripted", queue="backup")
    silent.clear()

    assert jobs.ring_unrung() == 0
    assert len(silent) == 1


def test_jobs_nobody_rang_for_are_rung(rung: list[tuple[str, ...]]) -> None:
    job = jobs.enqueue("scripted", queue="backup")
    Job.objects.update(rung_at=None)
    rung.clear()

    assert jobs.ring_unrung() == 1
    assert rung == [("backup", str(job.pk))]
    assert jobs.ring_unrung() == 0


def test_a_ring_nobody_came_for_is_repeated_more_and_more_rarely(rung: list[tuple[str, ...]]) -> None:
    jobs.enqueue("scripted", queue="backup")
    Job.objects.update(rung_at=long_ago(70), rings=1)
    assert jobs.ring_unrung() == 1

    Job.objects.update(rung_at=long_ago(70))
    assert jobs.ring_unrung() == 0
    Job.objects.update(rung_at=long_ago(130))
    assert jobs.ring_unrung() == 1


def test_a_ring_that_was_used_up_by_a_more_urgent_job_is_made_good_at_once(rung: list[tuple[str, ...]]) -> None:
    patient = jobs.enqueue("scripted", queue="backup")
    urgent = jobs.enqueue("scripted", queue="backup", priority=5)
    Job.objects.filter(pk=patient.pk).update(rings=6)
    rung.clear()

    assert jobs.answer(patient.pk)

    urgent.refresh_from_db()
    assert urgent.state != "queued"
    assert jobs.ring_unrung() == 1
    assert rung == [("backup", str(patient.pk))]


def test_a_long_queue_is_not_rung_to_death(rung: list[tuple[str, ...]]) -> None:
    for _ in range(30):
        jobs.enqueue("scripted", queue="backup")
    Job.objects.update(rung_at=long_ago())

    assert jobs.ring_unrung() == 20


def test_a_job_for_later_is_rung_when_it_is_due(rung: list[tuple[str, ...]]) -> None:
    jobs.enqueue("scripted", queue="backup", not_before=timezone.now() + timedelta(hours=1))
    assert jobs.ring_unrung() == 0

    Job.objects.update(not_before=timezone.now())
    assert jobs.ring_unrung() == 1


def test_a_node_announces_itself() -> None:
    node = nodes.announce()

    node.refresh_from_db()
    assert node.name == "testnode"
    assert node.alive


def test_nodes_are_called_on_their_own_queues(rung: list[tuple[str, ...]]) -> None:
    Node.objects.create(name="vault")
    Node.objects.create(name="closed", enabled=False)

    nodes.call()

    assert rung == [("node.vault",)]


def test_a_broker_that_is_down_makes_nodes_silent_and_nothing_else(silent: list[int]) -> None:
    node = Node.objects.create(name="vault")

    nodes.call()

    assert not node.alive
