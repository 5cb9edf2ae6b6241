"""What every page of the admin stands on: nobody sees or touches more there than `access.scope` gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django.contrib import admin, messages
from django.contrib.admin.filters import FieldListFilter, RelatedFieldListFilter
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Model, QuerySet
from django.forms import ModelChoiceField, ModelForm
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aihub_backup.core import searching
from aihub_backup.core.access import covers, everywhere, reach_of, scope
from aihub_backup.core.pairs import Pairs
from aihub_backup.core.reach import Reach

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object  # mixed into admins of several makers


def permission_for(model: type[Model], verb: str) -> str:
    """“backups.view_source”, for example."""
    return f"{model._meta.app_label}.{get_permission_codename(verb, model._meta)}"


class ScopedAdmin(_ModelAdmin):
    """Mixed in before a ModelAdmin: rows out of reach are not there (404), choices offer what may be seen."""

    show_full_result_count = False  # counting all rows of a big table costs more than showing a page of them
    list_per_page = 50
    empty_words: ClassVar[Any] = ""  # what an empty list says, and what to do about it

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """What the person may see; whoever may change something may see it."""
        asked = (permission_for(self.model, verb) for verb in ("view", "change"))
        return scope(self.whole(super().get_queryset(request)), request.user, *asked)

    def whole(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """With what the columns show and no model field holds."""
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Every word in one of the `search_fields`; no row twice."""
        return queryset.filter(searching.matching(self.model, self.get_search_fields(request), search_term)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Called after what it lists, not “Select … to change”."""
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def has_add_permission(self, request: HttpRequest, *more: Any) -> bool:
        """Within bounds only where rows say where they belong."""
        allowed = bool(super().has_add_permission(request, *more))
        bounded = reach_of(self.model).environment != ""
        return allowed and (bounded or everywhere(request.user, permission_for(self.model, "add")))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """For this row."""
        return bool(super().has_view_permission(request, obj)) and self._covered(request, obj, "view", "change")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """For this row."""
        return bool(super().has_change_permission(request, obj)) and self._covered(request, obj, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """For this row."""
        return bool(super().has_delete_permission(request, obj)) and self._covered(request, obj, "delete")

    def save_related(self, request: HttpRequest, form: ModelForm[Any], formsets: Any, change: bool) -> None:
        """Nobody moves something, or adds it, to where they may not: the transaction of the form is undone."""
        super().save_related(request, form, formsets, change)
        self.must_reach(request, form.instance, "change" if change else "add")

    def must_reach(self, request: HttpRequest, obj: Any, verb: str) -> None:
        """PermissionDenied unless the row, as it is stored now, lies within the person's reach."""
        if reach_of(self.model) != Reach() and not covers(request.user, permission_for(self.model, verb), obj):
            raise PermissionDenied

    def ticked(self, request: HttpRequest, queryset: QuerySet[Any], permission: str) -> QuerySet[Any]:
        """Of the rows ticked in a list those for which the person holds the permission; that others stay is told."""
        within = scope(queryset, request.user, permission)
        beyond = queryset.count() - within.count()
        if beyond:
            told = ngettext(
                "%(count)d of the ticked rows is beyond what you may do this to; it was left as it is.",
                "%(count)d of the ticked rows are beyond what you may do this to; they were left as they are.",
                beyond,
            )
            messages.warning(request, told % {"count": beyond})
        return within

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest, **options: Any) -> Any:
        """Tags are lines of name=value wherever they are written."""
        if db_field.name == "tags":
            told = " ".join(filter(None, (_("One a line, such as team=search."), str(db_field.help_text))))
            return Pairs(required=False, label=capfirst(db_field.verbose_name), help_text=told)
        return super().formfield_for_dbfield(db_field, request, **options)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Only what the person may see is offered, and accepted."""
        return _narrowed(super().formfield_for_foreignkey(db_field, request, **options), request)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """The same for several."""
        return _narrowed(super().formfield_for_manytomany(db_field, request, **options), request)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> NoReturn:
        """404, as the API answers, instead of a redirect to the index."""
        raise Http404(f"There is no {opts.verbose_name} {object_id}, or you may not see it.")

    def _covered(self, request: HttpRequest, obj: Any, *verbs: str) -> bool:
        if obj is None or not obj.pk or obj._state.adding:
            return True
        return any(covers(request.user, permission_for(self.model, verb), obj) for verb in verbs)


class ScopedRelatedFilter(RelatedFieldListFilter):
    """The choices of a filter beside a list tell no names out of reach."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> Any:
        """Those that the person may see."""
        related: Any = field.related_model
        seen = scope(related._base_manager.all(), request.user, permission_for(related, "view"))
        known = set(seen.values_list("pk", flat=True))
        return [(key, label) for key, label in super().field_choices(field, request, model_admin) if key in known]


def _narrowed(field: Any, request: HttpRequest) -> Any:
    if isinstance(field, ModelChoiceField) and field.queryset is not None:
        rows = field.queryset
        field.queryset = scope(rows, request.user, permission_for(rows.model, "view"))
    return field


FieldListFilter.register(lambda field: bool(field.remote_field), ScopedRelatedFilter, take_priority=True)
