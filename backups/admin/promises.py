"""Policies and sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin

from aihub_backup.core.audit import Actor
from backups.admin.base import AddableAdmin
from backups.models import Policy, Site
from backups.services import policies, sites


@admin.register(Policy)
class PolicyAdmin(AddableAdmin):
    """What protection means."""

    list_display = ("name", "retention_days", "keep_daily", "keep_weekly", "keep_monthly", "verify_level",
                    "required_copies", "rpo_target_minutes", "rto_target_minutes")  # fmt: skip
    search_fields = ("name", "description")
    list_filter = ("verify_level",)
    editable = policies.CHANGEABLE

    def add(self, by: Actor, values: Mapping[str, Any]) -> Policy:
        """A new one."""
        return policies.create(by=by, **values)

    def change(self, row: Policy, by: Actor, changes: Mapping[str, Any]) -> None:
        """Other promises."""
        policies.update(row, by=by, **changes)


@admin.register(Site)
class SiteAdmin(AddableAdmin):
    """Where storages stand."""

    list_display = ("name", "description", "created_at")
    search_fields = ("name", "description")
    editable = ("name", "description")

    def add(self, by: Actor, values: Mapping[str, Any]) -> Site:
        """A new one."""
        return sites.create(by=by, **values)

    def change(self, row: Site, by: Actor, changes: Mapping[str, Any]) -> None:
        """Another name or description."""
        sites.update(row, by=by, **changes)
