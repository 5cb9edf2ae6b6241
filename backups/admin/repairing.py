"""The page that repairs a repository: what it would do, what it did, what is lost."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core.access import covers, scope
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from backups.admin import live
from backups.admin.adding import AddingAdmin
from backups.admin.deeds import Ask, must_hold
from backups.engine.repair import ADDED, DESCRIBED, REPLACED, RETIRED
from backups.models import BackupPart, Repair, Repository, Storage
from backups.services import repairs

CHANGE = "backups.change_repository"
SEE_STORAGE, SEE_POINT = "backups.view_storage", "backups.view_backuppart"
SHOWN = 50  # deeds and losses on the page, each
PREVIEWED = {  # what would be done
    REPLACED: gettext_lazy("would be replaced from a copy; its wrong bytes are kept"),
    ADDED: gettext_lazy("would be brought back from a copy"),
    DESCRIBED: gettext_lazy("would be written anew from the packs"),
    RETIRED: gettext_lazy("would be taken out of use; its bytes are kept"),
}
DONE = {
    REPLACED: gettext_lazy("replaced from a copy; its wrong bytes are kept"),
    ADDED: gettext_lazy("brought back from a copy"),
    DESCRIBED: gettext_lazy("written anew from the packs"),
    RETIRED: gettext_lazy("taken out of use; its bytes are kept"),
}


def to_page(ask: Ask) -> HttpResponse:
    """The deed's answer: the page."""
    return HttpResponseRedirect(reverse("admin:backups_repository_repair", args=[ask.row.pk]))


class RepairingAdmin(AddingAdmin):
    """Repositories that may have come to harm."""

    def get_urls(self) -> list[URLPattern]:
        """The page, and its progress."""
        page, progress = self.admin_site.admin_view(self.repair_page), self.admin_site.admin_view(self.repair_progress)
        return [
            path("<uuid:object_id>/repair/", page, name="backups_repository_repair"),
            path("<uuid:object_id>/repair/progress/", progress, name="backups_repository_repair_progress"),
            *super().get_urls(),
        ]  # fmt: skip

    def repair_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What is known; a POST asks for a preview, a repair, or the end of what goes on."""
        row = self.seen(request, object_id)
        if request.method == "POST":
            must_hold(request, CHANGE, row)
            self._ask_for(request, row)
            return HttpResponseRedirect(request.path)
        return self.rendered(request, "aihub/repair.html", **self._told(request, row))

    def repair_progress(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The fragment that is asked for again and again."""
        repair = repairs.latest(self.seen(request, object_id))
        return live.fragment(request, _live(repair)) if repair else HttpResponse(status=204)

    def _ask_for(self, request: HttpRequest, row: Repository) -> None:
        by, deed = Actor.of(request.user), request.POST.get("deed", "preview")
        try:
            if deed == "cancel":
                repairs.cancel(row, by=by)
                return
            chosen = [one for one in _places(request, row) if str(one.pk) in request.POST.getlist("copies")]
            reason = request.POST.get("reason", "")[:500]
            repairs.request(row, by=by, copies=chosen, preview=deed != "repair", reason=reason)
        except Failure as failure:
            messages.error(request, failure.message)

    def _told(self, request: HttpRequest, row: Repository) -> dict[str, Any]:
        repair = repairs.latest(row)
        found = repair.found if repair else {}
        words = PREVIEWED if repair and repair.preview else DONE
        chosen = {one.pk for one in repair.copies.all()} if repair else set()
        return {
            "title": _("Repair"), "row": row, "back": self.page_of(row), "may": covers(request.user, CHANGE, row),
            "repair": repair, "found": found, "live": _live(repair) if repair else None,
            "progress_url": reverse("admin:backups_repository_repair_progress", args=[row.pk]),
            "places": [(one, one.pk in chosen) for one in _places(request, row)],
            "deeds": [(one, words.get(one["what"], one["what"])) for one in found.get("deeds", ())[:SHOWN]],
            "losses": [(one, _points(request, one)) for one in found.get("problems", ())[:SHOWN]],
            "ready": bool(repair and repair.preview and found.get("deeds_count")),
        }  # fmt: skip


def _places(request: HttpRequest, row: Repository) -> list[Storage]:
    """Where a copy may lie, as far as this person sees."""
    seen = set(scope(Storage.objects.all(), request.user, SEE_STORAGE).values_list("pk", flat=True))
    return [one for one in repairs.possible_copies(row) if one.pk in seen]


def _points(request: HttpRequest, loss: dict[str, Any]) -> list[BackupPart]:
    """The recovery points that a loss harms, as far as rows tell of them and this person sees them."""
    seen = scope(BackupPart.objects.all(), request.user, SEE_POINT)
    parts = seen.filter(pk__in=loss["snapshots"][:SHOWN]).select_related("source", "backup")
    return list(parts.order_by("-created_at"))


def _live(repair: Repair) -> dict[str, Any]:
    return live.told(repair.job, repair.job.progress, repair.job.heartbeat_at)
