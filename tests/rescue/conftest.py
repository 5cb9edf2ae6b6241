"""The island, and a small repository of the golden ones that a story may ruin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.rescue.island import Island

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def island(tmp_path: Path) -> Island:
    return Island(tmp_path / "island")


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    """A copy of the golden repository v1."""
    return Path(shutil.copytree(GOLDEN / "v1", tmp_path / "v1"))
