"""Schedules, with what becomes of their slots."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet, prefetch_related_objects
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.dateformat import format as date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timeuntil
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from aihub_backup.core import pairs, retelling, showing
from aihub_backup.core.access import scope
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.scoped_admin import ScopedAdmin
from backups.admin import charts
from backups.admin.base import AddableAdmin
from backups.models import Schedule, ScheduleSlot, Source, Trigger
from backups.models.backup import type_word
from backups.services import cron, guards, schedules
from backups.services.slots import NOTES

RUN = "backups.run_backup"
SWITCH = ("enabled", "disabled_reason")
NEWEST = 10


@admin.register(Schedule)
class ScheduleAdmin(AddableAdmin):
    """When backups are made by themselves."""

    list_display = ("name", "of", "type_word", "when", "next_run", "slots_dots", "enabled")
    empty_words = _("Backups are made by hand only. A schedule makes them by themselves, each slot once.")
    list_filter = ("enabled", "type", "environment", "policy", "misfire")
    list_select_related = ("policy", "environment")
    search_fields = ("name", "=id", "cron_expression", "sources__name")
    autocomplete_fields = ("sources", "policy", "environment")
    editable = (*schedules.CHANGEABLE, *SWITCH)
    shown: ClassVar[tuple[str, ...]] = ("in_words", "next_runs", "newest_slots", "created_at", "updated_at")
    actions = ("run_now",)

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Anywhere: the action looks at each row."""
        return request.user.has_perm(RUN)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """What may be set, then what follows from it. A new one begins enabled."""
        return [*self.editable, *self.shown] if obj else list(schedules.CHANGEABLE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The ordinary permission: no backup goes with it."""
        return ScopedAdmin.has_delete_permission(self, request, obj)

    # --- deeds ---

    def add(self, by: Actor, values: Mapping[str, Any]) -> Schedule:
        """A new one."""
        return schedules.create(by=by, **values)

    def change(self, row: Schedule, by: Actor, changes: Mapping[str, Any]) -> None:
        """Another time, other sources, on or off."""
        plain = {name: value for name, value in changes.items() if name not in SWITCH}
        if plain:
            schedules.change(row, by=by, **plain)
        if changes.get("enabled") is True:
            schedules.enable(row, by=by)
        elif changes.get("enabled") is False:
            schedules.disable(row, by=by, reason=changes.get("disabled_reason", ""))

    def save_related(self, request: HttpRequest, form: ModelForm[Any], formsets: Any, change: bool) -> None:
        """The service has written the sources already; what is left is whether the person reaches them."""
        self.must_reach(request, form.instance, "change" if change else "add")

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What the service refuses is told in its words, and before anybody is asked whether they mean it."""
        row = self.get_object(request, object_id)
        try:
            if row is not None and self.has_delete_permission(request, row):
                guards.must_be_kept(row)
            return super().delete_view(request, object_id, extra_context)
        except Failure as failure:
            messages.error(request, failure.message)
            return HttpResponseRedirect(reverse("admin:backups_schedule_change", args=[object_id]))

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Through the service; the page has asked whether it is meant."""
        schedules.delete(obj, by=Actor.of(request.user), confirm=True)

    @admin.action(description=_("Run now"), permissions=["run"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """A backup of each that is ticked."""
        within = scope(Source.objects.all(), request.user, RUN)
        for schedule in self.ticked(request, queryset, RUN):
            try:
                made = schedules.run_now(schedule, by=Actor.of(request.user), trigger=Trigger.CONSOLE, within=within)
                told = gettext("“%(name)s”: the backup %(id)s was asked for.")
                messages.success(request, told % {"name": schedule, "id": made.pk})
            except Failure as failure:
                messages.error(request, f"“{schedule}”: {failure.message}")

    # --- showing ---

    def prepared(self, request: HttpRequest, rows: list[Schedule]) -> list[Schedule]:
        """With the names of their sources and the newest slots."""
        newest = ScheduleSlot.objects.only("schedule", "due_at", "state").order_by("-due_at", "-id")[:NEWEST]
        prefetch_related_objects(rows, Prefetch("slots", newest, to_attr="newest"))
        names: dict[Any, list[str]] = {row.pk: [] for row in rows}
        for key, name in Schedule.objects.filter(pk__in=names, sources__isnull=False).values_list(
            "pk", "sources__name"
        ):
            names[key].append(name)
        for row in rows:
            vars(row).update(names=sorted(names[row.pk]))
        return rows

    @admin.display(description=_("sources"))
    def of(self, schedule: Schedule) -> str:
        """Their names, or how they are chosen."""
        named = ", ".join(vars(schedule)["names"])
        return named or ", ".join(pairs.lines(schedule.tags)) or gettext("all of its type")

    @admin.display(description=_("last slots"))
    def slots_dots(self, schedule: Schedule) -> SafeString:
        """What became of the last ones."""
        slots = getattr(schedule, "newest", [])
        return charts.dots(
            [(showing.tone(one.state), f"{one.due_at:%Y-%m-%d %H:%M} {showing.state_words(one)}") for one in slots]
        )

    @admin.display(description=_("in words"))
    def in_words(self, schedule: Schedule) -> str:
        """The expression for people."""
        return cron.in_words(schedule.cron_expression)

    @admin.display(description=_("type"), ordering="type")
    def type_word(self, schedule: Schedule) -> str:
        """In one word."""
        return type_word(schedule.type)

    @admin.display(description=_("when"), ordering="cron_expression")
    def when(self, schedule: Schedule) -> SafeString:
        """The expression for people, and the zone it is read in."""
        return format_html('{}<span class="aside">{}</span>', self.in_words(schedule), schedule.timezone)

    @admin.display(description=_("next run"))
    def next_run(self, schedule: Schedule) -> SafeString | str:
        """The next moment, in the schedule's zone, then how far it is."""
        found = next(iter(schedules.next_runs(schedule, 1)), None)
        if found is None:
            return showing.NOTHING
        told = date_format(found.astimezone(schedule.zone), "Y-m-d H:i T")
        return format_html('<span class="keep">{}</span><span class="aside">{}</span>', told, showing.relative(found))

    @admin.display(description=_("next runs"))
    def next_runs(self, schedule: Schedule) -> SafeString | str:
        """The next five, in the schedule's zone."""
        return _lines(_told(schedule, 5)) or str(_("none: the schedule is disabled"))

    @admin.display(description=_("newest slots"))
    def newest_slots(self, schedule: Schedule) -> SafeString | str:
        """What became of the last ones, and why."""
        rows = schedule.slots.all()[:NEWEST]
        lines = [f"{slot.due_at:%Y-%m-%d %H:%M} UTC: {slot.get_state_display()} {_why(slot)}".strip() for slot in rows]
        return _lines(lines) or "–"


def _why(slot: ScheduleSlot) -> str:
    return retelling.retold(slot.note, *NOTES)


def _told(schedule: Schedule, count: int) -> list[str]:
    """Absolute first, relative second: the reader's clock may be another one."""
    now = timezone.now()
    moments = schedules.next_runs(schedule, count)
    return [f"{date_format(at.astimezone(schedule.zone), 'D Y-m-d H:i T')} ({_until(at, now)})" for at in moments]


def _until(at: datetime, now: datetime) -> str:
    return gettext("in %(time)s") % {"time": timeuntil(at, now)}


def _lines(lines: list[str]) -> SafeString:
    return format_html_join("", "<div>{}</div>", ((line,) for line in lines))
