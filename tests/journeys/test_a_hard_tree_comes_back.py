"""The engine's own command line and a tree that breaks backup tools: the full counts run in `./aihub prove engine`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trees import Hardships
from tests.proofs.engine_trees import HardTree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

HARDSHIPS = Hardships(files=2000, large=64 << 20, sparse=100 << 30)


def test_a_hard_tree_that_changes_while_it_is_read_comes_back_equal(room: Path) -> None:
    figures = HardTree(room, room / "source", HARDSHIPS, growth=16 << 20).prove(seed=1)

    assert figures["oddities told"] > 10
