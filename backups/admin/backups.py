"""Backups with their parts, and integrity checks: what happened, as it is, and what may be done with it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, time
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Prefetch, Q, QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from aihub_backup.core import long_lists, retelling, searching, showing
from aihub_backup.core.access import covers
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid
from backups.admin import live
from backups.admin.base import BROWSE, ServiceAdmin
from backups.admin.deeds import Ask, Deed, DeedAdmin
from backups.admin.looking import LookingAdmin, progress_of
from backups.models import Backup, BackupPart, BackupState, Source, Trigger, Verification, VerificationState
from backups.models.backup import BACKUP_STORED, STORED
from backups.models.verification import VERIFICATION_ACTIVE
from backups.services import backups, holds, verifications
from backups.services.slots import NOTES

LEVEL = 2  # of a verification that is asked for by a button
VERIFY = "backups.verify_backup"
HOLD = "backups.hold_backup"


def _verify(ask: Ask) -> str:
    made = verifications.request(ask.row, level=LEVEL, by=ask.by, trigger=Trigger.CONSOLE)
    return ngettext("%(count)d verification was asked for.", "%(count)d verifications were asked for.", len(made)) % {
        "count": len(made)
    }


def _recover(ask: Ask) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('admin:recovery_recovery_new')}?backup={ask.row.pk}")


def _cancel(ask: Ask) -> str:
    backups.cancel(ask.row, by=ask.by, reason=ask.given.get("reason", ""))
    return _("The workers were asked to end. “Cancelling” stays until they confirm it.")


def _hold(ask: Ask) -> str:
    day = parse_date(ask.given.get("until", ""))
    if day is None:
        raise Invalid(_("Say until when it is held (until): a day such as 2030-12-31."))
    until = datetime.combine(day, time(23, 59), tzinfo=timezone.get_current_timezone())
    backups.hold(ask.row, until=until, by=ask.by, reason=ask.given.get("reason", ""))
    told = _("Nobody can delete it, and retention passes it by, until %(day)s.") % {"day": day.isoformat()}
    return " ".join([told, *(_not_there(name) for name in holds.cannot_be_told(ask.row))])


def _not_there(repository: str) -> str:
    told = _("“%(repository)s” cannot be told: another console has taken it over and may delete what lies there.")
    return told % {"repository": repository}


def _release(ask: Ask) -> str:
    backups.release(ask.row, by=ask.by, reason=ask.given.get("reason", ""))
    return _("The hold has ended; retention applies to it again.")


def _delete(ask: Ask) -> str:
    backups.delete(ask.row, by=ask.by, reason=ask.given.get("reason", ""))
    return _("Its recovery points are being forgotten.")


def _what_a_cancel_means(_row: Backup) -> str:
    return _("What was done so far is given up; the recovery points of earlier backups stay.")


def _what_a_hold_means(_row: Backup) -> str:
    return _("Until that day nobody can delete it and retention passes it by; its space stays in use.")


def _what_a_release_means(_row: Backup) -> str:
    return _("Retention may forget it from then on, perhaps today.")


def _what_a_deletion_means(row: Backup) -> str:
    stored = [part for part in row.parts.select_related("source") if part.stored]
    sizes = showing.size(sum(part.size_bytes or 0 for part in stored))
    names = ", ".join(part.source.name for part in stored) or showing.NOTHING
    told = _("%(count)d recovery points (%(names)s; %(size)s) can never be restored again.")
    return told % {"count": len(stored), "names": names, "size": sizes}


@admin.register(Backup)
class BackupAdmin(LookingAdmin):
    """Runs and the recovery points they left."""

    list_display = ("standing", "asked", "of", "kind", "size", "stored", "took", "verified", "trigger",
                    "asker", "held")  # fmt: skip
    list_display_links = ("asked",)
    list_filter = ("state", "type", "trigger", "environment", ("hold_until", admin.EmptyFieldListFilter))
    list_select_related = ("environment",)
    search_fields = ("label", "=id", "source", "requested_by_name")  # as `get_search_results` reads them
    date_hierarchy = "created_at"
    hidden = ("requested_by_kind", "requested_by_id", "left_out")  # the last stands above the parts, in words
    actions = ("verify_ticked",)
    empty_words = gettext_lazy("Nothing was backed up yet. Open a source and press “Back up now”, or make a schedule.")
    deeds: ClassVar[tuple[Deed, ...]] = (
        Deed("recover", gettext_lazy("Recover…"), "settings_backup_restore", "recovery.request_recovery", _recover,
             lambda row: row.state in BACKUP_STORED),
        Deed("verify", gettext_lazy("Verify"), "verified", VERIFY, _verify, lambda row: row.state in BACKUP_STORED),
        Deed("hold", gettext_lazy("Hold"), "lock", HOLD, _hold,
             lambda row: row.state in BACKUP_STORED and not row.held, _what_a_hold_means, until=True),
        Deed("release", gettext_lazy("Release the hold"), "lock_open", HOLD, _release, lambda row: row.held,
             _what_a_release_means),
        Deed("cancel", gettext_lazy("Cancel"), "cancel", "backups.cancel_backup", _cancel,
             lambda row: row.active and row.state != BackupState.CANCELLING, _what_a_cancel_means, danger=True),
        Deed("delete", gettext_lazy("Delete"), "delete", "backups.delete_backup", _delete,
             lambda row: row.state in BACKUP_STORED | {BackupState.FAILED, BackupState.CANCELLED} and not row.held,
             _what_a_deletion_means, danger=True),
    )  # fmt: skip

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Also by source: pages of sources lead here."""
        return lookup == "parts__source__id__exact" or bool(super().lookup_allowed(lookup, value, request))  # type: ignore[arg-type]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Every word somewhere: names of sources and of who asked are looked through first, they are few."""
        for word in searching.words(search_term):
            queryset = queryset.filter(_says(word))
        return queryset, False

    def has_verify_permission(self, request: HttpRequest) -> bool:
        """Anywhere: the action looks at each row."""
        return request.user.has_perm(VERIFY)

    @admin.action(description=gettext_lazy("Verify"), permissions=["verify"])
    def verify_ticked(self, request: HttpRequest, queryset: QuerySet[Backup]) -> None:
        """Each that is ticked."""
        for backup in self.ticked(request, queryset, VERIFY):
            try:
                verifications.request(backup, level=LEVEL, by=Actor.of(request.user), trigger=Trigger.CONSOLE)
                messages.success(request, _("“%(name)s” is being verified.") % {"name": backup})
            except Failure as failure:
                messages.error(request, f"“{backup}”: {failure.message}")

    # --- showing ---

    def prepared(self, request: HttpRequest, rows: list[Backup]) -> list[Backup]:
        """With what the columns show of parts, sources and checks; with jobs where there is progress to be told."""
        parts = BackupPart.objects.only("backup", "source", "job", "state", "items", "size_bytes", "stored_bytes")
        checks = Verification.objects.only("part", "state", "level", "created_at", "finished_at")
        prefetch_related_objects(
            rows, Prefetch("parts", parts), Prefetch("parts__source", Source.objects.only("name")),
            Prefetch("parts__verifications", checks),
        )  # fmt: skip
        prefetch_related_objects([part for row in rows if row.active for part in row.parts.all()], "job")
        return rows

    def beside(self, request: HttpRequest, row: Backup) -> dict[str, Any]:
        """Progress, parts, and the way to the other pages."""
        parts = list(row.parts.select_related("source", "repository", "job"))
        stored = [part for part in parts if part.state in STORED]
        missed = _missed(row) if row.state == BackupState.MISSED else {}
        left_out = [(name, retelling.retold(why, *NOTES)) for name, why in sorted(row.left_out.items())]
        return {
            "above": ["aihub/views.html", *(["aihub/missed.html"] if missed else []), "aihub/progress.html",
                      "aihub/backup_parts.html"],
            "live": progress_of(row), **missed, "left_out": left_out,
            "progress_url": reverse("admin:backups_backup_progress", args=[row.pk]), "parts": parts, "stored": stored,
            "views": self.views(request, row), "here": "overview", "sees_names": covers(request.user, BROWSE, row),
        }  # fmt: skip

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def standing(self, backup: Backup) -> SafeString:
        """The state, or how far it is."""
        if not backup.active:
            return showing.state(backup)
        return showing.bar(backups.progress(backup), backup.get_state_display())

    @admin.display(description=gettext_lazy("asked for"), ordering="created_at")
    def asked(self, backup: Backup) -> SafeString | str:
        """When."""
        return showing.moment(backup.created_at)

    @admin.display(description=gettext_lazy("source"))
    def of(self, backup: Backup) -> SafeString | str:
        """Its sources, then the label."""
        names = ", ".join(sorted(part.source.name for part in backup.parts.all())) or showing.NOTHING
        return format_html('{}<span class="aside">{}</span>', names, backup.label) if backup.label else names

    @admin.display(description=gettext_lazy("type"), ordering="type")
    def kind(self, backup: Backup) -> str:
        """In one word."""
        return backup.type_word

    @admin.display(description=gettext_lazy("size"))
    def size(self, backup: Backup) -> str:
        """Of all parts."""
        return showing.size(_total(backup, "size_bytes"))

    @admin.display(description=gettext_lazy("added"))
    def stored(self, backup: Backup) -> str:
        """To repositories."""
        return showing.size(_total(backup, "stored_bytes"))

    @admin.display(description=gettext_lazy("took"))
    def took(self, backup: Backup) -> str:
        """From the start to the end, or to now."""
        return showing.span(backup.started_at, backup.finished_at) if backup.started_at else showing.NOTHING

    @admin.display(description=gettext_lazy("verified"))
    def verified(self, backup: Backup) -> SafeString | str:
        """The worst of its parts: damage anywhere is damage."""
        return _least([part for part in backup.parts.all() if part.stored])

    @admin.display(description=gettext_lazy("hold"), ordering="hold_until")
    def held(self, backup: Backup) -> SafeString | str:
        """Until when."""
        return showing.moment(backup.hold_until) if backup.held else showing.NOTHING


