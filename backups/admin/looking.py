"""Pages about one backup: its progress, what is in it, what changed, what happened to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from aihub_backup.core.access import covers
from aihub_backup.core.failures import Failure, Invalid, Refused
from backups.admin import live
from backups.admin.base import BROWSE
from backups.admin.deeds import DeedAdmin, must_hold
from backups.api import told
from backups.engine.disk import from_printable, printable
from backups.models import Backup, BackupPart
from backups.models.backup import STORED
from backups.services import backups, contents

PAGE = 200  # entries of a directory on one page
CHANGES = 500  # differences shown
EVENTS = 50
RECOVER = "recovery.request_recovery"

View = Callable[[Any, HttpRequest, Backup], HttpResponse]


def _browsing(view: View) -> View:
    """Only for those who may see names inside a backup; what cannot be opened is told on the page."""

    @wraps(view)
    def guarded(self: LookingAdmin, request: HttpRequest, backup: Backup) -> HttpResponse:
        must_hold(request, BROWSE, backup)
        try:
            return view(self, request, backup)
        except Failure as failure:
            return self.page(request, backup, "refused", {"sentence": failure.message})

    return guarded


class LookingAdmin(DeedAdmin):
    """The addresses below a backup's page."""

    def get_urls(self) -> list[URLPattern]:
        """One for each page."""
        pages: dict[str, View] = {
            "progress": type(self).progress_page, "contents": type(self).contents_page,
            "diff": type(self).diff_page, "log": type(self).log_page, "versions": type(self).versions_page,
        }  # fmt: skip
        return [*(self._url(name, view) for name, view in pages.items()), *super().get_urls()]

    def _url(self, name: str, view: View) -> URLPattern:
        def seen(request: HttpRequest, object_id: str) -> HttpResponse:
            return view(self, request, self.seen(request, object_id))

        return path(f"<uuid:object_id>/{name}/", self.admin_site.admin_view(seen), name=f"backups_backup_{name}")

    def page(self, request: HttpRequest, backup: Backup, name: str, facts: dict[str, Any]) -> HttpResponse:
        """A page about the backup, with the way to the others."""
        shared = {
            **self.admin_site.each_context(request), "title": str(backup), "opts": self.opts, "backup": backup,
            "original": backup, "views": self.views(request, backup), "here": name,
            "may_recover": covers(request.user, RECOVER, backup),
        }  # fmt: skip
        return render(request, f"aihub/backup_{name}.html", {**shared, **facts})

    def views(self, request: HttpRequest, backup: Backup) -> list[tuple[str, str, str]]:
        """(name, words, address) of the pages this person may open."""
        inside = covers(request.user, BROWSE, backup)
        known = [*([("contents", _("Contents")), ("diff", _("Compare"))] if inside else []), ("log", _("Log"))]
        other = [(name, words, reverse(f"admin:backups_backup_{name}", args=[backup.pk])) for name, words in known]
        return [("overview", _("Overview"), self.page_of(backup)), *other]

    # --- progress and log ---

    def progress_page(self, request: HttpRequest, backup: Backup) -> HttpResponse:
        """The fragment that is asked for again and again."""
        return live.fragment(request, progress_of(backup))

    def log_page(self, request: HttpRequest, backup: Backup) -> HttpResponse:
        """Who did what with it and its parts, newest first."""
        pages = Paginator(backups.events(backup), EVENTS)
        return self.page(request, backup, "log", {"events": pages.get_page(request.GET.get("page"))})

    # --- inside ---

    @_browsing
    def contents_page(self, request: HttpRequest, backup: Backup) -> HttpResponse:
        """A directory, or what was searched for, page by page however many entries there are."""
        part, below, word = self._part(request, backup), _bytes(request.GET.get("path", "")), request.GET.get("q", "")
        rows = contents.listing(
            part, below=below, depth=0 if word else 1, after=_bytes(request.GET.get("after", "")), limit=PAGE + 1,
            match=contents.pattern(word),
        )  # fmt: skip
        return self.page(request, backup, "contents", {
            "part": part, "parts": _stored(backup), "below": printable(below), "word": word, "crumbs": _crumbs(below),
            "entries": [_entry(row, below) for row in rows[:PAGE]],
            "next": _next(request, printable(rows[PAGE - 1]["path"])) if len(rows) > PAGE else "",
            "points": _points(part),
        })  # fmt: skip

    @_browsing
    def diff_page(self, request: HttpRequest, backup: Backup) -> HttpResponse:
        """What changed since another point of the same source."""
        part = self._part(request, backup)
        points = [one for one in _points(part) if one.pk != part.pk]
        older = [one for one in points if one.created_at < part.created_at]
        against = _chosen(points, request.GET.get("against"), older[0] if older else None)
        rows = contents.diff(part, against, limit=CHANGES + 1) if against else []
        return self.page(request, backup, "diff", {
            "part": part, "parts": _stored(backup), "points": points, "against": against,
            "changes": [told.change(row) for row in rows[:CHANGES]], "more": len(rows) > CHANGES, "shown": CHANGES,
        })  # fmt: skip

    @_browsing
    def versions_page(self, request: HttpRequest, backup: Backup) -> HttpResponse:
        """One path in all points of its source: its versions, by content."""
        part, wanted = self._part(request, backup), _bytes(request.GET.get("path", ""))
        points = _points(part)
        found = contents.find(points, wanted, limit=1)
        versions = [(told.entry(one), one["parts"]) for row in found for one in row["versions"]]
        versions.sort(key=lambda version: version[1][0].created_at, reverse=True)
        without = len(points) - sum(len(parts) for _entry, parts in versions)
        return self.page(request, backup, "versions", {
            "part": part, "path": "/" + printable(wanted), "versions": versions, "points": len(points),
            "without": without,
        })  # fmt: skip

    def _part(self, request: HttpRequest, backup: Backup) -> BackupPart:
        parts = _stored(backup)
        if not parts:
            raise Refused(_("This backup holds no recovery point, so there is nothing to look into."))
        chosen = _chosen(parts, request.GET.get("part"), parts[0])
        assert chosen is not None
        return chosen


