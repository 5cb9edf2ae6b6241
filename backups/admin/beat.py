"""The scheduler's own pages: what a schedule of ours owns is shown there, and changed on our page only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django_celery_beat.admin import (
    ClockedScheduleAdmin,
    CrontabScheduleAdmin,
    IntervalScheduleAdmin,
    PeriodicTaskAdmin,
    PeriodicTaskForm,
    SolarScheduleAdmin,
    TaskSelectWidget,
)
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from aihub_backup.core.scoped_admin import ScopedAdmin
from backups.models import Schedule


class _Owned:
    """Rows with an owner are read-only; bulk actions pass them by."""

    def owner(self, obj: Any) -> Schedule | None:
        """The schedule that the row belongs to."""
        return getattr(obj, "backup_schedule", None) if obj is not None else None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not of ours."""
        return self.owner(obj) is None and bool(super().has_change_permission(request, obj))  # type: ignore[misc]  # mixed in

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not of ours."""
        return self.owner(obj) is None and bool(super().has_delete_permission(request, obj))  # type: ignore[misc]  # as above

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The page, with the way to ours."""
        if object_id and not object_id.isdecimal():  # what is no number is no row, as elsewhere
            raise Http404(object_id)
        owner = Schedule.objects.filter(**{self.link: object_id}).first() if object_id else None
        if owner is not None:
            messages.warning(request, _sentence(owner))
        shown: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)  # type: ignore[misc]  # as above
        return shown

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Enable, disable, run and delete reach only what has no owner."""
        chosen = queryset.filter(pk__in=request.POST.getlist("_selected_action"))
        if chosen.filter(backup_schedule__isnull=False).exists():
            messages.warning(request, _("Rows that belong to a schedule were left as they are; change them there."))
        return super().response_action(request, queryset.filter(backup_schedule__isnull=True))  # type: ignore[misc]  # as above

    link = ""


class _TaskChoice(UnfoldAdminSelectWidget, TaskSelectWidget):  # type: ignore[misc]  # neither has types
    """The registered tasks, looking like our other choices."""


class _TaskForm(PeriodicTaskForm):  # type: ignore[misc]  # beat has no types
    """Its form, with fields that look like ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:
            self.fields["task"].widget = UnfoldAdminTextInputWidget()
        if "regtask" in self.fields:
            self.fields["regtask"].widget = _TaskChoice()


class OwnedTaskAdmin(_Owned, ScopedAdmin, PeriodicTaskAdmin, ModelAdmin):  # type: ignore[misc]  # beat has no types
    """Tasks."""

    form = _TaskForm
    link = "periodic_task"


class OwnedCrontabAdmin(_Owned, ScopedAdmin, CrontabScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # beat has no types
    """Crontabs."""

    link = "crontab"


class IntervalAdmin(ScopedAdmin, IntervalScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    """Intervals."""


class SolarAdmin(ScopedAdmin, SolarScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    """Moments of the sun."""


class ClockedAdmin(ScopedAdmin, ClockedScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # as above
    """Single moments."""


def _sentence(owner: Schedule) -> str:
    page = reverse("admin:backups_schedule_change", args=[owner.pk])
    return format_html(
        _('This belongs to the schedule <a href="{}">{}</a> and is written by it; change it there.'), page, owner.name
    )


PAGES: dict[Any, Any] = {
    PeriodicTask: OwnedTaskAdmin, CrontabSchedule: OwnedCrontabAdmin, IntervalSchedule: IntervalAdmin,
    SolarSchedule: SolarAdmin, ClockedSchedule: ClockedAdmin,
}  # fmt: skip

for _model, _page in PAGES.items():
    admin.site.unregister(_model)
    admin.site.register(_model, _page)
