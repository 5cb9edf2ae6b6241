"""Jobs: long work, as it is."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from aihub_backup.core import jobs, showing
from aihub_backup.core.admin.base import ReadOnlyAdmin
from aihub_backup.core.long_lists import ValuesFilter
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import LEASED


class KindFilter(admin.SimpleListFilter):
    """By what is done, in words."""

    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every kind that somebody knows how to do."""
        return sorted(((kind, jobs.in_words(kind)) for kind in jobs.kinds()), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """The jobs of that kind."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Who does it, how far it is, and why it failed."""

    list_display = ("standing", "asked", "what", "place", "tries", "took", "sign", "why")
    list_display_links = ("asked",)
    list_filter = ("state", KindFilter, ("queue", ValuesFilter), "node")
    list_select_related = ("node",)
    search_fields = ("=id", "=target_id", "error_message")
    date_hierarchy = "created_at"
    empty_words = _(
        "Work that is asked for appears here: backups, verifications, recoveries. Whoever is bound to environments or"
        " tags finds it on the pages of backups and recoveries instead."
    )

    @admin.display(description=_("state"), ordering="state")
    def standing(self, job: Job) -> SafeString:
        """The state, or how far it is."""
        return showing.bar(job.progress, job.get_state_display()) if job.state in LEASED else showing.state(job)

    @admin.display(description=_("asked for"), ordering="created_at")
    def asked(self, job: Job) -> SafeString | str:
        """When."""
        return showing.moment(job.created_at)

    @admin.display(description=_("kind"), ordering="kind")
    def what(self, job: Job) -> str:
        """In words."""
        return jobs.in_words(job.kind)

    @admin.display(description=_("queue"), ordering="queue")
    def place(self, job: Job) -> SafeString:
        """Who hears of it; the only host that can do it, where there is one."""
        return format_html('{}<span class="aside">{}</span>', job.queue, job.node or "")

    @admin.display(description=_("attempts"), ordering="attempts")
    def tries(self, job: Job) -> str:
        """Of how many."""
        return f"{job.attempts} / {job.max_attempts}"

    @admin.display(description=_("took"))
    def took(self, job: Job) -> str:
        """From the start to the end, or to now."""
        return showing.span(job.started_at, job.finished_at)

    @admin.display(description=_("last sign of life"), ordering="heartbeat_at")
    def sign(self, job: Job) -> SafeString | str:
        """Of the worker that has it; of ended work it says nothing."""
        return showing.moment(job.heartbeat_at if job.state in LEASED else None)

    @admin.display(description=_("why it failed"))
    def why(self, job: Job) -> str:
        """The last attempt's reason."""
        return job.error_message or showing.NOTHING
