"""/{backup}/contents, /{backup}/diff, /{backup}/log: looking into a recovery point and its story."""

from __future__ import annotations

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core import paging
from aihub_backup.core.access import scope
from aihub_backup.core.api import names
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.api.schema import operation, page_of
from aihub_backup.core.failures import Refused
from aihub_backup.core.paging import Page
from aihub_backup.core.problems import FieldError, InvalidRequest
from backups.api import bodies, shapes, told
from backups.api.nouns import BACKUP, REPOSITORY
from backups.engine.disk import from_printable, printable
from backups.models import Backup, BackupPart
from backups.models.backup import STORED
from backups.services import backups, contents


class Contents(Endpoint):
    """What is in a recovery point."""

    @operation(
        "backup_contents", needs="backups.browse_backup", query=bodies.ContentsQuery,
        answers={200: page_of(shapes.EntryShape)}, problems=(404, 409, 422), summary="Browse a backup",
    )  # fmt: skip
    def get(self, _request: Request, backup_id: UUID) -> Response:
        """What lies below `path`, in tree order. Every snapshot is complete by itself, whatever its mode."""
        part = _part(_backup(self, backup_id), self.asked.get("part"))
        size = self.asked["page_size"]
        rows = contents.listing(
            part, below=_path(self.asked["path"]), depth=0 if "q" in self.asked else self.asked["depth"],
            after=self._after(), limit=size + 1, match=contents.pattern(self.asked.get("q", "")),
        )  # fmt: skip
        on = (
            self.address.with_("cursor", paging.encoded(printable(rows[size - 1]["path"])))
            if len(rows) > size
            else None
        )
        return self.page(Page(rows[:size], on, None), told.entry)

    def _after(self) -> bytes:
        cursor = self.asked["cursor"]
        place = paging.decoded(cursor) if cursor else ""
        if not isinstance(place, str):
            raise paging.refused_cursor()
        return from_printable(place)


class Diff(Endpoint):
    """What changed between two recovery points."""

    @operation(
        "backup_diff", needs="backups.browse_backup", query=bodies.DiffQuery, answers={200: shapes.DiffShape},
        problems=(404, 409, 422), summary="Compare two backups of a source",
    )  # fmt: skip
    def get(self, _request: Request, backup_id: UUID) -> Response:
        """From `against` to this one."""
        backup, against = _backup(self, backup_id), self.asked["against"]
        part = _part(backup, self.asked.get("part"))
        other = against.parts.filter(source=part.source_id).first()
        if other is None:
            sentence = f"The backup {against.pk} has no part of “{part.source}”, so there is nothing to compare with."
            raise InvalidRequest([FieldError("/against", "invalid", sentence, "query")])
        limit = self.asked["limit"]
        rows = contents.diff(part, other, limit=limit + 1)
        return Response({
            "backup": backup.pk, "against": against.pk, "source": told.source(part.source),
            "truncated": len(rows) > limit, "results": [told.change(row) for row in rows[:limit]],
        })  # fmt: skip


class Find(Endpoint):
    """Where something is."""

    @operation(
        "repository_find", needs="backups.browse_backup", query=bodies.FindQuery, answers={200: shapes.FindShape},
        problems=(404, 409, 422), summary="Find a path in all recovery points of a repository", tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """Each path with its versions by content and the backups that hold them; in what the caller may browse."""
        repository = names.find(REPOSITORY, reference, self.user)
        parts = BackupPart.objects.filter(repository=repository, state__in=STORED)
        if "source" in self.asked:
            parts = parts.filter(source=self.asked["source"])
        points = list(scope(parts, self.user, "backups.browse_backup").select_related(
            "source", "backup", "repository__storage__node"
        ))  # fmt: skip
        limit = self.asked["limit"]
        rows = contents.find(points, contents.wanted(self.asked["path"]), limit=limit + 1)
        return Response({
            "repository": repository.pk, "points": len(points), "truncated": len(rows) > limit,
            "results": [told.found(row) for row in rows[:limit]],
        })  # fmt: skip


class Log(Endpoint):
    """The story of a backup."""

    @operation(
        "backup_log", needs="backups.view_backup", query=bodies.LogQuery, answers={200: page_of(shapes.EventShape)},
        problems=(404,), summary="What happened to a backup",
    )  # fmt: skip
    def get(self, _request: Request, backup_id: UUID) -> Response:
        """Who did what with it and its parts, newest first."""
        rows = scope(Backup.objects.all(), self.user, "backups.view_backup")
        backup = names.find(BACKUP, str(backup_id), self.user, rows=rows)
        return self.scrolled(backups.events(backup), told.event, field="at")


def _backup(endpoint: Endpoint, backup_id: UUID) -> Backup:
    rows = scope(Backup.objects.all(), endpoint.user, "backups.browse_backup")
    found: Backup = names.find(BACKUP, str(backup_id), endpoint.user, rows=rows)
    return found


def _part(backup: Backup, name: str | None) -> BackupPart:
    """The part of that source; the only one when none is named."""
    rows = backup.parts.select_related("source__environment", "repository__storage__node")
    parts = {part.source.name: part for part in rows}
    if name is None and len(parts) == 1:
        return next(iter(parts.values()))
    if not parts:
        raise Refused("This backup has no parts, so there is nothing in it.", code="not-restorable")
    if name not in parts:
        sentence = f"Say which part is meant: {', '.join(sorted(parts))}."
        raise InvalidRequest([FieldError("/part", "invalid", sentence, "query")])
    return parts[name]


def _path(text: str) -> bytes:
    try:
        return from_printable(text).strip(b"/")
    except ValueError:
        sentence = "A backslash in a path is written \\x5c, and other bytes as \\xNN."
        raise InvalidRequest([FieldError("/path", "invalid", sentence, "query")]) from None
