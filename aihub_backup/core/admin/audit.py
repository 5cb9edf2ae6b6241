"""The audit: who did what, on what, where and when."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from aihub_backup.core import retelling, showing
from aihub_backup.core.access import scope
from aihub_backup.core.admin.base import ReadOnlyAdmin
from aihub_backup.core.long_lists import ValuesFilter
from aihub_backup.core.models import AuditEvent, Environment


class TargetFilter(admin.SimpleListFilter):
    """By the kind of thing it was done to, in words."""

    title = _("kind of target")
    parameter_name = "target_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those that occur in what the person sees."""
        seen = model_admin.get_queryset(request).order_by().values_list("target_type", flat=True).distinct()
        return sorted(((kind, _noun(kind)) for kind in seen), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        """Their events."""
        return queryset.filter(target_type=self.value()) if self.value() else queryset


class EnvironmentFilter(admin.SimpleListFilter):
    """By where it was done; an event keeps its environment's id, also when that is gone."""

    title = _("environment")
    parameter_name = "where"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those in reach."""
        rows = scope(Environment.objects.all(), request.user, "core.view_environment")
        return [(str(row.pk), row.name) for row in rows]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        """Their events; none for what is no choice."""
        if self.value() is None:
            return queryset
        known = {key for key, _name in self.lookup_choices}
        return queryset.filter(environment=self.value()) if self.value() in known else queryset.none()


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Who did what."""

    list_display = ("when", "who", "what", "target", "where")
    list_filter = (("action", ValuesFilter), "actor_kind", TargetFilter, EnvironmentFilter)
    search_fields = ("actor_name", "action", "target_name", "=target_id", "=request_id")
    date_hierarchy = "at"
    fields = ("when", "who", "what", "target", "target_id", "where", "told", "request_id")
    readonly_fields = fields
    empty_words = _("Whatever people, programs and the console itself do is written down here, in the same moment.")

    def whole(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """With the names of the environments."""
        names = Environment.objects.filter(pk=OuterRef("environment")).values("name")
        named: QuerySet[Any] = rows.annotate(environment_name=Subquery(names))
        return named

    @admin.display(description=_("at"), ordering="at")
    def when(self, event: AuditEvent) -> SafeString | str:
        """The moment."""
        return showing.moment(event.at)

    @admin.display(description=_("actor"), ordering="actor_name")
    def who(self, event: AuditEvent) -> SafeString:
        """The name, and what bears it."""
        name = retelling.actor(event.actor_kind, event.actor_name)
        return format_html('{}<span class="aside">{}</span>', name, event.get_actor_kind_display())

    @admin.display(description=_("action"), ordering="action")
    def what(self, event: AuditEvent) -> SafeString:
        """In words, and the word that programs know."""
        words = retelling.deed(event.action)
        return format_html('{}<span class="mono{}">{}</span>', words, " aside" if words else "", event.action)

    @admin.display(description=_("target"), ordering="target_name")
    def target(self, event: AuditEvent) -> SafeString:
        """The name it had then, and its kind."""
        name = retelling.target(event.target_name, event.target_type)
        return format_html('{}<span class="aside">{}</span>', name, _noun(event.target_type))

    @admin.display(description=_("environment"))
    def where(self, event: AuditEvent) -> str:
        """By its name; of one that is gone by its id."""
        return str(vars(event)["environment_name"] or event.environment or showing.NOTHING)

    @admin.display(description=_("facts"))
    def told(self, event: AuditEvent) -> SafeString | str:
        """One a line."""
        facts = ((name, showing.plain(value)) for name, value in event.facts.items())
        lines = format_html_join("", '<div class="mono">{} = {}</div>', facts)
        return lines or showing.NOTHING


def _noun(label: str) -> str:
    """“backups.source” in words; as it is when there is no such thing any more."""
    try:
        return str(apps.get_model(label)._meta.verbose_name)
    except (LookupError, ValueError):
        return label
