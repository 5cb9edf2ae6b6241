"""What answers about configured things look like: storages, repositories, sources, policies."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from backups.api.options import PluginOptions
from backups.api.shapes import SOURCE_KINDS, STORAGE_KINDS, Reference
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Policy, Repository, RepositoryState, Source, Storage
from backups.models.repository import Codec
from backups.services import storages


class StorageShape(serializers.Serializer[Any]):
    """A place that keeps objects. Secrets are never shown; `secrets_set` names those that are stored."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(STORAGE_KINDS)
    options = PluginOptions(STORAGES)
    secrets_set = serializers.ListField(child=serializers.CharField())
    place = serializers.CharField(help_text="In words.")
    environment = Reference()
    site = Reference(allow_null=True)
    node = Reference(allow_null=True, help_text="The only host that reaches it; null: every worker does.")
    enabled = serializers.BooleanField()
    repository = Reference(allow_null=True)
    capabilities = serializers.DictField()
    tested_at = serializers.DateTimeField(allow_null=True)
    test_error = serializers.CharField(allow_blank=True, help_text="Empty: the last test passed.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RepositoryShape(serializers.Serializer[Any]):
    """A keyring and a deduplication domain."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(RepositoryState.choices)
    repository_id = serializers.CharField(allow_null=True, help_text="Written in the repository itself.")
    storage = Reference()
    codec = serializers.ChoiceField(Codec.choices)
    level = serializers.IntegerField()
    kit_proven_at = serializers.DateTimeField(allow_null=True)
    kit_waived_at = serializers.DateTimeField(allow_null=True)
    ready = serializers.BooleanField(help_text="Does it accept backups?")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class RecoveryKitShape(serializers.Serializer[Any]):
    """What must be kept outside of this system."""

    repository_id = serializers.CharField()
    place = serializers.CharField()
    code = serializers.CharField(help_text="Shown once, stored nowhere.")
    text = serializers.CharField(help_text="The kit as a page to print.")


class NewRepositoryShape(RepositoryShape):
    """A repository with its recovery kit, this one time."""

    recovery_kit = RecoveryKitShape()


class SourceShape(serializers.Serializer[Any]):
    """Something to protect. Secrets are never shown; `secrets_set` names those that are stored."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(SOURCE_KINDS)
    options = PluginOptions(STRATEGIES)
    secrets_set = serializers.ListField(child=serializers.CharField())
    environment = Reference()
    node = Reference(allow_null=True)
    tags = serializers.DictField(child=serializers.CharField())
    policy = Reference(allow_null=True)
    repository = Reference(allow_null=True)
    enabled = serializers.BooleanField()
    archived_at = serializers.DateTimeField(allow_null=True)
    tested_at = serializers.DateTimeField(allow_null=True)
    test_error = serializers.CharField(allow_blank=True, help_text="Empty: the last test passed.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PolicyShape(serializers.Serializer[Any]):
    """A promise."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    keep_last = serializers.IntegerField()
    keep_hourly = serializers.IntegerField()
    keep_daily = serializers.IntegerField()
    keep_weekly = serializers.IntegerField()
    keep_monthly = serializers.IntegerField()
    keep_yearly = serializers.IntegerField()
    retention_days = serializers.IntegerField(allow_null=True)
    immutable_days = serializers.IntegerField()
    required_copies = serializers.IntegerField()
    verify_level = serializers.IntegerField()
    verify_interval_hours = serializers.IntegerField(allow_null=True)
    restore_test_interval_days = serializers.IntegerField(allow_null=True)
    decode_every = serializers.IntegerField()
    rpo_target_minutes = serializers.IntegerField(allow_null=True)
    rto_target_minutes = serializers.IntegerField(allow_null=True)
    max_attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


# --- from rows ------------------------------------------------------------------------------------------------------


def storage(row: Storage) -> dict[str, Any]:
    """A place."""
    held = getattr(row, "repository", None)
    plain = (
        "name",
        "kind",
        "options",
        "enabled",
        "capabilities",
        "tested_at",
        "test_error",
        "created_at",
        "updated_at",
    )
    return {
        "id": row.pk, **{name: getattr(row, name) for name in plain}, "secrets_set": sorted(row.secrets),
        "place": storages.place(row), "repository": _reference(held),
        **{name: _reference(getattr(row, name)) for name in ("environment", "site", "node")},
    }  # fmt: skip


def repository(row: Repository) -> dict[str, Any]:
    """A repository."""
    plain = ("name", "codec", "level", "kit_proven_at", "kit_waived_at", "created_at", "updated_at")
    return {
        "id": row.pk, **{name: getattr(row, name) for name in plain}, "status": row.state,
        "repository_id": row.engine_id, "storage": _reference(row.storage),
        "ready": row.state == RepositoryState.OK and row.kit_settled,
    }  # fmt: skip


def source(row: Source) -> dict[str, Any]:
    """A source."""
    plain = (
        "name", "kind", "options", "tags", "enabled", "archived_at", "tested_at", "test_error", "created_at",
        "updated_at",
    )  # fmt: skip
    return {
        "id": row.pk, **{name: getattr(row, name) for name in plain}, "secrets_set": sorted(row.secrets),
        **{name: _reference(getattr(row, name)) for name in ("environment", "node", "policy", "repository")},
    }  # fmt: skip


def policy(row: Policy) -> dict[str, Any]:
    """A policy."""
    return {field.name: getattr(row, field.attname) for field in Policy._meta.concrete_fields}


def _reference(row: Any) -> dict[str, Any] | None:
    return None if row is None else {"id": row.pk, "name": str(row)}
