"""What is being brought back is not deleted under the recovery's hands."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from backups.models import Backup, BackupState, Source
from backups.services import backups
from recovery.services import recoveries
from tests.recovery.stories import asked, backed_up


def test_a_point_stays_until_its_recovery_has_ended(backup: Backup, source: Source, target: Path, by: Actor) -> None:
    backed_up(by, source)
    recovery = asked(by, backup, target)

    with pytest.raises(Refused, match=f"The recovery {recovery.pk} needs this backup") as refusal:
        backups.delete(backup, by=by)

    assert refusal.value.code == "in-use"
    recoveries.cancel(recovery, by=by)
    assert backups.delete(backup, by=by).state == BackupState.DELETING