def _missed(backup: Backup) -> dict[str, Any]:
    """Which slot it was, and why nothing came of it."""
    slot = backup.slots.select_related("schedule").first()
    why = retelling.retold(slot.note, *NOTES) if slot and slot.note else _("Nothing was written down about why.")
    return {"slot": slot, "why": why}


def _says(word: str) -> Q:
    named = BackupPart.objects.filter(source__in=Source.objects.filter(name__icontains=word).values("pk"))
    askers = [name for name in long_lists.values(Backup, "requested_by_name") if word.casefold() in name.casefold()]
    found = Q(pk__in=named.order_by().values("backup")) | Q(requested_by_name__in=askers)
    found |= searching.contains(Backup, "label", word)
    with suppress(ValueError):
        found |= Q(pk=UUID(word))
    return found


def _total(backup: Backup, name: str) -> int | None:
    known = [value for part in backup.parts.all() if (value := getattr(part, name)) is not None]
    return sum(known) if known else None


def _least(parts: list[BackupPart]) -> SafeString | str:
    if any(check.state in VERIFICATION_ACTIVE for part in parts for check in part.verifications.all()):
        return showing.badge("running", _("running"))
    found = [verifications.latest(part) for part in parts]
    if any(check is not None and check.state == VerificationState.FAILED for check in found):
        return showing.badge("failed", _("damaged"))
    levels = [check.level for check in found if check is not None]
    if not parts or len(levels) < len(parts):
        return showing.NOTHING
    return showing.badge("passed", _("level %(level)d") % {"level": min(levels)})


