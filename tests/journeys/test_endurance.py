"""Everybody at work in one repository at once, and processes killed and frozen: five minutes, thirty in all in
`./aihub prove endurance`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.endurance_run import Endurance, Load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("console")]

SOME = Load(minutes=5, files=150, pauses=(3.0, 9.0))


def test_everybody_at_once_loses_nothing_though_processes_are_killed_and_frozen(tmp_path: Path, room: Path) -> None:
    story = Endurance(tmp_path, room, random.Random(11), SOME)

    figures = story.prove()

    assert figures["backups"] > 2
    assert figures["kills"] and figures["freezes past a lease"]