def progress_of(backup: Backup) -> dict[str, Any]:
    """What the fragment shows."""
    whole = backups.get(backup.pk)
    progress = backups.progress(whole)
    return live.told(whole, progress, progress["heartbeat_at"])


def _stored(backup: Backup) -> list[BackupPart]:
    rows = backup.parts.filter(state__in=STORED).select_related("source__environment", "repository__storage__node")
    return list(rows.order_by("source__name"))


def _points(part: BackupPart) -> list[BackupPart]:
    """The recovery points of the same source in the same repository, newest first."""
    rows = BackupPart.objects.filter(source=part.source_id, repository=part.repository_id, state__in=STORED)
    return list(rows.select_related("backup", "source", "repository__storage__node").order_by("-created_at")[:100])


def _chosen(parts: Sequence[BackupPart], key: str | None, otherwise: BackupPart | None) -> BackupPart | None:
    return next((part for part in parts if str(part.pk) == key), otherwise)


def _bytes(text: str) -> bytes:
    try:
        return from_printable(text).strip(b"/")
    except ValueError:
        raise Invalid(_("A backslash in a path is written \\x5c, and other bytes as \\xNN.")) from None


def _entry(row: dict[str, Any], below: bytes) -> dict[str, Any]:
    whole = row["path"]
    name = whole[len(below) :].lstrip(b"/") if below else whole
    return {**told.entry(row), "name": printable(name), "raw": printable(whole)}


def _crumbs(below: bytes) -> list[tuple[str, str]]:
    """(name, path) of every directory on the way."""
    names = below.split(b"/") if below else []
    return [(printable(name), printable(b"/".join(names[: at + 1]))) for at, name in enumerate(names)]


def _next(request: HttpRequest, after: str) -> str:
    kept = {name: value for name, value in request.GET.items() if name != "after"}
    return "?" + urlencode({**kept, "after": after})
