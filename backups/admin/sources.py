"""Sources: what is protected, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import showing
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Refused
from backups.admin import charts
from backups.admin.adding import KindAdmin, KindFilter, settings_of
from backups.admin.deeds import Ask, Deed
from backups.admin.wishes import SourceForm
from backups.kinds import STRATEGIES
from backups.models import BackupPart, BackupType, Source, Trigger
from backups.services import backups, protection, sources, strips, verifications
from backups.services.evidence import Check, Point

NEWEST = 10  # backups on a source's page
LEVEL = 2  # of a verification that is asked for by a button
RUN = "backups.run_backup"


def _back_up(ask: Ask) -> HttpResponse:
    made = backups.request(BackupType.INCREMENTAL, by=ask.by, trigger=Trigger.CONSOLE, sources=[ask.row])
    return HttpResponseRedirect(reverse("admin:backups_backup_change", args=[made.pk]))


def _verify(ask: Ask) -> str:
    point = protection.evaluate([ask.row])[ask.row.pk].point
    if point is None:
        raise Refused(_("It has no restorable point to verify; back it up first."), code="not-restorable")
    part = BackupPart.objects.select_related("backup", "repository").get(pk=point.part)
    verifications.request(part.backup, level=LEVEL, by=ask.by, trigger=Trigger.CONSOLE, parts=[part])
    return _("The newest point of “%(name)s” is being verified.") % {"name": ask.row}


def _test(ask: Ask) -> str | HttpResponse:
    sources.test(ask.row, by=ask.by)
    if ask.row.test_error:
        raise Refused(ask.row.test_error, code="source-unreachable")
    return _("“%(name)s” can be read.") % {"name": ask.row}


def _recover(ask: Ask) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('admin:recovery_recovery_new')}?source={ask.row.pk}")


def _pause(ask: Ask) -> str:
    sources.pause(ask.row, by=ask.by, reason=ask.given.get("reason", ""))
    return _("“%(name)s” is paused: runs that name no sources leave it out.") % {"name": ask.row}


def _resume(ask: Ask) -> str:
    sources.resume(ask.row, by=ask.by)
    return _("“%(name)s” is in service again.") % {"name": ask.row}


def _not_the_console(row: Source) -> bool:
    """Its database is led nowhere else and brought back on its host only (`services.guards`)."""
    return not row.holds_console


def _what_a_pause_means(row: Source) -> str:
    told = _("Schedules will leave “%(name)s” out until somebody resumes it; no new recovery points are made.")
    return told % {"name": row}


JUDGED_BEFORE = "verdicts"  # of the request


class StandingFilter(admin.SimpleListFilter):
    """By verdict: it is judged anew for every source, because it changes with time alone."""

    title = gettext_lazy("protected?")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Every verdict there is."""
        return list(protection.Standing.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Source]) -> QuerySet[Source]:
        """The sources of which it is said now."""
        if self.value() is None:
            return queryset
        found = {subject.pk: verdict for subject, verdict in protection.judged(queryset)}
        vars(request)[JUDGED_BEFORE] = found  # the page shows some of them: they are not judged twice
        return queryset.filter(pk__in=[key for key, verdict in found.items() if verdict.standing == self.value()])


