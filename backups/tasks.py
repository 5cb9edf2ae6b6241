"""Alarm clocks: a tick or an id in, a service call out."""

from __future__ import annotations

from celery import shared_task

from backups.services import beat, compacting, due, expiring, slots


@shared_task(name="backups.tasks.verify_due")
def verify_due() -> None:
    """Every ten minutes: points whose next check is due."""
    due.verify_due()


@shared_task(name=beat.TASK)
def schedule_due(schedule_id: str) -> None:
    """When a schedule's crontab says so."""
    slots.schedule_due(schedule_id)


@shared_task(name="backups.sweep_schedules")
def sweep_schedules() -> None:
    """Every minute: slots that no tick told of."""
    slots.sweep()


@shared_task(name="backups.apply_retention")
def apply_retention() -> None:
    """Every day: points whose retention is over."""
    expiring.apply_retention()


@shared_task(name="backups.compact_due")
def compact_due() -> None:
    """Every ten minutes: repositories whose space is to be looked after, once a day each."""
    compacting.compact_due()
