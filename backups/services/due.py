"""What policies promise to happen by itself: points are proved again every so many hours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone

from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.failures import Failure
from backups.models import BackupPart, Source, Trigger, Verification, VerificationState, VerifyLevel
from backups.models.backup import STORED
from backups.models.verification import CONCLUSIVE, VERIFICATION_ACTIVE
from backups.services import verifications

log = logging.getLogger(__name__)

PATIENCE = timedelta(hours=1)  # before a check that found nothing out is asked for again

_COUNTS = VERIFICATION_ACTIVE | set(CONCLUSIVE)


def verify_due() -> list[Verification]:
    """Ask for a check of the newest point of every source whose policy's interval is over. Safe to call at any time."""
    asked: list[Verification] = []
    for part in _overdue():
        try:
            level = _level(part.source)
            asked += verifications.request(part.backup, level=level, by=SYSTEM, trigger=Trigger.SYSTEM, parts=[part])
        except Failure as failure:  # one source must not keep the others from being proved
            log.warning("the newest point of %s cannot be verified: %s", part.source, failure)
    return asked


def _overdue() -> Iterator[BackupPart]:
    promised = Source.objects.filter(archived_at=None, policy__verify_interval_hours__gt=0).select_related("policy")
    for source in promised:
        points = BackupPart.objects.filter(source=source, state__in=STORED).order_by("-data_as_of")
        newest = points.select_related("backup", "repository__storage__node", "source__policy").first()
        if newest is not None and not _proved_lately(source):
            yield newest


def _proved_lately(source: Source) -> bool:
    """Was any point of the source checked, as deep as promised, within the interval?"""
    hours = source.policy.verify_interval_hours or 0 if source.policy else 0
    since = timezone.now() - timedelta(hours=hours)
    checks = Verification.objects.filter(part__source=source, level__gte=_level(source))
    told = checks.filter(state__in=_COUNTS, created_at__gte=since)
    tried = checks.filter(state=VerificationState.ERROR, created_at__gte=timezone.now() - PATIENCE)
    return told.exists() or tried.exists()


def _level(source: Source) -> int:
    """As deep as the policy says; where it says nothing about the depth, everything is read."""
    level = source.policy.verify_level if source.policy else VerifyLevel.NONE
    return level or VerifyLevel.READABLE
