"""kill -9 of commits, repairs, changes of keys and copies, once each: the full counts run in `./aihub prove kills`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.engine_kills import Scale
from tests.proofs.kills_commits import KilledCommit
from tests.proofs.kills_copies import KilledCopy
from tests.proofs.kills_keys import KilledKeys
from tests.proofs.kills_repairs import KilledRepair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

FEW = Scale(files=40, early=1 << 20, bulk=0)


def test_a_backup_that_was_killed_behind_its_index_is_whole_or_never_was(room: Path) -> None:
    figures = KilledCommit(room, random.Random(1), FEW).prove(4, 10)

    assert figures["operations"] > 3
    assert figures["packs sent again"] <= 2


def test_a_repair_that_was_killed_has_cost_nothing_and_the_next_one_heals(room: Path) -> None:
    figures = KilledRepair(room, random.Random(2), FEW).prove(6, 10)

    assert figures["operations"] > 20


def test_a_killed_change_of_keys_shuts_nobody_out(room: Path) -> None:
    figures = KilledKeys(room, random.Random(3), FEW).prove("rotate", 6, 10)

    assert figures["operations"] > 20


def test_a_copy_that_was_killed_shows_nothing_that_is_not_whole_and_goes_on(room: Path) -> None:
    figures = KilledCopy(room, random.Random(4), FEW).prove("older", 8, 10)

    assert figures["operations"] > 20
