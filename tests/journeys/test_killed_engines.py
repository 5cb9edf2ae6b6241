"""kill -9 of engines and their workers, a few times: the full counts run in `./aihub prove engine`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.engine_kills import KilledBackup, KilledRestore, Scale

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

FEW = Scale(files=300, early=1 << 20, bulk=96 << 20)
MORE = Scale(files=300, early=1 << 20, bulk=288 << 20)


def test_a_backup_that_was_killed_twice_succeeds_by_itself(room: Path) -> None:
    KilledBackup(room, random.Random(1), FEW).prove(["engine", "worker"])


def test_a_backup_that_was_killed_at_nine_tenths_sends_eight_packs_again_at_most(room: Path) -> None:
    figures = KilledBackup(room, random.Random(3), MORE).prove(["engine"], share=0.9)

    assert figures["packs left by the kills"] > 8
    assert figures["packs sent again"] <= 8


@pytest.mark.parametrize(("victim", "there"), [("engine", False), ("worker", True)])
def test_a_killed_restore_leaves_the_old_or_the_new(room: Path, victim: str, there: bool) -> None:
    KilledRestore(room, random.Random(2), FEW).prove(victim, there=there)


@pytest.mark.parametrize("there", [False, True])
def test_a_restore_that_was_killed_at_nine_tenths_is_continued(room: Path, there: bool) -> None:
    for number in range(6):  # the end may come before the kill: such a restore has nothing to continue
        place = room / str(number)
        place.mkdir()
        figures = KilledRestore(place, random.Random(4), MORE).prove("engine", there=there, share=0.9)
        if not figures["finished before the kill"]:
            break

    assert figures["MiB not written again"] > 20
