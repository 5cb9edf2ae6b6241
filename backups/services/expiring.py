"""Retention, applied: points that their policy keeps no longer are forgotten, through the ordinary deletion."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from dataclasses import fields
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.failures import Failure
from backups.models import Backup, BackupPart, Policy
from backups.models.backup import STORED
from backups.services import deletion, restorable
from backups.services.retention import Point, Rules, select_expired

log = logging.getLogger(__name__)


def apply_retention(now: datetime | None = None) -> list[Backup]:
    """Begin to forget every backup all of whose points have expired; those that were begun. Safe at any time.

    The deletion looks at its own rules again, under locks: what is held, used, immutable or the last stays.
    """
    begun = []
    for backup in expired(now or timezone.now()):
        try:
            deletion.begin(backup, by=SYSTEM, reason=_why(backup))
            begun.append(backup)
        except Failure as failure:  # tried again tomorrow
            log.info("the expired backup %s stays for now: %s", backup.pk, failure)
    return begun


def expired(now: datetime) -> list[Backup]:
    """The backups that retention would forget now, oldest first. A recovery set goes as a whole or not at all."""
    parts = list(_stored())
    damaged = set(restorable.damaged_parts())
    points = [_point(part, part.pk in damaged, now) for part in parts]
    gone = select_expired(points, _rules(), now)
    kept = {part.backup_id for part in parts if part.pk not in gone}
    found = {part.backup_id: part.backup for part in parts if part.backup_id not in kept}
    return [backup for backup in found.values() if not backup.active]


def rules(policy: Policy) -> Rules:
    """What the policy says about retention."""
    return Rules(**{field.name: getattr(policy, field.name) for field in fields(Rules)})


def _stored() -> QuerySet[BackupPart]:
    rows = BackupPart.objects.filter(state__in=STORED).select_related("backup__policy", "source__policy")
    return rows.order_by("backup__created_at", "pk")


def _point(part: BackupPart, damaged: bool, now: datetime) -> Point:
    held = part.backup.hold_until is not None and part.backup.hold_until > now
    policy = part.promise.pk if part.promise else None
    return Point(part.pk, part.source_id, policy, part.backup.created_at, held, not damaged)


def _rules() -> dict[Hashable, Rules]:
    return {policy.pk: rules(policy) for policy in Policy.objects.all()}


def _why(backup: Backup) -> str:
    names: Iterable[str] = {str(part.promise) for part in backup.parts.select_related("source__policy") if part.promise}
    return f"its retention is over ({', '.join(sorted(names))})"
