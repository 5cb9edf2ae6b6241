"""Recovery points that are being brought back are needed until that has ended."""

from __future__ import annotations

from collections.abc import Sequence

from backups.models import BackupPart
from recovery.models import RecoveryPart
from recovery.models.recovery import ACTIVE


def sentence(parts: Sequence[BackupPart]) -> str:
    """What keeps one of them from being deleted; "" when no recovery needs any."""
    rows = RecoveryPart.objects.filter(part__in=parts, recovery__state__in=ACTIVE).select_related("recovery")
    if (found := rows.first()) is None:
        return ""
    return f"The recovery {found.recovery_id} needs this backup; wait for its end or cancel it."
