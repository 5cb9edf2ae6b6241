"""Backups with their parts, and integrity checks: what happened, as it is."""

from __future__ import annotations

from django.contrib import admin

from backups.admin.base import ReadOnlyInline, ServiceAdmin
from backups.models import Backup, BackupPart, Verification


class PartInline(ReadOnlyInline):
    """The parts on the page of their backup."""

    model = BackupPart
    fields = ("source", "repository", "state", "mode", "items", "size_bytes", "stored_bytes", "warnings_count",
              "errors_count", "started_at", "finished_at", "error_message")  # fmt: skip
    readonly_fields = fields
    show_change_link = True


@admin.register(Backup)
class BackupAdmin(ServiceAdmin):
    """Runs and the recovery points they left."""

    list_display = ("id", "type", "state", "label", "environment", "trigger", "requested_by_name", "created_at",
                    "finished_at", "hold_until")  # fmt: skip
    list_filter = ("state", "type", "trigger", "environment")
    list_select_related = ("environment",)
    search_fields = ("label", "=id", "parts__source__name", "requested_by_name")
    date_hierarchy = "created_at"
    inlines = (PartInline,)


@admin.register(BackupPart)
class BackupPartAdmin(ServiceAdmin):
    """One source inside a backup."""

    list_display = ("id", "source", "state", "mode", "repository", "items", "size_bytes", "stored_bytes",
                    "warnings_count", "errors_count", "data_as_of", "error_code")  # fmt: skip
    list_filter = ("state", "mode", "repository")
    list_select_related = ("source", "repository")
    search_fields = ("=id", "=backup__id", "source__name", "error_message")
    date_hierarchy = "created_at"


@admin.register(Verification)
class VerificationAdmin(ServiceAdmin):
    """Integrity checks."""

    list_display = ("id", "part", "storage", "level", "state", "problems_count", "bytes_checked", "created_at",
                    "finished_at", "error_code")  # fmt: skip
    list_filter = ("state", "level", "storage")
    list_select_related = ("part__source", "storage")
    search_fields = ("=id", "=part__id", "part__source__name")
    date_hierarchy = "created_at"
