"""Buttons on the page of an object. Each posts, asks for its permission, and calls the same service as the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from aihub_backup.core.access import covers
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from backups.admin.base import ServiceAdmin

LONGEST_REASON = 500


@dataclass(frozen=True)
class Ask:
    """Who pressed the button, on what, and what the page sent along."""

    row: Any
    by: Actor
    given: dict[str, str]


def _always(_row: Any) -> bool:
    return True


@dataclass(frozen=True)
class Deed:
    """`act` returns the sentence of success, or where to go instead. With `effect` the page first tells what will
    happen, and asks for a reason; `offered` hides the button where it would only be refused."""

    name: str
    label: Any
    icon: str
    permission: str
    act: Callable[[Ask], str | HttpResponse]
    offered: Callable[[Any], bool] = _always
    effect: Callable[[Any], str] | None = None
    until: bool = False
    danger: bool = False


class DeedAdmin(ServiceAdmin):
    """Objects with buttons."""

    deeds: ClassVar[tuple[Deed, ...]] = ()
    change_form_outer_before_template = "aihub/deeds.html"

    def get_urls(self) -> list[URLPattern]:
        """One address for all buttons of an object."""
        view = self.admin_site.admin_view(self.deed_view)
        return [path("<path:object_id>/do/<slug:name>/", view, name=f"{self._url_name}_do"), *super().get_urls()]

    def deed_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Do it, or ask first. 404 for what the person may not see, 403 for what may not be done."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.seen(request, object_id)
        deed = self._deed(request, row, name)
        if deed.effect is not None and "confirmed" not in request.POST:
            return self._ask(request, row, deed)
        return self._do(request, row, deed)

    def seen(self, request: HttpRequest, object_id: str) -> Any:
        """The row, if this person may look at it."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        return row

    def offers(self, request: HttpRequest, row: Any) -> list[Deed]:
        """The buttons for this person on this row."""
        held = {name: covers(request.user, name, row) for name in {deed.permission for deed in self.deeds}}
        return [deed for deed in self.deeds if held[deed.permission] and deed.offered(row)]

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """The page, with its buttons."""
        more = dict(extra_context or {})
        if object_id is not None and (row := self.get_object(request, object_id)) is not None:
            more |= {"deeds": self.offers(request, row), "deed_url": f"admin:{self._url_name}_do", "row": row}
            more |= self.beside(request, row)
        return super().changeform_view(request, object_id, form_url, more)

    def beside(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page's own templates want to know."""
        return {}

    def page_of(self, row: Any) -> str:
        """The address of the row's page."""
        return reverse(f"admin:{self._url_name}_change", args=[row.pk])

    # --- pieces ---

    @property
    def _url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    def _deed(self, request: HttpRequest, row: Any, name: str) -> Deed:
        deed = next((one for one in self.deeds if one.name == name), None)
        if deed is None:
            raise Http404
        must_hold(request, deed.permission, row)
        return deed

    def _ask(self, request: HttpRequest, row: Any, deed: Deed) -> HttpResponse:
        assert deed.effect is not None
        told = {
            **self.admin_site.each_context(request), "title": deed.label, "row": row, "deed": deed,
            "effect": deed.effect(row), "opts": self.opts, "back": self.page_of(row), "longest": LONGEST_REASON,
        }  # fmt: skip
        return render(request, "aihub/confirm.html", told)

    def _do(self, request: HttpRequest, row: Any, deed: Deed) -> HttpResponse:
        try:
            done = deed.act(Ask(row, Actor.of(request.user), {key: str(value) for key, value in request.POST.items()}))
        except Failure as failure:
            messages.error(request, failure.message)
            return HttpResponseRedirect(self.page_of(row))
        if isinstance(done, HttpResponse):
            return done
        messages.success(request, done)
        return HttpResponseRedirect(self.page_of(row))


def must_hold(request: HttpRequest, permission: str, row: Any) -> None:
    """PermissionDenied unless the person holds the permission for this very row."""
    if not covers(request.user, permission, row):
        raise PermissionDenied(_("You need the permission “%(name)s” for this.") % {"name": permission})
