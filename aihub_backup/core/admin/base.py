"""What the foundation's pages stand on: rows to look at, and rows that are edited here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin as UnfoldAdmin

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.long_lists import LongList
from aihub_backup.core.scoped_admin import ScopedAdmin

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = UnfoldAdmin  # takes no type parameters at run time


class ReadOnlyAdmin(ScopedAdmin, _ModelAdmin):
    """Rows to look at: what happened is not edited."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """One for long tables."""
        return LongList

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


class AuditedAdmin(ScopedAdmin, _ModelAdmin):
    """Rows that are edited here and nowhere else: who added, changed or deleted one is written down with the deed."""

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        """Save it and say which fields were touched, never their values: a password may be among them."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            self.write_down(request, obj, "update" if change else "create", changed=sorted(form.changed_data))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete it."""
        with transaction.atomic():
            self.write_down(request, obj, "delete")
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """The same for each that is ticked in the list; all of them or none."""
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)

    def write_down(self, request: HttpRequest, obj: Model, deed: str, **facts: object) -> None:
        """The event “environment.update”, for example."""
        record(f"{obj._meta.model_name}.{deed}", obj, by=Actor.of(request.user), **facts)
