"""What recovery points fill: how many there are, what they have added, and what they would be by themselves."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from backups.models import BackupPart, Repository
from backups.models.backup import ACTIVE, STORED


class Usage(NamedTuple):
    """Sizes in bytes."""

    points: int = 0
    stored_bytes: int = 0  # what they have added to the repository
    size_bytes: int = 0  # what all of them would be, each for itself


def measured(repository: Repository, size: int) -> None:
    """Its packs fill so many bytes, now: what its backups have added so far counts no more."""
    repository.measured_bytes, repository.measured_added = size, _added(repository)
    repository.save(update_fields=["measured_bytes", "measured_added"])


def filled(repository: Repository, added: int) -> int:
    """Bytes that its packs fill, by the last measurement and what has come since. added: by all its backups."""
    if repository.measured_bytes is None:
        return added
    return repository.measured_bytes + max(added - repository.measured_added, 0)


def _added(repository: Repository) -> int:
    ended = BackupPart.objects.filter(repository=repository).exclude(state__in=ACTIVE)
    return ended.aggregate(added=Sum("stored_bytes"))["added"] or 0


def of_repositories(parts: QuerySet[BackupPart]) -> dict[UUID, Usage]:
    """Of each repository, as far as the given parts are in it; one without a recovery point is not there."""
    rows = parts.filter(state__in=STORED).order_by().values_list("repository")
    counted = rows.annotate(count=Count("*"), added=Sum("stored_bytes"), whole=Sum("size_bytes"))
    return {key: Usage(points, stored or 0, size or 0) for key, points, stored, size in counted}
