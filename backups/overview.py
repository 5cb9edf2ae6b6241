"""The numbers of this app: for the dashboard, the metrics and the health page, which must never differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from backups.models import Backup, BackupPart, Repository, RepositoryState, Source, Verification, VerificationState
from backups.models.backup import BACKUP_ACTIVE, BAD, STORED

WINDOW = timedelta(hours=24)


@dataclass(frozen=True)
class Overview:
    """Counts of rows, sizes in bytes. `recent` counts are of the last 24 hours."""

    sources: int
    sources_in_service: int
    sources_without_point: int  # in service, and nothing could be brought back
    backups_active: int
    backups_recent: int
    backups_recent_bad: int
    points: int
    points_verified: int
    points_damaged: int
    newest_point_at: datetime | None
    size_bytes: int  # of everything that could be restored
    stored_bytes: int  # what the live points have added to repositories
    repositories: int
    repositories_tampered: int


def overview(sources: QuerySet[Source] | None = None) -> Overview:
    """The numbers over the given sources (what somebody may see), or over all of them."""
    seen = Source.objects.all() if sources is None else sources
    parts = BackupPart.objects.filter(source__in=seen, state__in=STORED)
    backups = Backup.objects.filter(parts__source__in=seen).distinct()
    recent = backups.filter(created_at__gte=timezone.now() - WINDOW)
    sums = parts.aggregate(
        count=Count("pk"), newest=Max("data_as_of"), size=Sum("size_bytes"), stored=Sum("stored_bytes")
    )
    return Overview(
        **_sources(seen),
        backups_active=backups.filter(state__in=BACKUP_ACTIVE).count(),
        backups_recent=recent.count(), backups_recent_bad=recent.filter(state__in=BAD).count(),
        points=sums["count"], newest_point_at=sums["newest"],
        points_verified=_checked(parts, VerificationState.PASSED),
        points_damaged=_checked(parts, VerificationState.FAILED),
        size_bytes=sums["size"] or 0, stored_bytes=sums["stored"] or 0, **_repositories(),
    )  # fmt: skip


def _sources(seen: QuerySet[Source]) -> dict[str, int]:
    points = BackupPart.objects.filter(source=OuterRef("pk"), state__in=STORED)
    counts = seen.annotate(has_point=Exists(points)).aggregate(
        sources=Count("pk", filter=Q(archived_at=None)),
        sources_in_service=Count("pk", filter=Q(enabled=True, archived_at=None)),
        sources_without_point=Count("pk", filter=Q(enabled=True, archived_at=None, has_point=False)),
    )
    return dict(counts)


def _checked(parts: QuerySet[BackupPart], state: str) -> int:
    """Points whose newest conclusive check ended like this."""
    ended = (VerificationState.PASSED, VerificationState.FAILED)
    newest = Verification.objects.filter(part=OuterRef("pk"), state__in=ended).order_by("-finished_at", "-pk")
    return parts.annotate(checked=newest.values("state")[:1]).filter(checked=state).count()


def _repositories() -> dict[str, int]:
    return {
        "repositories": Repository.objects.exclude(state=RepositoryState.CREATING).count(),
        "repositories_tampered": Repository.objects.filter(state=RepositoryState.TAMPERED).count(),
    }
