"""What answers about schedules look like."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from backups.api.nouns import API
from backups.api.shapes import BackupShape, Reference
from backups.models import BackupType, Misfire, Schedule, ScheduleSlot, SlotState
from backups.services import cron, schedules

VOLATILE = ("next_runs", "last_slot")


class SlotShape(serializers.Serializer[Any]):
    """A moment at which a backup was due, and what became of it."""

    due_at = serializers.DateTimeField()
    status = serializers.ChoiceField(SlotState.choices)
    backup = serializers.UUIDField(allow_null=True)
    note = serializers.CharField(allow_blank=True, help_text="Why it was not run, or not yet.")


class ScheduleLinks(serializers.Serializer[Any]):
    """Where its deeds are."""

    self = serializers.CharField()
    run = serializers.CharField()
    enable = serializers.CharField()
    admin = serializers.CharField()


class ScheduleShape(serializers.Serializer[Any]):
    """When what is backed up. Its ETag is the version of what people have set: the times to come do not count."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    type = serializers.ChoiceField(BackupType.choices)
    strategy = serializers.CharField(allow_blank=True)
    sources = Reference(many=True)
    tags = serializers.DictField(child=serializers.CharField())
    environment = Reference(allow_null=True)
    cron_expression = serializers.CharField()
    cron_text = serializers.CharField(help_text="The same in words.")
    timezone = serializers.CharField()
    policy = Reference(allow_null=True)
    misfire = serializers.ChoiceField(Misfire.choices)
    grace_seconds = serializers.IntegerField()
    enabled = serializers.BooleanField()
    disabled_reason = serializers.CharField(allow_blank=True)
    next_runs = serializers.ListField(child=serializers.DateTimeField(), help_text="The next five; none when disabled.")
    last_slot = SlotShape(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    links = ScheduleLinks()


class ScheduleRunsShape(serializers.Serializer[Any]):
    """The backups that were started."""

    runs = BackupShape(many=True)


def schedule(row: Schedule) -> dict[str, Any]:
    """A schedule; `newest` holds its newest slot, a new one has none."""
    plain = (
        "name", "type", "strategy", "tags", "cron_expression", "timezone", "misfire", "grace_seconds", "enabled",
        "disabled_reason", "created_at", "updated_at",
    )  # fmt: skip
    latest: ScheduleSlot | None = next(iter(getattr(row, "newest", ())), None)
    return {
        "id": row.pk, **{name: getattr(row, name) for name in plain},
        "sources": [_reference(source) for source in row.sources.all()],
        **{name: _reference(getattr(row, name)) for name in ("environment", "policy")},
        "cron_text": cron.in_words(row.cron_expression), "next_runs": schedules.next_runs(row),
        "last_slot": None if latest is None else _slot(latest), "links": _links(row),
    }  # fmt: skip


def _slot(row: ScheduleSlot) -> dict[str, Any]:
    return {"due_at": row.due_at, "status": row.state, "backup": row.backup_id, "note": row.note}


def _links(row: Schedule) -> dict[str, str]:
    here = f"{API}/schedule/{row.pk}"
    admin = f"/admin/backups/schedule/{row.pk}/change/"
    return {"self": here, "run": f"{here}/run", "enable": f"{here}/enable", "admin": admin}


def _reference(row: Any) -> dict[str, Any] | None:
    return None if row is None else {"id": row.pk, "name": str(row)}
