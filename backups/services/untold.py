"""Holds that a repository's log may not know: below `repositories`, so that whoever opens one for writing tells them.

While a repository could not be written a hold was refused its record. Its rows stand, but a console that has only the
log would delete what they hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q
from django.utils import timezone

from aihub_backup.core import jobs
from backups.models import BackupPart, Repository
from backups.models.backup import ACTIVE, STORED
from backups.services.failing import clear

JOB = "backup-hold"
QUEUE = "control"
HOLDING = STORED | ACTIVE  # parts that a hold keeps, now or as soon as they are there

# Errors that a stored part bears when its hold, or the end of it, was not told.
REFUSED = ("taken-over", "tampered", "source-not-ready")


def tell(parts: Iterable[BackupPart]) -> None:
    """One job for each of these parts: it writes what is true of the part's backup when it runs."""
    for part in parts:
        jobs.enqueue(JOB, target_id=part.pk, queue=QUEUE, node=part.repository.node)


def tell_again(repository: Repository) -> None:
    """In the transaction that lets it be written again: every hold that stands, and every word that was refused."""
    parts = BackupPart.objects.filter(repository=repository)
    refused = Q(error_code__in=REFUSED, state__in=STORED)  # a backup that failed so keeps saying why
    standing = Q(backup__hold_until__gt=timezone.now(), state__in=HOLDING)
    found = parts.filter(refused | standing).select_related("repository__storage__node").order_by("pk")
    tell({part.backup_id: part for part in found}.values())
    parts.filter(refused).update(**clear())
