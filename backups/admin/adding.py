"""Pages that add what has options: first the kind, then its form. Everything goes through the API's own services."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.plugins import PluginTable
from aihub_backup.core.scoped_admin import ScopedAdmin
from backups.admin.deeds import Ask, DeedAdmin
from backups.admin.forms import OptionsForm, refuse
from backups.services import trials

NOTHING: tuple[Any, ...] = (None, "", [], {})
TRY = "try"  # the button that tries out and stores nothing


class KindFilter(admin.SimpleListFilter):
    """By the kind, in words."""

    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those that occur in what the person sees."""
        seen = model_admin.get_queryset(request).order_by().values_list("kind", flat=True).distinct()
        return sorted(((kind, _(model_admin.table.label(kind))) for kind in seen), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of that kind."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


class AddingAdmin(DeedAdmin):
    """Rows that are added by a page of ours. No database transaction is open in it: places are reached meanwhile."""

    heading: ClassVar[Any] = ""

    def wish(self, request: HttpRequest, data: Any) -> Any:
        """The form; `data` is what was sent, None at first."""
        raise NotImplementedError

    def make(self, form: Any, by: Actor) -> Any:
        """Do it: the service's door."""
        raise NotImplementedError

    def made(self, request: HttpRequest, found: Any) -> HttpResponse:
        """Where to go from there; `found` is what `make` returned."""
        messages.success(request, _("“%(name)s” was added.") % {"name": found})
        return HttpResponseRedirect(self.page_of(found))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The ordinary permission."""
        return ScopedAdmin.has_add_permission(self, request)

    @method_decorator(sensitive_post_parameters())
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form, judged once it was sent."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.wish(request, request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            try:
                return self.made(request, self.make(form, Actor.of(request.user)))
            except Failure as failure:
                refuse(form, failure)
        return self.shown(request, form)

    def shown(self, request: HttpRequest, form: Any, **told: Any) -> HttpResponse:
        """The page with the form."""
        back = reverse(f"admin:{self._url_name}_changelist")
        return self.rendered(request, "aihub/add.html", form=form, heading=self.heading, back=back, **told)

    def rendered(self, request: HttpRequest, template: str, **told: Any) -> HttpResponse:
        """One of our pages in the admin's frame."""
        shared = {**self.admin_site.each_context(request), "title": self.heading, "opts": self.opts}
        return render(request, template, {**shared, **told})

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest, **more: Any) -> Any:
        """Without a plus beside the choices: our pages of several steps do not fit into its small window."""
        field = super().formfield_for_dbfield(db_field, request, **more)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget.can_add_related = False
        return field


