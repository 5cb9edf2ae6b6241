"""What tests of adoption do again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django_celery_beat.models import CrontabSchedule, PeriodicTask

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Job
from backups.models import (
    Backup,
    BackupPart,
    OwnProtection,
    Policy,
    Repository,
    Schedule,
    ScheduleSlot,
    Source,
    Storage,
    Verification,
)
from backups.services import adopting
from tests.backups import stories
from tests.recovery.stories import Tree

Rows = dict[str, dict[str, Any]]

_COLUMNS: dict[type[Any], tuple[str, ...]] = {
    Repository: ("name", "engine_id", "codec", "level", "created_at"),
    Policy: ("name", "keep_daily", "immutable_days", "rpo_target_minutes", "retention_days"),
    Source: ("name", "kind", "options", "environment__name", "node__name", "tags", "policy", "repository"),
    Backup: (
        "type", "state", "label", "tags", "environment__name", "policy", "verify_level", "trigger",
        "requested_by_kind", "requested_by_name", "hold_until", "hold_reason", "created_at", "started_at",
        "finished_at",
    ),
    BackupPart: (
        "backup", "source", "repository", "state", "mode", "base", "stats", "facts", "items", "size_bytes",
        "stored_bytes", "warnings_count", "errors_count", "log_record", "data_as_of", "created_at", "started_at",
        "finished_at",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class FirstConsole:
    """What it knew when it was lost: its rows, and what its backups of files hold."""

    code: str = field(repr=False)
    rows: dict[str, Rows]
    trees: dict[str, Tree]
    gone: str  # id of the backup that was forgotten


def remembered() -> dict[str, Rows]:
    """Every row of what we keep, by model and id."""
    return {
        model.__name__: {str(row.pop("pk")): row for row in model._base_manager.values("pk", *columns)}
        for model, columns in _COLUMNS.items()
    }


def lost() -> None:
    """The console's database is gone, all but the storage somebody types in again."""
    PeriodicTask.objects.filter(backup_schedule__isnull=False)
    for model in (Verification, ScheduleSlot, OwnProtection, Schedule, PeriodicTask, CrontabSchedule):
        model._base_manager.all().delete()
    BackupPart.objects.update(base=None)
    for model in (BackupPart, Backup, Source, Repository, Policy, Job):
        model._base_manager.all().delete()


def adopted(storage: Storage, code: str, by: Actor, **more: Any) -> tuple[Repository, Job]:
    """Taken over with the recovery code, and read."""
    repository, job = adopting.adopt(storage, adopting.key(recovery_code=code), by=by, take_over=True, **more)
    stories.work()
    job.refresh_from_db()
    return Repository.objects.select_related("storage").get(pk=repository.pk), job
