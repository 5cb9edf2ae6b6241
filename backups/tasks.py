"""Alarm clocks: a tick in, a service call out."""

from __future__ import annotations

from celery import shared_task

from backups.services import due


@shared_task(name="backups.tasks.verify_due")
def verify_due() -> None:
    """Every ten minutes: points whose next check is due."""
    due.verify_due()
