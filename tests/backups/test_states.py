"""What a backup's state is, given its parts."""

from __future__ import annotations

import itertools

import pytest

from backups.models import BackupState, PartState
from backups.models.backup import ACTIVE, BACKUP_ACTIVE, STORED
from backups.services.states import derived


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], "missed"),
        (["queued", "queued"], "queued"),
        (["queued", "running"], "running"),
        (["completed", "queued"], "running"),
        (["running", "cancelling"], "cancelling"),
        (["completed"], "completed"),
        (["completed", "completed_with_warnings"], "completed_with_warnings"),
        (["completed", "failed"], "partial"),
        (["completed_with_warnings", "cancelled"], "partial"),
        (["failed", "cancelled"], "failed"),
        (["cancelled", "cancelled"], "cancelled"),
        (["deleted", "deleted"], "deleted"),
        (["deleted", "completed"], "completed"),
        (["deleted", "failed"], "failed"),
        (["deleting", "deleted"], "deleting"),
        (["expired", "deleted"], "expired"),
    ],
)
def test_it_is_derived_from_the_parts(parts: list[str], expected: str) -> None:
    assert derived(parts) == expected


def test_every_mixture_has_a_state_that_tells_the_truth() -> None:
    for parts in itertools.product(PartState.values, repeat=3):
        state = derived(parts)
        assert (state in BACKUP_ACTIVE) == bool(set(parts) & ACTIVE)
        if state in (BackupState.COMPLETED, BackupState.COMPLETED_WITH_WARNINGS):
            assert set(parts) <= STORED | {PartState.DELETED, PartState.EXPIRED}
