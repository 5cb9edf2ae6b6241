"""Alarm clocks: an id in, a service call out."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from aihub_backup.core import jobs, nodes


@shared_task(name="aihub_backup.core.tasks.run_job")
def run_job(job_id: str) -> None:
    """The bell of a job."""
    jobs.answer(UUID(job_id))


@shared_task(name="aihub_backup.core.tasks.watchdog")
def watchdog() -> None:
    """Every 30 seconds: jobs whose holder is gone."""
    jobs.watchdog()


@shared_task(name="aihub_backup.core.tasks.ring")
def ring() -> None:
    """Every 15 seconds: rings that were lost."""
    jobs.ring_unrung()


@shared_task(name="aihub_backup.core.tasks.call_nodes")
def call_nodes() -> None:
    """Every minute: ask every node for a sign of life."""
    nodes.call()


@shared_task(name="aihub_backup.core.tasks.announce")
def announce() -> None:
    """A node's answer."""
    nodes.hear()
    nodes.announce()
