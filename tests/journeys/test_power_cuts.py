"""The power fails under the engine, a few times: the full counts run in `./aihub prove powercut`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power import PoweredDisk, powered
from tests.proofs.powercut_engine import DISK, Lost, PowerCut

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(280)]


@pytest.fixture
def disk(room: Path) -> Iterator[PoweredDisk]:
    made = powered(room / "power", DISK)
    yield made
    made.close()


def test_every_acknowledged_backup_survives_the_power_cut(room: Path, disk: PoweredDisk) -> None:
    figures = PowerCut(room, disk, random.Random(1)).prove(3)

    assert figures["cuts"] == 3


@pytest.mark.parametrize("late", [True, False])
def test_a_repository_survives_the_power_cut_when_it_is_made(room: Path, disk: PoweredDisk, late: bool) -> None:
    PowerCut(room, disk, random.Random(2)).prove_init(late=late)


@pytest.mark.parametrize(("late", "there"), [(True, False), (False, True)])
def test_a_restore_survives_the_power_cut(room: Path, disk: PoweredDisk, late: bool, there: bool) -> None:
    PowerCut(room, disk, random.Random(3)).prove_restore(late=late, there=there)


@pytest.mark.parametrize("sham", ["all", "files", "folders"])
def test_a_backup_without_its_fsyncs_is_lost(room: Path, disk: PoweredDisk, sham: str) -> None:
    """Else the stories above would not notice that one is missing."""
    with pytest.raises(Lost):
        PowerCut(room, disk, random.Random(4), sham=sham).prove(1, late=True)


@pytest.mark.parametrize("sham", ["all", "files", "folders"])
def test_a_restore_without_its_fsyncs_is_lost(room: Path, disk: PoweredDisk, sham: str) -> None:
    with pytest.raises(Lost):
        PowerCut(room, disk, random.Random(5), sham=sham).prove_restore(late=True, there=False)
