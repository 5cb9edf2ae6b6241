"""Nothing but the variables of the description: three times in `./aihub prove firststart`, here once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs.firststart_seed import FirstStart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]


def test_a_first_start_backs_up_to_its_bucket_without_a_click_and_comes_back_from_it(tmp_path: Path) -> None:
    figures = FirstStart(tmp_path).prove()

    assert figures["warnings"] == 1
    assert figures["objects in the bucket"] > 3
