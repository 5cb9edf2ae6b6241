"""kill -9 all over a running console, eight times: sixty times in `./aihub prove console`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.console_kills import KilledConsole, Salvo
from tests.proofs.engine_kills import Scale

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]

SALVOS: list[Salvo] = [
    ("runner", "web", "beat"),
    ("worker", "control"),
    ("engine worker", "web process"),
    ("pool process",),
]
SOME = Scale(files=200, early=1 << 20, bulk=24 << 20)


def test_a_console_that_is_killed_everywhere_tells_the_truth_and_loses_nothing(tmp_path: Path, room: Path) -> None:
    story = KilledConsole(tmp_path, room, random.Random(7), SOME, {"AIHUB_JOB_RETRY_SECONDS": "1"})

    figures = story.prove(SALVOS)

    assert figures["kills"] == 8
