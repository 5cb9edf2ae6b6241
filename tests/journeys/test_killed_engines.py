"""kill -9 of engines and their workers, a few times: the full counts run in `./aihub prove engine`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.engine_kills import KilledBackup, KilledRestore, Scale

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

FEW = Scale(files=300, early=1 << 20, bulk=96 << 20)


def test_a_backup_that_was_killed_twice_succeeds_by_itself(room: Path) -> None:
    KilledBackup(room, random.Random(1), FEW).prove(["engine", "worker"])


@pytest.mark.parametrize(("victim", "there"), [("engine", False), ("worker", True)])
def test_a_killed_restore_leaves_the_old_or_the_new(room: Path, victim: str, there: bool) -> None:
    KilledRestore(room, random.Random(2), FEW).prove(victim, there=there)
