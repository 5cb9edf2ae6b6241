"""kill -9 of compactions, a few times: the full counts run in `./aihub prove compaction`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.compaction_kills import KilledCompaction
from tests.proofs.engine_kills import Scale

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

FEW = Scale(files=200, early=1 << 20, bulk=40 << 20)


def test_a_compaction_that_was_killed_loses_nothing_and_the_next_one_finishes(room: Path) -> None:
    KilledCompaction(room, random.Random(3), FEW).prove(kills=3)
