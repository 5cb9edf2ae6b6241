"""What answers about recoveries look like, and how rows become them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from aihub_backup.core.api.schema import Progress, Requester, WorkError
from backups.api import told
from backups.api.nouns import API
from backups.api.shapes import Oddity, Reference, SourceReference
from backups.models import Trigger
from recovery.models import Purpose, Recovery, RecoveryPart, RecoveryState, RecoveryType, TargetKind
from recovery.models.recovery import ENDED_WELL


class TargetShape(serializers.Serializer[Any]):
    """Where to."""

    kind = serializers.ChoiceField(TargetKind.choices)
    path = serializers.CharField(allow_blank=True, help_text="For a new database: its address.")
    database = serializers.CharField(allow_blank=True, help_text="Name of the new database.")
    node = Reference(allow_null=True)


class Finding(serializers.Serializer[Any]):
    """What the validation looked at."""

    part = serializers.CharField(help_text="The source.")
    check = serializers.CharField()
    passed = serializers.BooleanField()
    detail = serializers.CharField(allow_blank=True, help_text="Empty without backups.browse_backup.")


class RecoveryPartShape(serializers.Serializer[Any]):
    """One recovery point that is brought back."""

    id = serializers.UUIDField(help_text="Of the backup's part.")
    source = SourceReference()  # type: ignore[assignment]  # the metaclass takes it out of the class
    backup = serializers.UUIDField()
    data_as_of = serializers.DateTimeField(allow_null=True)
    place = serializers.CharField(help_text="Where it goes: the target, or with several parts a directory in it.")
    restored_at = serializers.DateTimeField(allow_null=True)
    items = serializers.IntegerField(allow_null=True)
    size_bytes = serializers.IntegerField(allow_null=True)
    kept_bytes = serializers.IntegerField(
        allow_null=True, help_text="Of size_bytes: brought back by an attempt that was lost; not fetched again."
    )
    failed_items = serializers.IntegerField(allow_null=True)
    oddities = Oddity(many=True, help_text="The first ones; empty in lists, and without backups.browse_backup.")


class RecoveryShape(serializers.Serializer[Any]):
    """A restore. Treat an unknown status as not finished unless `finished_at` is set."""

    id = serializers.UUIDField()
    type = serializers.ChoiceField(RecoveryType.choices)
    purpose = serializers.ChoiceField(Purpose.choices)
    status = serializers.ChoiceField(RecoveryState.choices)
    backup = serializers.UUIDField()
    point_in_time = serializers.DateTimeField(allow_null=True, help_text="The moment that was asked for.")
    data_as_of = serializers.DateTimeField(allow_null=True, help_text="The moment that comes back.")
    include = serializers.ListField(child=serializers.CharField())
    exclude = serializers.ListField(child=serializers.CharField())
    target = TargetShape()
    reason = serializers.CharField()
    notices = serializers.ListField(child=serializers.CharField(), help_text="How the request was understood.")
    progress = Progress()
    items = serializers.IntegerField(allow_null=True)
    size_bytes = serializers.IntegerField(allow_null=True)
    warnings_count = serializers.IntegerField()
    errors_count = serializers.IntegerField()
    findings = Finding(many=True)
    left_behind = serializers.CharField(allow_blank=True, help_text="What a recovery that failed could not remove.")
    trigger = serializers.ChoiceField(Trigger.choices)
    requested_by = Requester()
    error = WorkError(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    parts = RecoveryPartShape(many=True)
    links = serializers.DictField(child=serializers.CharField())


def recovery(row: Recovery, *, whole: bool = True, names: bool = False) -> dict[str, Any]:
    """A recovery; in lists (not `whole`) without the parts' oddities. `names`: may the reader see names inside it?"""
    plain = (
        "type", "purpose", "point_in_time", "include", "exclude", "reason", "notices", "items", "size_bytes",
        "warnings_count", "errors_count", "left_behind", "trigger",
    )  # fmt: skip
    parts = list(row.parts.all())
    moments = [part.part.data_as_of for part in parts if part.part.data_as_of]
    return {
        "id": row.pk, **{name: getattr(row, name) for name in plain}, "status": row.state, "backup": row.backup_id,
        "data_as_of": min(moments, default=None), "target": _target(row),
        "progress": told.job_progress(row.job, ended_well=row.state in ENDED_WELL),
        "requested_by": told.requester(row), "error": told.error(row), **told.times(row),
        "findings": [_finding(finding, names) for finding in row.findings],
        "parts": [_part(row, part, whole and names) for part in parts], "links": _links(row),
    }  # fmt: skip


def _part(row: Recovery, part: RecoveryPart, names: bool) -> dict[str, Any]:
    place = f"{row.target_path}/{part.place}" if part.place else row.target_path
    counts = {"items": "items", "size_bytes": "bytes", "kept_bytes": "kept", "failed_items": "failed"}
    return {
        "id": part.part_id, "source": told.source(part.part.source), "backup": part.part.backup_id,
        "data_as_of": part.part.data_as_of, "place": place, "restored_at": part.restored_at,
        **{name: part.stats.get(key) for name, key in counts.items()}, "oddities": part.item_errors if names else [],
    }  # fmt: skip


def _finding(found: Mapping[str, Any], names: bool) -> dict[str, Any]:
    """Its sentence may name what is inside."""
    return {**{name: found[name] for name in ("part", "check", "passed")}, "detail": found["detail"] if names else ""}


def _target(row: Recovery) -> dict[str, Any]:
    return {
        "kind": row.target_kind, "path": row.target_path, "database": row.target_database,
        "node": told.reference(row.node) if row.node else None,
    }  # fmt: skip


def _links(row: Recovery) -> dict[str, str]:
    return {
        "self": f"{API}/recover/status/{row.pk}", "cancel": f"{API}/recover/{row.pk}",
        "log": f"{API}/recover/{row.pk}/log", "backup": f"{API}/status/{row.backup_id}",
        "admin": f"/admin/recovery/recovery/{row.pk}/change/",
    }  # fmt: skip
