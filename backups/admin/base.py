"""What all our pages have in common: every change goes through a service, so that it is checked and audited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin as UnfoldAdmin

from aihub_backup.core import retelling
from aihub_backup.core.access import covers
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.long_lists import LongList
from aihub_backup.core.scoped_admin import ScopedAdmin
from backups.admin.values import in_words

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = UnfoldAdmin  # takes no type parameters at run time


BROWSE = "backups.browse_backup"


class PreparedList(LongList):
    """A list whose rows are completed all at once, so that no column asks the database for each row."""

    def get_results(self, request: HttpRequest) -> None:
        """The rows of this page."""
        super().get_results(request)
        if not self.query and not self.has_active_filters:  # “show all” leads nowhere where all is shown
            self.full_result_count = self.result_count
        self.result_list = self.model_admin.prepared(request, list(self.result_list))  # type: ignore[attr-defined]


class ServiceAdmin(ScopedAdmin, _ModelAdmin):
    """Rows that are added and removed by services only. `editable` fields may be changed here, all others are shown.

    Secrets are not editable model fields, so no form ever holds them; `hidden` fields are not shown either.
    """

    editable: ClassVar[tuple[str, ...]] = ()
    hidden: ClassVar[tuple[str, ...]] = ()
    telling: ClassVar[tuple[str, ...]] = ()  # fields that tell names inside backups: for those who may browse them

    def prepared(self, request: HttpRequest, rows: list[Any]) -> list[Any]:
        """Lay beside the rows of a page what its columns show, in a number of queries that does not grow with them."""
        return rows

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Our own: the stock bulk delete knows no holds, no floors and no audit."""
        return {name: found for name, found in super().get_actions(request).items() if name != "delete_selected"}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Ours."""
        return PreparedList

    def change(self, row: Any, by: Actor, changes: Mapping[str, Any]) -> None:
        """Do it: the service's door."""
        raise NotImplementedError

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Every column but secrets and ids, in the model's order; of what is only shown, what says something."""
        unseen = self.hidden if self.sees_names(request, obj) else (*self.hidden, *self.telling)
        kept = self._open(request, obj)
        names = [field.name for field in self._shown() if field.name not in unseen]
        told = [name for name in names if obj is None or name in kept or _told(obj, name)]
        return [name if name in kept else self.worded(name) for name in told]

    def worded(self, name: str) -> Any:
        """What shows a column that is not edited: itself, or a function of the row that says it in words."""
        return in_words(self.model._meta.get_field(name))

    @admin.display(description=gettext_lazy("requested by"), ordering="requested_by_name")
    def asker(self, row: Any) -> str:
        """A person or a schedule by name, or the console itself."""
        return retelling.actor(row.requested_by_kind, row.requested_by_name)

    def _open(self, request: HttpRequest, obj: Any) -> tuple[str, ...]:
        """What this person may edit."""
        return self.editable if obj is None or self.has_change_permission(request, obj) else ()

    def sees_names(self, request: HttpRequest, obj: Any) -> bool:
        """May the person see the names of what is inside backups on this row's page?"""
        return obj is None or not self.telling or covers(request.user, BROWSE, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Everything that is not explicitly editable."""
        return [name for name in self.get_fields(request, obj) if name not in self.editable]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody, unless the page knows how."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where anything is editable at all."""
        return bool(self.editable) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: deleting is a service with rules."""
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        """Let the service do it, on a fresh row: the form has already laid its values over this one."""
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        self.change(self.model._base_manager.get(pk=obj.pk), Actor.of(request.user), changes)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """The page; what a service refuses is told above the form instead of breaking it."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Failure as failure:
            messages.error(request, failure.message)
            return HttpResponseRedirect(request.get_full_path())

    def _shown(self) -> Iterable[models.Field[Any, Any]]:
        for field in self.model._meta.concrete_fields:
            if not field.primary_key and field.name != "secrets":
                yield field


def _told(row: Any, name: str) -> bool:
    """Does it say something? A plain “no” does not, and its red cross would look like a fault; that something is
    switched off does."""
    value = getattr(row, name)
    return (value is not False or name == "enabled") and value not in (None, "", [], {})


class AddableAdmin(ServiceAdmin):
    """Rows without options or secrets: a form is enough to add one."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The ordinary permission."""
        return ScopedAdmin.has_add_permission(self, request)

    def add(self, by: Actor, values: Mapping[str, Any]) -> Any:
        """Do it: the service's door. Returns the new row."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        """Adding and changing go through the services alike."""
        if change:
            super().save_model(request, obj, form, change)
        else:
            obj.pk = self.add(Actor.of(request.user), form.cleaned_data).pk