class KindAdmin(AddingAdmin):
    """Rows of a plug-in kind: its options are asked for when one is added, and may be changed later."""

    table: ClassVar[PluginTable[Any]]

    def draft(self, form: Any, by: Actor) -> Any:
        """What would be stored. Raises the service's refusals."""
        raise NotImplementedError

    def try_out(self, row: Any) -> None:
        """Reach it; nothing is stored. Raises the service's refusals."""
        raise NotImplementedError

    def test(self, row: Any, by: Actor) -> Any:
        """Reach it and store how that went. Refused."""
        raise NotImplementedError

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The kinds to choose from; with one of them its form."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        kind = request.GET.get("kind", "")
        if kind not in self.table or not self._loads(request, kind):
            return self._kinds(request)
        if request.method == "POST" and TRY in request.POST:
            return self._try(request)
        return super().add_view(request, form_url, extra_context)

    def shown(self, request: HttpRequest, form: Any, **told: Any) -> HttpResponse:
        """The page with the form of the kind."""
        kind = request.GET.get("kind", "")
        kinds = reverse(f"admin:{self._url_name}_add")
        words = {"title": _(self.table.label(kind)), "about": _told(self.table.about(kind)), "kinds": kinds}
        return super().shown(request, form, **words, **told, trial=TRY)

    # --- trying out ---

    def _try(self, request: HttpRequest) -> HttpResponse:
        """Tell whether it can be reached: as a piece of the open page, so that what was typed stays in its fields."""
        form = self.wish(request, request.POST)
        if form.is_valid():
            try:
                self.try_out(self.draft(form, Actor.of(request.user)))
            except Failure as failure:
                refuse(form, failure)
        if "HX-Request" in request.headers:
            return render(request, "aihub/tried.html", {"form": form})
        return self.shown(request, form, tried=True)

    def _kinds(self, request: HttpRequest) -> HttpResponse:
        kinds = [(kind, _(label), _told(self.table.about(kind))) for kind, label in self.table.choices()]
        return self.rendered(request, "aihub/kinds.html", kinds=kinds, heading=self.heading)

    def _loads(self, request: HttpRequest, kind: str) -> bool:
        try:
            self.table.options_class(kind)
        except Failure as failure:
            messages.error(request, failure.message)
            return False
        return True

    # --- changing the options ---

    def worded(self, name: str) -> Any:
        """Kind and options in words, too."""
        words = {"kind": "kind_in_words", "options": "options_in_words"}
        return words.get(name) or super().worded(name)

    @admin.display(description=gettext_lazy("kind"), ordering="kind")
    def kind_in_words(self, row: Any) -> str:
        """Its label."""
        return _(self.table.label(row.kind))

    @admin.display(description=gettext_lazy("Settings"))
    def options_in_words(self, row: Any) -> SafeString:
        """Each with its label; as they are stored where the kind is gone."""
        try:
            labels = {name: _(facts["title"]) for name, facts in self.table.schema(row.kind)["properties"].items()}
        except Failure:
            labels = {}
        told = ((labels.get(name, name), _value(value)) for name, value in row.options.items() if value not in NOTHING)
        return format_html_join("", '<div>{}: <span class="mono">{}</span></div>', told)

    def get_urls(self) -> list[URLPattern]:
        """The options have a page of their own."""
        view = self.admin_site.admin_view(self.options_page)
        return [path("<uuid:object_id>/options/", view, name=f"{self._url_name}_options"), *super().get_urls()]

    @method_decorator(sensitive_post_parameters())
    def options_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The options as they are stored, without secrets; an empty secret leaves the stored one as it is."""
        row = self.seen(request, object_id)
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        if not self._loads(request, row.kind):
            return HttpResponseRedirect(self.page_of(row))
        form = OptionsForm(self.table, row.kind, request.POST if request.method == "POST" else None, row)
        if form.is_bound and form.is_valid() and self._changed(request, row, form):
            self._tell_trial(request, row)
            return HttpResponseRedirect(self.page_of(row))
        words = {"title": row, "about": _(self.table.label(row.kind)), "back": self.page_of(row)}
        return self.rendered(request, "aihub/add.html", form=form, heading=_("Settings"), changing=True, **words)

    def _changed(self, request: HttpRequest, row: Any, form: OptionsForm) -> bool:
        try:
            with transaction.atomic():
                locked = self.model._base_manager.select_for_update().get(pk=row.pk)
                self.change(locked, Actor.of(request.user), {"options": form.given()})
        except Failure as failure:
            refuse(form, failure)
            return False
        return True

    def _tell_trial(self, request: HttpRequest, row: Any) -> None:
        """What was changed is tried out at once, and the person is told how that went."""
        changed, by = self.model._base_manager.get(pk=row.pk), Actor.of(request.user)
        tested = trials.if_moved(changed, ["options"], self.test, by=by)
        told = _("The settings of “%(name)s” were changed; test them.")
        if tested.tested_at:
            told = _("The settings of “%(name)s” were changed, and their test passed.")
        if tested.test_error:
            told = _("The settings of “%(name)s” were changed, and their test failed: %(why)s")
        say = messages.warning if tested.test_error else messages.success
        say(request, told % {"name": row, "why": tested.test_error})


def settings_of(ask: Ask) -> HttpResponse:
    """The deed that leads to the page of the options."""
    name = ask.row._meta.model_name
    return HttpResponseRedirect(reverse(f"admin:backups_{name}_options", args=[ask.row.pk]))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _told(sentence: str) -> str:
    return _(sentence) if sentence else ""