@admin.register(BackupPart)
class BackupPartAdmin(ServiceAdmin):
    """One source inside a backup."""

    telling = ("item_errors", "facts")  # strategies tell the names of tables
    list_display = ("standing", "source", "mode", "repository", "items", "size", "added", "warnings_count",
                    "errors_count", "data_as_of", "error_code")  # fmt: skip
    list_filter = ("state", "mode", "repository")
    list_select_related = ("source", "repository")
    search_fields = ("=id", "=backup__id", "source__name", "error_message")
    date_hierarchy = "created_at"

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def standing(self, part: BackupPart) -> SafeString:
        """Its state."""
        return showing.state(part)

    @admin.display(description=gettext_lazy("size"), ordering="size_bytes")
    def size(self, part: BackupPart) -> str:
        """What it would be restored to."""
        return showing.size(part.size_bytes)

    @admin.display(description=gettext_lazy("added"), ordering="stored_bytes")
    def added(self, part: BackupPart) -> str:
        """To the repository."""
        return showing.size(part.stored_bytes)


# --- integrity checks -----------------------------------------------------------------------------------------------


def _cancel_check(ask: Ask) -> str:
    verifications.cancel(ask.row, by=ask.by)
    return _("The worker was asked to end the check.")


def _again(ask: Ask) -> str:
    part = ask.row.part
    verifications.request(part.backup, level=ask.row.level, by=ask.by, trigger=Trigger.CONSOLE, parts=[part])
    return _("It is checked again.")


