"""What a schedule owns in django-celery-beat: one task and its private crontab. Only an alarm clock with an id.

Every function belongs inside the transaction that writes the schedule.
"""

from __future__ import annotations

import json
from typing import Any

from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

from backups.models import Schedule
from backups.services import cron

TASK = "backups.schedule_due"
STALE = 60  # seconds; then the sweep has done what the tick would do


def attach(schedule: Schedule) -> None:
    """Make the task and the crontab of a schedule that is not stored yet."""
    schedule.crontab = CrontabSchedule.objects.create(**_moments(schedule))
    schedule.periodic_task = PeriodicTask.objects.create(
        name=f"schedule {schedule.pk}", task=TASK, args=json.dumps([str(schedule.pk)]), expire_seconds=STALE,
        crontab=schedule.crontab, **_telling(schedule),
    )  # fmt: skip
    PeriodicTasks.update_changed()


def follow(schedule: Schedule) -> None:
    """Write what has changed of the schedule into its task and crontab; a running scheduler reads them again."""
    for row, values in ((schedule.crontab, _moments(schedule)), (schedule.periodic_task, _telling(schedule))):
        for name, value in values.items():
            setattr(row, name, value)
        row.save()
    PeriodicTasks.update_changed()


def detach(schedule: Schedule) -> None:
    """Remove both; the schedule's row must be gone already, because it protects them."""
    schedule.periodic_task.delete()
    schedule.crontab.delete()
    PeriodicTasks.update_changed()


def _moments(schedule: Schedule) -> dict[str, Any]:
    return {**cron.for_beat(schedule.cron_expression), "timezone": schedule.timezone}


def _telling(schedule: Schedule) -> dict[str, Any]:
    return {"enabled": schedule.enabled, "description": f"Owned by the schedule “{schedule.name}”; change it there."}
