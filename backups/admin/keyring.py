"""The page about who holds a way into a repository, and about its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from aihub_backup.core.access import everywhere
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from backups.admin.adopting import AdoptingAdmin
from backups.admin.deeds import LONGEST_REASON, Ask
from backups.models import Repository
from backups.services import adopting, keyring
from backups.services.recovery_kits import RecoveryKit

CHANGE = "backups.change_repository"
KINDS = {
    "passphrase": gettext_lazy("Passphrase"), "keyfile": gettext_lazy("Keyfile"),
    "recovery": gettext_lazy("Recovery code"),
}  # fmt: skip


def keys_of(ask: Ask) -> HttpResponse:
    """The deed that leads to the page."""
    return HttpResponseRedirect(reverse("admin:backups_repository_keys", args=[ask.row.pk]))


class KeysAdmin(AdoptingAdmin):
    """Repositories with their keys."""

    def get_urls(self) -> list[URLPattern]:
        """The keys have a page of their own."""
        view = self.admin_site.admin_view(self.keys_page)
        return [path("<uuid:object_id>/keys/", view, name="backups_repository_keys"), *super().get_urls()]

    @method_decorator(sensitive_post_parameters())
    def keys_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Who has a way in, and what may be done about it. Changes need the permission without bounds: whoever is let
        in gets at all that lies in there."""
        row = self.seen(request, object_id)
        if request.method != "POST":
            return self._keys(request, row)
        deed = _DEEDS.get(request.POST.get("do", ""))
        if deed is None or not everywhere(request.user, CHANGE):
            raise PermissionDenied(_("You need the permission “%(name)s” without bounds for this.") % {"name": CHANGE})
        return self._done(request, row, deed)

    def _done(self, request: HttpRequest, row: Repository, deed: _Deed) -> HttpResponse:
        given = {name: str(value) for name, value in request.POST.items()}
        try:
            done = deed(row, given, Actor.of(request.user))
        except Failure as failure:
            messages.error(request, failure.message)
            return HttpResponseRedirect(request.path)
        if isinstance(done, RecoveryKit):
            told = {"title": _("New recovery code"), "row": row, "kit": done.text, "back": request.path}
            return self.rendered(request, "aihub/newcode.html", **told)
        messages.success(request, done)
        return HttpResponseRedirect(request.path)

    def _keys(self, request: HttpRequest, row: Repository) -> HttpResponse:
        told: dict[str, Any] = {"title": _("Keys of “%(name)s”") % {"name": row}, "row": row, "back": self.page_of(row)}
        try:
            ways = keyring.look(row)
            told |= {"ways": ways, "slots": [(slot, KINDS.get(slot.kind, slot.kind)) for slot in ways.slots]}
        except Failure as failure:
            told |= {"failure": failure.message}
        may = everywhere(request.user, CHANGE)
        return self.rendered(request, "aihub/keys.html", **told, may_change=may, longest=LONGEST_REASON)


# --- what the buttons do --------------------------------------------------------------------------------------------

_Given = Mapping[str, str]
_Deed = Callable[[Repository, _Given, Actor], str | RecoveryKit]


def _draw(row: Repository, _given: _Given, by: Actor) -> RecoveryKit:
    return keyring.draw(row, by=by)


def _add_paper(row: Repository, given: _Given, by: Actor) -> str:
    secret = adopting.must_be_one(adopting.key(recovery_code=given.get("code", "").strip()))
    keyring.add(row, secret, given.get("label", ""), by=by)
    return _("The printed code opens “%(name)s”. Keep the paper away from this machine.") % {"name": row}


def _add(row: Repository, given: _Given, by: Actor) -> str:
    secret = adopting.must_be_one(adopting.key(passphrase=given.get("passphrase", "")))
    keyring.add(row, secret, given.get("label", ""), by=by)
    return _("“%(label)s” opens “%(name)s” too.") % {"label": given.get("label", ""), "name": row}


def _change(row: Repository, given: _Given, by: Actor) -> str:
    old, new = (adopting.must_be_one(adopting.key(passphrase=given.get(name, ""))) for name in ("old", "new"))
    keyring.change(row, old, new, by=by)
    return _("The new passphrase opens “%(name)s”, the old one no more.") % {"name": row}


def _remove(row: Repository, given: _Given, by: Actor) -> str:
    keyring.remove(row, given.get("slot", ""), reason=given.get("reason", "")[:LONGEST_REASON], by=by)
    return _("“%(label)s” opens “%(name)s” no more.") % {"label": given.get("label", ""), "name": row}


def _rotate(row: Repository, given: _Given, by: Actor) -> str:
    other = adopting.key(recovery_code=given.get("code", "").strip())
    ways = keyring.rotate(row, [other] if other else [], reason=given.get("reason", "")[:LONGEST_REASON], by=by)
    return _("What is written from now on is under the keys of epoch %(epoch)s.") % {"epoch": ways.epoch}


def _renew(row: Repository, given: _Given, by: Actor) -> str:
    keyring.renew_own(row, adopting.key(recovery_code=given.get("code", "").strip()), by=by)
    return _("This console opens “%(name)s” with a new keyfile.") % {"name": row}


_DEEDS: Mapping[str, _Deed] = {
    "draw": _draw, "paper": _add_paper, "add": _add, "change": _change, "remove": _remove, "rotate": _rotate,
    "renew": _renew,
}  # fmt: skip
