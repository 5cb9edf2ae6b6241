"""Recoveries with their parts: what was asked for, how it went, what was found; and the page to ask for one."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import retelling, showing
from aihub_backup.core.access import covers
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import AuditEvent
from backups.admin import live
from backups.admin.base import BROWSE
from backups.admin.deeds import Ask, Deed, DeedAdmin
from recovery.admin import asking
from recovery.admin.findings import in_words
from recovery.models import Recovery, RecoveryState
from recovery.models.recovery import BEFORE_THE_START, WORKING
from recovery.services import recoveries
from recovery.services.points import NOTICES

EVENTS = 30  # on the page of a recovery


def _cancel(ask: Ask) -> str:
    recoveries.cancel(ask.row, by=ask.by, reason=ask.given.get("reason", ""))
    return _("It ends as soon as the worker hears of it; nothing stays behind.")


def _what_a_cancel_means(row: Recovery) -> str:
    return _("What was brought back so far is removed; nothing appears at %(place)s.") % {"place": row.target_path}


@admin.register(Recovery)
class RecoveryAdmin(DeedAdmin):
    """Recoveries."""

    list_display = ("standing", "asked", "what", "type", "target", "purpose", "size", "took", "asker",
                    "error_code")  # fmt: skip
    list_display_links = ("asked",)
    list_filter = ("state", "type", "purpose", "node")
    list_select_related = ("node", "job", "backup")
    search_fields = ("=id", "=backup__id", "target_path", "reason", "requested_by_name")
    date_hierarchy = "created_at"
    hidden = ("requested_by_kind", "requested_by_id", "stage", "tree_inode", "findings", "notices", "job", "include",
              "exclude", "reason", "backup")  # fmt: skip
    empty_words = gettext_lazy("Nothing was recovered yet. Try it before you need it: “New recovery” in the sidebar.")
    deeds: ClassVar[tuple[Deed, ...]] = (
        Deed("cancel", gettext_lazy("Cancel"), "cancel", "recovery.cancel_recovery", _cancel,
             lambda row: row.state in BEFORE_THE_START | WORKING, _what_a_cancel_means, danger=True),
    )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        """Asking for one, and how it goes."""
        site = self.admin_site.admin_view
        return [
            path("new/", site(self.new_page), name="recovery_recovery_new"),
            path("<uuid:object_id>/progress/", site(self.progress_page), name="recovery_recovery_progress"),
            *super().get_urls(),
        ]

    # --- asking ---

    def new_page(self, request: HttpRequest) -> HttpResponse:
        """What, where, check; the last button does it. Nothing is stored before."""
        if not request.user.has_perm(asking.REQUEST):
            raise PermissionDenied(_("You need the permission “%(name)s” for this.") % {"name": asking.REQUEST})
        wish, told = asking.opened(request), dict[str, Any]()
        if wish.is_bound and wish.is_valid():
            try:
                if request.method == "POST":
                    made = asking.ask(wish, Actor.of(request.user))
                    return HttpResponseRedirect(self.page_of(made))
                plan = asking.plan(wish, Actor.of(request.user))
                told.update(plan=plan, notices=_notices(plan.recovery))
            except Failure as failure:
                told["refusal"] = failure.message
        shared = {**self.admin_site.each_context(request), "title": _("New recovery"), "opts": self.opts}
        return render(request, "aihub/recover.html", {**shared, "wish": wish, **told})

    # --- showing ---

    def progress_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The fragment that is asked for again and again."""
        return live.fragment(request, _live(self.seen(request, object_id)))

    def prepared(self, request: HttpRequest, rows: list[Recovery]) -> list[Recovery]:
        """With their parts."""
        prefetch_related_objects(rows, "parts__part__source")
        return rows

    def beside(self, request: HttpRequest, row: Recovery) -> dict[str, Any]:
        """Progress, what was found, what happened; names inside backups to those who may see them."""
        above = ("progress", "recovery", "recovery_parts", "events")
        return {
            "above": [f"aihub/{name}.html" for name in above], "live": _live(row),
            "progress_url": reverse("admin:recovery_recovery_progress", args=[row.pk]), "events": _events(row)[:EVENTS],
            "notices": _notices(row), "parts": row.parts.select_related("part__source"),
            "findings": in_words(row.findings), "sees_names": covers(request.user, BROWSE, row),
        }  # fmt: skip

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def standing(self, recovery: Recovery) -> SafeString:
        """The state, or how far it is."""
        if not recovery.active or recovery.state == RecoveryState.AWAITING_APPROVAL:
            return showing.state(recovery)
        return showing.bar(recovery.progress, recovery.get_state_display())

    @admin.display(description=gettext_lazy("asked for"), ordering="created_at")
    def asked(self, recovery: Recovery) -> SafeString | str:
        """When."""
        return showing.moment(recovery.created_at)

    @admin.display(description=gettext_lazy("what"))
    def what(self, recovery: Recovery) -> str:
        """Which sources."""
        return ", ".join(sorted(one.part.source.name for one in recovery.parts.all()))

    @admin.display(description=gettext_lazy("target"), ordering="target_path")
    def target(self, recovery: Recovery) -> SafeString:
        """Where to, on whose disk."""
        return format_html('<span class="mono">{}</span><span class="aside">{}</span>', recovery.target_path,
                           recovery.node or "")  # fmt: skip

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def size(self, recovery: Recovery) -> str:
        """What came back."""
        return showing.size(recovery.size_bytes)

    @admin.display(description=gettext_lazy("took"))
    def took(self, recovery: Recovery) -> str:
        """From the start to the end, or to now."""
        return showing.span(recovery.started_at, recovery.finished_at)


def _live(row: Recovery) -> dict[str, Any]:
    return live.told(row, row.progress, row.job.heartbeat_at if row.job else None)


def _notices(row: Recovery) -> list[str]:
    """How the request was understood, in the reader's language."""
    return [retelling.retold(notice, *NOTICES) for notice in row.notices]


def _events(row: Recovery) -> QuerySet[AuditEvent]:
    rows = AuditEvent.objects.filter(target_type="recovery.recovery", target_id=str(row.pk))
    return rows.order_by("-at", "-pk")
