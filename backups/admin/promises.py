"""Policies and sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import showing
from aihub_backup.core.access import scope
from aihub_backup.core.audit import Actor
from backups.admin.base import AddableAdmin
from backups.models import Policy, Site, Source
from backups.services import policies, sites

STEPS = {
    "keep_last": gettext_lazy("newest"), "keep_hourly": gettext_lazy("hourly"), "keep_daily": gettext_lazy("daily"),
    "keep_weekly": gettext_lazy("weekly"), "keep_monthly": gettext_lazy("monthly"),
    "keep_yearly": gettext_lazy("yearly"), "retention_days": gettext_lazy("days"),
}  # fmt: skip


@admin.register(Policy)
class PolicyAdmin(AddableAdmin):
    """What protection means."""

    list_display = ("name", "applies_to", "keeps", "verified", "rpo", "rto", "immutable_days",
                    "required_copies")  # fmt: skip
    empty_words = gettext_lazy("A policy says how long points are kept and how old the newest one may be.")
    search_fields = ("name", "description")
    list_filter = ("verify_level",)
    editable = policies.CHANGEABLE

    def prepared(self, request: HttpRequest, rows: list[Policy]) -> list[Policy]:
        """With how many sources they are a promise to, of those that the person sees."""
        seen = scope(Source.objects.filter(policy__in=rows), request.user, "backups.view_source")
        told = dict(seen.values_list("policy").annotate(n=Count("pk")).order_by())
        for row in rows:
            vars(row).update(sources_count=told.get(row.pk, 0))
        return rows

    @admin.display(description=gettext_lazy("sources"))
    def applies_to(self, policy: Policy) -> int:
        """How many it is a promise to."""
        count: int = vars(policy)["sources_count"]
        return count

    @admin.display(description=gettext_lazy("keeps"))
    def keeps(self, policy: Policy) -> str:
        """The rules in words."""
        told = [f"{getattr(policy, name)} {words}" for name, words in STEPS.items() if getattr(policy, name)]
        return ", ".join(told) or _("everything")

    @admin.display(description=gettext_lazy("verified"), ordering="verify_level")
    def verified(self, policy: Policy) -> str:
        """At which level, and how often."""
        level = _("level %(level)d") % {"level": policy.verify_level} if policy.verify_level else showing.NOTHING
        hours = policy.verify_interval_hours
        return f"{level}, {_('every %(hours)d h') % {'hours': hours}}" if hours else level

    @admin.display(description=gettext_lazy("RPO"), ordering="rpo_target_minutes")
    def rpo(self, policy: Policy) -> str:
        """How old the newest point may be."""
        return _span(policy.rpo_target_minutes)

    @admin.display(description=gettext_lazy("RTO"), ordering="rto_target_minutes")
    def rto(self, policy: Policy) -> str:
        """How long a recovery may take."""
        return _span(policy.rto_target_minutes)

    def add(self, by: Actor, values: Mapping[str, Any]) -> Policy:
        """A new one."""
        return policies.create(by=by, **values)

    def change(self, row: Policy, by: Actor, changes: Mapping[str, Any]) -> None:
        """Other promises."""
        policies.update(row, by=by, **changes)


def _span(minutes: int | None) -> str:
    return showing.duration(60 * minutes) if minutes else showing.NOTHING


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