@admin.register(Source)
class SourceAdmin(KindAdmin):
    """What is protected."""

    table = STRATEGIES
    heading = gettext_lazy("Add a source")

    list_display = (
        "standing",
        "name",
        "what",
        "newest_point",
        "verified",
        "days",
        "size",
        "enabled",
    )
    list_display_links = ("name",)
    list_filter = (
        StandingFilter,
        KindFilter,
        "enabled",
        ("archived_at", admin.EmptyFieldListFilter),
        "environment",
        "node",
        "policy",
    )
    list_select_related = ("environment", "node", "policy", "repository")
    search_fields = ("name", "=id")
    autocomplete_fields = ("environment", "policy", "repository")
    editable = ("name", "environment", "tags", "policy", "repository", "enabled")
    actions = ("back_up_now",)
    empty_words = gettext_lazy("Nothing is protected yet. Press “+” and choose what the first source is.")
    deeds: ClassVar[tuple[Deed, ...]] = (
        Deed("backup", gettext_lazy("Back up now"), "backup", RUN, _back_up, lambda row: row.archived_at is None),
        Deed("verify", gettext_lazy("Verify newest"), "verified", "backups.verify_backup", _verify),
        Deed("recover", gettext_lazy("Recover…"), "settings_backup_restore", "recovery.request_recovery", _recover,
             _not_the_console),
        Deed("test", gettext_lazy("Test connection"), "network_check", "backups.change_source", _test),
        Deed("options", gettext_lazy("Settings…"), "tune", "backups.change_source", settings_of,
             _not_the_console),
        Deed("pause", gettext_lazy("Pause"), "pause", "backups.change_source", _pause,
             lambda row: row.in_service, _what_a_pause_means),
        Deed("resume", gettext_lazy("Resume"), "play_arrow", "backups.change_source", _resume,
             lambda row: not row.in_service),
    )  # fmt: skip

    def test(self, row: Source, by: Actor) -> Source:
        """Through the service."""
        return sources.test(row, by=by)

    def change(self, row: Source, by: Actor, changes: Mapping[str, Any]) -> None:
        """Through the service."""
        sources.update(row, by=by, **changes)

    def wish(self, request: HttpRequest, data: Any) -> SourceForm:
        """The form of the kind that the address names."""
        return SourceForm(request, request.GET.get("kind", ""), data)

    def make(self, form: SourceForm, by: Actor) -> Source:
        """Looked at by the strategy, then stored."""
        given = form.cleaned_data
        return sources.create(given["name"], form.kind, form.given(), by=by, test=given["test"], **form.words())

    def draft(self, form: SourceForm, by: Actor) -> Source:
        """The same, not stored."""
        return sources.draft(form.cleaned_data["name"], form.kind, form.given(), **form.words())

    def try_out(self, row: Source) -> None:
        """Let the strategy look at it."""
        sources.try_out(row)

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Anywhere: the action looks at each row."""
        return request.user.has_perm(RUN)

    @admin.action(description=gettext_lazy("Back up now"), permissions=["run"])
    def back_up_now(self, request: HttpRequest, queryset: QuerySet[Source]) -> None:
        """One backup of all that are ticked: a recovery set."""
        chosen = list(self.ticked(request, queryset, RUN))
        try:
            made = backups.request(
                BackupType.INCREMENTAL, by=Actor.of(request.user), trigger=Trigger.CONSOLE, sources=chosen
            )
        except Failure as failure:
            messages.error(request, failure.message)
            return
        page = reverse("admin:backups_backup_change", args=[made.pk])
        messages.success(request, format_html('<a href="{}">{}</a>', page, _("The backup was asked for; watch it.")))

    # --- showing ---

    def prepared(self, request: HttpRequest, rows: list[Source]) -> list[Source]:
        """With verdicts and strips."""
        verdicts = vars(request).get(JUDGED_BEFORE) or protection.evaluate(rows)
        days = strips.strips(rows)
        for row in rows:
            vars(row).update(verdict=verdicts[row.pk], strip=days[row.pk])
        return rows

    def beside(self, request: HttpRequest, row: Source) -> dict[str, Any]:
        """The five tests, the strip, the newest backups."""
        parts = BackupPart.objects.filter(source=row).select_related("backup", "job").order_by("-created_at")[:NEWEST]
        newest = list(parts)
        prefetch_related_objects(newest, Prefetch("verifications"))
        return {
            "above": ["aihub/source.html"], "verdict": protection.evaluate([row])[row.pk],
            "strip": charts.strip(strips.strips([row])[row.pk]), "newest": newest,
        }  # fmt: skip

    @admin.display(description=gettext_lazy("protected?"))
    def standing(self, source: Source) -> SafeString:
        """The verdict; why is told when the mouse rests on it, and on the page."""
        verdict: protection.Verdict = vars(source)["verdict"]
        shown = showing.badge(verdict.standing, verdict.standing.label)
        return format_html('<span title="{}">{}</span>', verdict.reason, shown)

    @admin.display(description=gettext_lazy("kind"), ordering="kind")
    def what(self, source: Source) -> SafeString:
        """The kind in words, then where it belongs."""
        return format_html('{}<span class="aside">{}</span>', self.kind_in_words(source), source.environment)

    @admin.display(description=gettext_lazy("newest point"))
    def newest_point(self, source: Source) -> SafeString | str:
        """The time of its data."""
        verdict: protection.Verdict = vars(source)["verdict"]
        return showing.moment(verdict.data_as_of)

    @admin.display(description=gettext_lazy("last verified"))
    def verified(self, source: Source) -> SafeString | str:
        """When, and with which result."""
        checked: Check | None = vars(source)["verdict"].checked
        return showing.NOTHING if checked is None else format_html(
            '{}<span class="aside">{}</span>', showing.badge(checked.state, checked.told), showing.relative(checked.at)
        )  # fmt: skip

    @admin.display(description=gettext_lazy("30 days"))
    def days(self, source: Source) -> SafeString:
        """What they were like."""
        return charts.strip(vars(source)["strip"])

    @admin.display(description=gettext_lazy("size"))
    def size(self, source: Source) -> str:
        """Of the newest restorable point."""
        point: Point | None = vars(source)["verdict"].point
        return showing.size(point.size_bytes if point else None)
