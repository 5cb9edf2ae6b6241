"""What the journeys share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proofs.workshop import remove, roomy


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A directory for gigabytes or very deep trees, in memory where there is enough of it; removed at once."""
    place = roomy(1 << 30, tmp_path)
    yield place
    remove(place)  # pytest's own way of removing gives up in deep directories
