"""Recoveries with their parts: what was asked for, how it went, what was found."""

from __future__ import annotations

from django.contrib import admin

from backups.admin.base import ReadOnlyInline, ServiceAdmin
from recovery.models import Recovery, RecoveryPart


class RecoveryPartInline(ReadOnlyInline):
    """What is brought back, and where it goes."""

    model = RecoveryPart
    fields = ("part", "place", "restored_at", "stats", "item_errors")
    readonly_fields = fields


@admin.register(Recovery)
class RecoveryAdmin(ServiceAdmin):
    """Recoveries."""

    list_display = (
        "id",
        "type",
        "purpose",
        "state",
        "target_path",
        "node",
        "requested_by_name",
        "created_at",
        "finished_at",
        "error_code",
    )
    list_filter = ("state", "type", "purpose", "node")
    list_select_related = ("node",)
    search_fields = ("=id", "=backup__id", "target_path", "reason", "requested_by_name")
    date_hierarchy = "created_at"
    inlines = (RecoveryPartInline,)
