"""Policies and sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest

from aihub_backup.core.audit import Actor
from backups.admin.base import ServiceAdmin
from backups.models import Policy, Site
from backups.services import policies, sites


class _Addable(ServiceAdmin):
    """Rows without options or secrets: a form is enough to add one."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The ordinary permission."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def add(self, by: Actor, values: Mapping[str, Any]) -> Any:
        """Do it: the service's door. Returns the new row."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        """Adding and changing go through the services alike."""
        if change:
            super().save_model(request, obj, form, change)
        else:
            obj.pk = self.add(Actor.of(request.user), form.cleaned_data).pk


@admin.register(Policy)
class PolicyAdmin(_Addable):
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
class SiteAdmin(_Addable):
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
