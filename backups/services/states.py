"""The state of a backup, derived from its parts. The only place that knows how."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from backups.models import Backup, BackupPart, BackupState, PartState
from backups.models.backup import ACTIVE, STORED

_GONE = frozenset({PartState.DELETED, PartState.EXPIRED})


def derived(parts: Collection[str], *, all_there: bool = True) -> BackupState:
    """The state of a backup whose parts are in these states; without parts it was missed.

    Parts that went (deleted, expired) count only when nothing else is left. Some recovery points but not all:
    partial, which is bad; so it is when a source was left out (not `all_there`).
    """
    if not parts:
        return BackupState.MISSED
    states = set(parts)
    if states & ACTIVE:
        return _active(states)
    if PartState.DELETING in states:
        return BackupState.DELETING
    left = states - _GONE
    return _ended(left, all_there) if left else _gone(states)


def refresh(backup_id: UUID) -> BackupState:
    """Write the derived state and times. Call it in the transaction that moved a part, after the move.

    The backup's row is locked before the parts are read: of two parts that end together the second sees the first.
    """
    backup = Backup.objects.select_for_update().get(pk=backup_id)
    parts = list(BackupPart.objects.filter(backup=backup_id).values_list("state", "started_at", "finished_at"))
    fields = _fields(parts, all_there=not backup.left_out)
    if fields["state"] == BackupState.DELETED:
        fields["deleted_at"] = timezone.now()
    Backup.objects.filter(pk=backup_id).update(**fields)
    return BackupState(fields["state"])


def refresh_many(backup_ids: Iterable[UUID], deleted_at: Mapping[UUID, datetime] | None = None) -> None:
    """The same for hundreds at once; `deleted_at` tells of deleted ones when that was, where it is not now."""
    backups = {row.pk: row for row in Backup.objects.select_for_update().filter(pk__in=list(backup_ids)).order_by("pk")}
    parts: dict[UUID, list[tuple[Any, ...]]] = {key: [] for key in backups}
    of_all = BackupPart.objects.filter(backup__in=backups)
    for key, *told in of_all.values_list("backup", "state", "started_at", "finished_at"):
        parts[key].append(tuple(told))
    for key, backup in backups.items():
        fields = _fields(parts[key], all_there=not backup.left_out)
        if fields["state"] == BackupState.DELETED and backup.deleted_at is None:
            fields["deleted_at"] = (deleted_at or {}).get(key, timezone.now())
        vars(backup).update(fields)
    Backup.objects.bulk_update(backups.values(), ["state", "started_at", "finished_at", "deleted_at"])


def _fields(parts: Collection[tuple[Any, ...]], *, all_there: bool) -> dict[str, Any]:
    """The columns that follow from (state, started, finished) of each part."""
    began = min(filter(None, (part[1] for part in parts)), default=None)
    return {
        "state": derived([part[0] for part in parts], all_there=all_there), "started_at": began,
        "finished_at": _finished_at(list(parts)),
    }  # fmt: skip


def _active(states: set[str]) -> BackupState:
    if PartState.CANCELLING in states:
        return BackupState.CANCELLING
    return BackupState.QUEUED if states == {PartState.QUEUED} else BackupState.RUNNING


def _ended(states: set[str], all_there: bool) -> BackupState:
    stored = states & STORED
    if not stored:
        return BackupState.CANCELLED if states == {PartState.CANCELLED} else BackupState.FAILED
    if states - STORED or not all_there:
        return BackupState.PARTIAL
    return BackupState.COMPLETED if states == {PartState.COMPLETED} else BackupState.COMPLETED_WITH_WARNINGS


def _gone(states: set[str]) -> BackupState:
    return BackupState.EXPIRED if PartState.EXPIRED in states else BackupState.DELETED


def _finished_at(parts: list[tuple[Any, ...]]) -> Any:
    """When the last part ended; None while one is still going."""
    if any(state in ACTIVE for state, _started, _finished in parts):
        return None
    return max(filter(None, (finished for _state, _started, finished in parts)), default=None)
