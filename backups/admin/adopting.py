"""The page that adopts a repository, and what the repository's own page tells about it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters

from aihub_backup.core.access import everywhere
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import Job
from backups.admin import live
from backups.admin.deeds import Ask
from backups.admin.forms import refuse
from backups.admin.repairing import RepairingAdmin
from backups.admin.wishes import AdoptForm
from backups.models import Repository
from backups.services import adopting

ADD = "backups.add_repository"


def reads(row: Repository) -> bool:
    """Is its log being read into rows now?"""
    job = adopting.latest(row)
    return job is not None and job.active


def stop(ask: Ask) -> str:
    """The deed that cancels it."""
    adopting.cancel(ask.row, by=ask.by)
    return _("The reading of “%(name)s” comes to an end. What is written stays.") % {"name": ask.row}


class AdoptingAdmin(RepairingAdmin):
    """Repositories that are made here, or were made elsewhere."""

    def get_urls(self) -> list[URLPattern]:
        """Adopting has a page, and its progress an address."""
        adopt = self.admin_site.admin_view(self.adopt_page)
        progress = self.admin_site.admin_view(self.progress_page)
        return [
            path("adopt/", adopt, name="backups_repository_adopt"),
            path("<uuid:object_id>/adoption/", progress, name="backups_repository_adoption"), *super().get_urls(),
        ]  # fmt: skip

    def shown(self, request: HttpRequest, form: Any, **told: Any) -> HttpResponse:
        """The form of a new one, with the way to those that are there already."""
        page = reverse("admin:backups_repository_adopt") if everywhere(request.user, ADD) else ""
        return super().shown(request, form, instead=page, instead_label=_("Adopt…"), **told)

    @method_decorator(sensitive_post_parameters())
    def adopt_page(self, request: HttpRequest) -> HttpResponse:
        """The form, judged once it was sent. What comes back belongs to the whole console."""
        if not everywhere(request.user, ADD):
            raise PermissionDenied(_("You need the permission “%(name)s” without bounds for this.") % {"name": ADD})
        form = AdoptForm(request, request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            try:
                row, _job = adopting.adopt(**form.words(), by=Actor.of(request.user))
                return HttpResponseRedirect(self.page_of(row))
            except Failure as failure:
                refuse(form, failure)
        about = _("Every backup that its log tells of comes back, with its source, its policy and its hold.")
        back = reverse("admin:backups_repository_add")
        told = {"heading": _("Adopt a repository"), "title": _("Adopt a repository"), "submit": _("Adopt")}
        return self.rendered(request, "aihub/add.html", form=form, about=about, back=back, **told)

    def progress_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The fragment that is asked for again and again."""
        job = adopting.latest(self.seen(request, object_id))
        return live.fragment(request, _live(job)) if job else HttpResponse(status=204)

    def beside(self, request: HttpRequest, row: Repository) -> dict[str, Any]:
        """How far the reading of its log is, or what the last one found."""
        job = adopting.latest(row)
        if job is None:
            return {}
        address = reverse("admin:backups_repository_adoption", args=[row.pk])
        above = ["aihub/progress.html"] if job.active else ["aihub/adoption.html"]
        return {"above": above, "live": _live(job), "progress_url": address, "adoption": job, "found": job.progress}


def _live(job: Job) -> dict[str, Any]:
    return live.told(job, job.progress, job.heartbeat_at)
