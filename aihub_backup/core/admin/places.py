"""Environments and nodes."""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import showing
from aihub_backup.core.admin.base import AuditedAdmin
from aihub_backup.core.models import Environment, Node


@admin.register(Environment)
class EnvironmentAdmin(AuditedAdmin):
    """Environments."""

    list_display = ("name", "description", "created_at")
    empty_words = gettext_lazy("Sources and storages belong to environments; the first one is made by itself.")
    search_fields = ("name", "description")


@admin.register(Node)
class NodeAdmin(AuditedAdmin):
    """Worker hosts."""

    list_display = ("name", "host", "standing", "seen", "enabled")
    list_filter = ("enabled",)
    search_fields = ("name", "host", "description")
    readonly_fields = ("host", "seen_at")

    @admin.display(description=gettext_lazy("state"))
    def standing(self, node: Node) -> SafeString:
        """Did it show itself lately?"""
        return showing.badge("ok", _("alive")) if node.alive else showing.badge("failed", _("silent"))

    @admin.display(description=gettext_lazy("last seen"), ordering="seen_at")
    def seen(self, node: Node) -> SafeString | str:
        """When."""
        return showing.moment(node.seen_at)
