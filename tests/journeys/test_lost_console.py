"""The console's home is gone, once: three times in `./aihub prove console`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.proofs.console_loss import LostConsole
from tests.proofs.engine_kills import Scale

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]

LITTLE = Scale(files=60, early=1 << 20, bulk=4 << 20)


def test_the_storage_and_the_kit_bring_a_lost_console_back_with_every_row(tmp_path: Path, room: Path) -> None:
    figures = LostConsole(tmp_path, room, random.Random(3), LITTLE, {"AIHUB_JOB_RETRY_SECONDS": "1"}).prove()

    assert figures["tables"] > 40
    assert figures["rows"] >= figures["rows as before the backup"] > 100
