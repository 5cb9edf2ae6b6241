"""Storages and repositories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import showing
from aihub_backup.core.access import covers, scope
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Refused
from backups.admin import compacting
from backups.admin.adding import KindAdmin, KindFilter, settings_of
from backups.admin.adopting import ADD, reads, stop
from backups.admin.deeds import Ask, Deed, must_hold
from backups.admin.keyring import CHANGE, KeysAdmin, keys_of
from backups.admin.repairing import to_page
from backups.admin.wishes import RepositoryForm, StorageForm
from backups.engine import keys
from backups.kinds import STORAGES
from backups.models import BackupPart, Repository, RepositoryState, Storage
from backups.services import repositories, storages, usage
from backups.services.recovery_kits import RecoveryKit
from backups.services.usage import Usage

FOUND_OUT = {  # what a test of a storage finds out (engine.store.Capabilities)
    "across_processes": gettext_lazy("Several processes may write at once"),
    "durable": gettext_lazy("What is written survives a power cut"),
    "overwrite_refused": gettext_lazy("Overwriting is refused"),
    "writable": gettext_lazy("Can be written to"),
    "parallel": gettext_lazy("Transfers at the same time, at most"),
    "free_bytes": gettext_lazy("Free space"),
    "free_objects": gettext_lazy("Free files (inodes)"),
}
CODE_BY_HAND = keys.blank_recovery_code()  # it is stored nowhere, so it cannot be printed again


class UsageColumns:
    """Columns about what lies in a place, as far as the person sees it; `usage` is laid beside each row."""

    @admin.display(description=gettext_lazy("points"))
    def points(self, row: Any) -> int:
        """How many could be restored from here."""
        return _usage(row).points

    @admin.display(description=gettext_lazy("protected data"))
    def size(self, row: Any) -> str:
        """What the points would be, each for itself."""
        return showing.size(_usage(row).size_bytes)

    @admin.display(description=gettext_lazy("stored"))
    def stored(self, row: Any) -> str:
        """What they have added."""
        return showing.size(_usage(row).stored_bytes)


def _usage(row: Any) -> Usage:
    found: Usage = vars(row)["usage"]
    return found


def seen_points(request: HttpRequest) -> QuerySet[BackupPart]:
    """The parts that count for this person."""
    return scope(BackupPart.objects.all(), request.user, "backups.view_backuppart")


# --- storages -------------------------------------------------------------------------------------------------------


def _test(ask: Ask) -> str:
    storages.test(ask.row, by=ask.by)
    if ask.row.test_error:
        raise Refused(ask.row.test_error, code="storage-unreachable")
    return _("“%(name)s” takes, gives back, lists and deletes what it is given.") % {"name": ask.row}


@admin.register(Storage)
class StorageAdmin(UsageColumns, KindAdmin):
    """Places that keep objects."""

    table = STORAGES
    heading = gettext_lazy("Add a storage")

    list_display = ("standing", "name", "kind_in_words", "environment", "site", "node", "stored", "points", "tested",
                    "enabled")  # fmt: skip
    list_display_links = ("name",)
    list_filter = (KindFilter, "enabled", "environment", "site", "node")
    list_select_related = ("environment", "site", "node", "repository")
    search_fields = ("name", "=id")
    autocomplete_fields = ("environment", "site")
    editable = ("name", "site", "environment", "enabled")
    hidden = ("capabilities",)  # told above, in words
    empty_words = gettext_lazy("Backups need a place: a directory, a bucket. Press “+” and choose its kind.")
    deeds: ClassVar[tuple[Deed, ...]] = (
        Deed("test", gettext_lazy("Test connection"), "network_check", "backups.change_storage", _test),
        Deed("options", gettext_lazy("Settings…"), "tune", "backups.change_storage", settings_of),
    )

    def test(self, row: Storage, by: Actor) -> Storage:
        """Through the service."""
        return storages.test(row, by=by)

    def change(self, row: Storage, by: Actor, changes: Mapping[str, Any]) -> None:
        """Through the service."""
        storages.update(row, by=by, **changes)

    def wish(self, request: HttpRequest, data: Any) -> StorageForm:
        """The form of the kind that the address names."""
        return StorageForm(request, request.GET.get("kind", ""), data)

    def make(self, form: StorageForm, by: Actor) -> Storage:
        """Made ready and tried out, then stored."""
        given = form.cleaned_data
        return storages.create(given["name"], form.kind, form.given(), by=by, test=given["test"], **form.words())

    def draft(self, form: StorageForm, by: Actor) -> Storage:
        """The same, not stored."""
        return storages.draft(form.cleaned_data["name"], form.kind, form.given(), by=by, **form.words())

    def try_out(self, row: Storage) -> None:
        """Make it ready, write, read, list and delete there."""
        storages.try_out(row)

    def prepared(self, request: HttpRequest, rows: list[Storage]) -> list[Storage]:
        """With what lies in them."""
        found = usage.of_repositories(seen_points(request).filter(repository__storage__in=rows))
        for row in rows:
            repository: Repository | None = getattr(row, "repository", None)
            vars(row).update(usage=found.get(repository.pk, Usage()) if repository else Usage())
        return rows

    def beside(self, request: HttpRequest, row: Storage) -> dict[str, Any]:
        """What the last test found out."""
        found = [(_spoken(name), _told(name, value)) for name, value in row.capabilities.items()]
        return {"above": ["aihub/storage.html"], "found": found, "place": storages.place(row)}

    @admin.display(description=gettext_lazy("state"))
    def standing(self, storage: Storage) -> SafeString:
        """As the last test found it."""
        if storage.test_error:
            return showing.badge("failed", _("did not answer"))
        return showing.badge("ok", _("up")) if storage.tested_at else showing.badge("idle", _("never tested"))

    @admin.display(description=gettext_lazy("last tested"), ordering="tested_at")
    def tested(self, storage: Storage) -> SafeString | str:
        """When."""
        return showing.moment(storage.tested_at)


# --- repositories ---------------------------------------------------------------------------------------------------


def _kit(ask: Ask) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:backups_repository_kit", args=[ask.row.pk]))


def _waive(ask: Ask) -> str:
    repositories.waive_kit(ask.row, reason=ask.given.get("reason", ""), by=ask.by)
    return _("Backups into “%(name)s” are accepted without a proven kit; your word is in the audit log.") % {
        "name": ask.row
    }


def _accept(ask: Ask) -> str:
    repositories.accept_history(ask.row, reason=ask.given.get("reason", ""), by=ask.by)
    return _("What the log of “%(name)s” says now is the truth from here on.") % {"name": ask.row}


def _what_a_waiver_means(row: Repository) -> str:
    told = _("Should this console be lost, nobody can be sure that anything in “%(name)s” can be read again.")
    return told % {"name": row}


def _what_acceptance_means(row: Repository) -> str:
    told = _("The history of “%(name)s” changed from outside. Accepting it forgets what was known before, everywhere.")
    return told % {"name": row}


@admin.register(Repository)
class RepositoryAdmin(UsageColumns, compacting.CompactingAdmin, KeysAdmin):
    """Keyrings with what was sealed under them; nothing here is edited by hand."""

    heading = gettext_lazy("Make a repository")
    # What the log and the fill are compared with: it tells people nothing.
    hidden = ("anchors", "era", "measured_bytes", "measured_added")

    list_display = ("standing", "name", "storage", "kit", "points", "size", "stored", "codec", "created_at")
    list_display_links = ("name",)
    list_filter = ("state", "codec")
    list_select_related = ("storage",)
    search_fields = ("name", "=engine_id", "=id")
    empty_words = gettext_lazy("Backups go into a repository. Press “+” and choose the storage it is made in.")
    deeds: ClassVar[tuple[Deed, ...]] = (
        Deed("kit", gettext_lazy("Recovery kit…"), "key", CHANGE, _kit),
        Deed("keys", gettext_lazy("Keys…"), "vpn_key", CHANGE, keys_of),
        Deed("waive", gettext_lazy("Waive the kit"), "warning", CHANGE, _waive, lambda row: not row.kit_settled,
             _what_a_waiver_means, danger=True),
        Deed("accept", gettext_lazy("Accept the changed history"), "gavel", CHANGE, _accept,
             lambda row: row.state == RepositoryState.TAMPERED, _what_acceptance_means, danger=True),
        Deed("repair", gettext_lazy("Repair…"), "healing", CHANGE, to_page),
        Deed("stop", gettext_lazy("Stop reading the log"), "cancel", ADD, stop, reads),
        Deed("compact", gettext_lazy("Give space back…"), "compress", CHANGE, compacting.compact,
             compacting.may_begin, compacting.foreseen),
        Deed("stop-compacting", gettext_lazy("Stop giving space back"), "cancel", CHANGE, compacting.stop,
             compacting.may_stop),
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The permission anywhere: storages in its reach are what the form offers."""
        return request.user.has_perm("backups.add_repository")

    def wish(self, request: HttpRequest, data: Any) -> RepositoryForm:
        """Its form."""
        return RepositoryForm(request, data)

    def make(self, form: RepositoryForm, by: Actor) -> RecoveryKit:
        """Made in the place; the kit holds the code this one time."""
        return repositories.create(**form.cleaned_data, by=by)

    def made(self, request: HttpRequest, found: RecoveryKit) -> HttpResponse:
        """The kit, shown this once: to be printed, then proven."""
        return self._kit(request, found, fresh=True)

    def prepared(self, request: HttpRequest, rows: list[Repository]) -> list[Repository]:
        """With what lies in them."""
        found = usage.of_repositories(seen_points(request).filter(repository__in=rows))
        for row in rows:
            vars(row).update(usage=found.get(row.pk, Usage()))
        return rows

    def get_urls(self) -> list[URLPattern]:
        """The kit has a page of its own."""
        view = self.admin_site.admin_view(self.kit_page)
        return [path("<uuid:object_id>/kit/", view, name="backups_repository_kit"), *super().get_urls()]

    def kit_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What to print, and the proof that the printed code opens the repository."""
        row = self.seen(request, object_id)
        if request.method == "POST":
            return self._prove(request, row)
        kit = RecoveryKit(row, row.engine_id or "", storages.place(row.storage), CODE_BY_HAND)
        return self._kit(request, kit, fresh=False)

    def _kit(self, request: HttpRequest, kit: RecoveryKit, *, fresh: bool) -> HttpResponse:
        row = kit.repository
        address = reverse("admin:backups_repository_kit", args=[row.pk])
        told = {
            "title": _("Recovery kit"), "row": row, "kit": kit.text, "fresh": fresh, "address": address,
            "may_prove": covers(request.user, CHANGE, row),
        }  # fmt: skip
        return self.rendered(request, "aihub/kit.html", **told, back=self.page_of(row))

    def _prove(self, request: HttpRequest, row: Repository) -> HttpResponse:
        must_hold(request, CHANGE, row)
        try:
            repositories.prove_kit(row, request.POST.get("code", "").strip(), by=Actor.of(request.user))
        except Failure as failure:
            messages.error(request, failure.message)
            return HttpResponseRedirect(request.path)
        messages.success(
            request, _("The printed code opens “%(name)s”. Keep the paper away from this machine.") % {"name": row}
        )
        return HttpResponseRedirect(self.page_of(row))

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def standing(self, repository: Repository) -> SafeString:
        """May it be written to?"""
        return showing.state(repository)

    @admin.display(description=gettext_lazy("recovery kit"))
    def kit(self, repository: Repository) -> SafeString:
        """Proven, waived, or neither."""
        if repository.kit_proven_at:
            return showing.badge("ok", _("proven"))
        if repository.kit_waived_at:
            return showing.badge("warning", _("waived"))
        return showing.badge("failed", _("not proven"))


def _told(name: str, value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and not name.endswith("bytes"):
        return intcomma(value)
    return showing.size(value) if name.endswith("bytes") else value


def _spoken(name: str) -> str:
    return str(FOUND_OUT.get(name, name.replace("_", " ")))
