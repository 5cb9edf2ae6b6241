"""Could this be brought back now? Asked by lists, pages, recoveries and deletions alike."""

from __future__ import annotations

from collections.abc import Iterable

from backups.models import BackupPart, PartState, RepositoryState, VerificationState
from backups.models.backup import ACTIVE
from backups.services import verifications


def restorable(parts: Iterable[BackupPart]) -> tuple[bool, list[str]]:
    """(yes, []) or (no, reasons): running, failed, cancelled, deleted, expired, damaged, repository-creating."""
    reasons = sorted({reason for part in parts for reason in _reasons(part)})
    return not reasons, reasons


def _reasons(part: BackupPart) -> list[str]:
    if not part.stored:
        return [_why_nothing(part.state)]
    reasons = ["repository-creating"] if part.repository.state == RepositoryState.CREATING else []
    check = verifications.latest(part)
    return reasons + (["damaged"] if check and check.state == VerificationState.FAILED else [])


def _why_nothing(state: str) -> str:
    if state in ACTIVE:
        return "running"
    return "deleted" if state == PartState.DELETING else state
