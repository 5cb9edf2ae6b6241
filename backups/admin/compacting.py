"""Giving space back, as the page of a repository shows it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from aihub_backup.core import showing
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import Job
from backups.admin import live
from backups.admin.adopting import AdoptingAdmin
from backups.admin.deeds import Ask
from backups.models import Repository, RepositoryState
from backups.services import compacting


def compact(ask: Ask) -> str:
    """The deed."""
    compacting.request(ask.row, by=ask.by, reason=ask.given.get("reason", ""))
    return _("The space that only deleted backups needed in “%(name)s” is being given back.") % {"name": ask.row}


def may_begin(row: Repository) -> bool:
    """Is there anything to press the button for?"""
    return row.state == RepositoryState.OK and not _active(row)


def stop(ask: Ask) -> str:
    """The deed that cancels it."""
    compacting.cancel(ask.row, by=ask.by)
    return _("It comes to an end. Nothing is lost; the next run goes on.")


def may_stop(row: Repository) -> bool:
    """Is a run waiting or at work?"""
    return _active(row) is not None


def foreseen(row: Repository) -> str:
    """What would come back, in words; or why nobody can tell."""
    try:
        plan = compacting.preview(row)
    except Failure as failure:
        return _("What would come back cannot be told now: %(why)s") % {"why": failure.message}
    told = _(
        "Of %(stored)s in “%(name)s” no recovery point needs %(unused)s. %(freed)s come back, and %(carried)s are"
        " stored anew for that. Up to a tenth stays unused, because moving it would cost more than it gives. Packs are"
        " deleted when all work has ended that is going on now."
    )
    names = ("stored", "unused", "freed", "carried", "outdated", "renewed")
    sizes = {name: showing.size(plan[name]) for name in names}
    older = _("%(outdated)s lie under older keys; this run brings %(renewed)s of them under the new one.") % sizes
    return f"{told % {'name': row, **sizes}}{f' {older}' if plan['outdated'] else ''}"


class CompactingAdmin(AdoptingAdmin):
    """Repositories whose space is looked after."""

    def get_urls(self) -> list[URLPattern]:
        """Its progress has an address."""
        progress = self.admin_site.admin_view(self.compaction_page)
        return [path("<uuid:object_id>/compaction/", progress, name="backups_repository_compaction"),
                *super().get_urls()]  # fmt: skip

    def compaction_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The fragment that is asked for again and again."""
        job = compacting.latest(self.seen(request, object_id))
        return live.fragment(request, _live(job)) if job else HttpResponse(status=204)

    def beside(self, request: HttpRequest, row: Repository) -> dict[str, Any]:
        """How far a run is, or what the last one did; the reading of a log goes first."""
        told = super().beside(request, row)
        job = compacting.latest(row)
        if job is None or ("live" in told and told["live"]["row"].active):
            return told
        if job.active:
            address = reverse("admin:backups_repository_compaction", args=[row.pk])
            return {**told, "above": ["aihub/progress.html"], "live": _live(job), "progress_url": address}
        return {**told, "above": [*told.get("above", []), "aihub/compaction.html"], "compaction": job}


def _active(row: Repository) -> Job | None:
    job = compacting.latest(row)
    return job if job is not None and job.active else None


def _live(job: Job) -> dict[str, Any]:
    return live.told(job, job.progress, job.heartbeat_at)
