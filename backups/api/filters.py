"""From query parameters to rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet

from aihub_backup.core import tags
from backups.models import Backup, BackupPart, VerificationState
from backups.services import restorable

M = TypeVar("M", bound=models.Model)


def backups(rows: QuerySet[Backup], asked: Mapping[str, Any]) -> QuerySet[Backup]:
    """Those that fit every parameter."""
    plain = {
        "status": "state__in", "type": "type__in", "environment": "environment", "policy": "policy",
        "created_after": "created_at__gt", "created_before": "created_at__lt",
    }  # fmt: skip
    rows = rows.filter(**{lookup: asked[name] for name, lookup in plain.items() if name in asked})
    for name in ("source", "repository"):
        if name in asked:
            rows = rows.filter(Exists(_parts().filter(**{name: asked[name]})))
    if "tag" in asked:
        rows = tagged(rows, asked["tag"])
    if "q" in asked:
        named = Exists(_parts().filter(source__name__icontains=asked["q"]))
        rows = rows.filter(Q(label__icontains=asked["q"]) | Q(named))
    return _judged(rows, asked)


def tagged(rows: QuerySet[M], wanted: str) -> QuerySet[M]:
    """Rows whose `tags` hold name:value, or the name."""
    name, colon, value = wanted.partition(":")
    return rows.filter(tags.has("tags", name, value if colon else None))


def _judged(rows: QuerySet[Backup], asked: Mapping[str, Any]) -> QuerySet[Backup]:
    if "restorable" in asked:
        rows = _either(rows, asked["restorable"], Exists(_parts()), Exists(_parts().filter(restorable.unrestorable())))
    if "verified" in asked:
        passed = restorable.newest_checks(VerificationState.PASSED).filter(part=OuterRef("pk"))
        unproven = Exists(_parts().exclude(Exists(passed)))
        rows = _either(rows, asked["verified"], Exists(_parts()), unproven)
    return rows


def _either(rows: QuerySet[M], wanted: bool, some: Exists, bad: Exists) -> QuerySet[M]:
    """Rows with some part and no bad one, or the others."""
    return rows.filter(some & ~bad) if wanted else rows.filter(~some | bad)


def _parts() -> QuerySet[BackupPart]:
    return BackupPart.objects.filter(backup=OuterRef("pk"))
