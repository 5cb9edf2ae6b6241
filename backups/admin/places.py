"""Storages, repositories and sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin

from aihub_backup.core.audit import Actor
from backups.admin.base import ServiceAdmin
from backups.models import Repository, Source, Storage
from backups.services import sources, storages


@admin.register(Storage)
class StorageAdmin(ServiceAdmin):
    """Places that keep objects."""

    list_display = ("name", "kind", "environment", "site", "node", "enabled", "tested_at", "test_error")
    list_filter = ("kind", "enabled", "environment", "site", "node")
    list_select_related = ("environment", "site", "node")
    search_fields = ("name", "=id")
    autocomplete_fields = ("environment", "site")
    editable = ("name", "site", "environment", "enabled")

    def change(self, row: Storage, by: Actor, changes: Mapping[str, Any]) -> None:
        """Through the service."""
        storages.update(row, by=by, **changes)


@admin.register(Repository)
class RepositoryAdmin(ServiceAdmin):
    """Keyrings with what was sealed under them; nothing here is edited by hand."""

    list_display = ("name", "state", "storage", "engine_id", "codec", "level", "kit_proven_at", "created_at")
    list_filter = ("state", "codec")
    list_select_related = ("storage",)
    search_fields = ("name", "=engine_id", "=id")


@admin.register(Source)
class SourceAdmin(ServiceAdmin):
    """What is protected."""

    list_display = ("name", "kind", "environment", "node", "policy", "repository", "enabled", "tested_at", "test_error")
    list_filter = ("kind", "enabled", ("archived_at", admin.EmptyFieldListFilter), "environment", "node", "policy")
    list_select_related = ("environment", "node", "policy", "repository")
    search_fields = ("name", "=id")
    autocomplete_fields = ("environment", "policy", "repository")
    editable = ("name", "environment", "tags", "policy", "repository", "enabled")

    def change(self, row: Source, by: Actor, changes: Mapping[str, Any]) -> None:
        """Through the service."""
        sources.update(row, by=by, **changes)