@admin.register(Verification)
class VerificationAdmin(DeedAdmin):
    """Integrity checks."""

    list_display = ("standing", "asked", "of", "level", "storage", "objects_checked", "checked", "problems_count",
                    "took", "asker")  # fmt: skip
    list_display_links = ("asked",)
    list_filter = ("state", "level", "storage")
    list_select_related = ("part__source", "part__backup", "storage", "job")
    search_fields = ("=id", "=part__id", "source__name")
    date_hierarchy = "created_at"
    hidden = ("requested_by_kind", "requested_by_id", "source")
    empty_words = gettext_lazy(
        "Nothing was verified yet. Open a backup and press “Verify”, or let a policy ask for it."
    )
    telling = ("problems",)
    deeds: ClassVar[tuple[Deed, ...]] = (
        Deed("again", gettext_lazy("Check again"), "replay", VERIFY, _again,
             lambda row: row.state not in VERIFICATION_ACTIVE),
        Deed("cancel", gettext_lazy("Cancel"), "cancel", VERIFY, _cancel_check,
             lambda row: row.state in VERIFICATION_ACTIVE),
    )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        """How it goes has an address of its own."""
        view = self.admin_site.admin_view(self.progress_page)
        return [path("<uuid:object_id>/progress/", view, name="backups_verification_progress"), *super().get_urls()]

    def progress_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The fragment that is asked for again and again."""
        return live.fragment(request, _live(self.seen(request, object_id)))

    def beside(self, request: HttpRequest, row: Verification) -> dict[str, Any]:
        """How far it is."""
        address = reverse("admin:backups_verification_progress", args=[row.pk])
        return {"above": ["aihub/progress.html"], "live": _live(row), "progress_url": address}

    @admin.display(description=gettext_lazy("result"), ordering="state")
    def standing(self, check: Verification) -> SafeString:
        """The result, or how far it is."""
        if check.state not in VERIFICATION_ACTIVE:
            return showing.state(check)
        return showing.bar(check.job.progress if check.job else {}, check.get_state_display())

    @admin.display(description=gettext_lazy("asked for"), ordering="created_at")
    def asked(self, check: Verification) -> SafeString | str:
        """When."""
        return showing.moment(check.created_at)

    @admin.display(description=gettext_lazy("source"))
    def of(self, check: Verification) -> SafeString:
        """Of the point, with the way to its backup."""
        page = reverse("admin:backups_backup_change", args=[check.part.backup_id])
        return format_html('<a href="{}">{}</a>', page, check.part.source)

    @admin.display(description=gettext_lazy("read"), ordering="bytes_checked")
    def checked(self, check: Verification) -> str:
        """How much was looked at."""
        return showing.size(check.bytes_checked)

    @admin.display(description=gettext_lazy("took"))
    def took(self, check: Verification) -> str:
        """How long."""
        return showing.span(check.started_at, check.finished_at)


def _live(row: Verification) -> dict[str, Any]:
    progress = row.job.progress if row.job else {}
    return live.told(row, progress, row.job.heartbeat_at if row.job else None)
