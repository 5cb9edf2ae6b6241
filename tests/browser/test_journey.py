"""A person's first day with the console, in a browser: in English and light, in Chinese and dark."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.components import needs, needs_module

needs_module("playwright")

from tests.browser.chromium import CHINESE, ENGLISH, PACKAGE, PROGRAM, Look  # noqa: E402
from tests.browser.journey import Journey  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]
PICTURES = os.environ.get("AIHUB_PICTURES")  # a directory for a picture of every page, if somebody wants them


@pytest.mark.parametrize("look", [ENGLISH, CHINESE], ids=lambda look: look.name)
def test_a_person_protects_something_and_gets_a_file_back(look: Look, tmp_path: Path) -> None:
    needs(PROGRAM, PACKAGE)

    figures = Journey(look, tmp_path, Path(PICTURES) if PICTURES else None).prove()

    assert figures["pages"] > 30 and figures["looks"] > 40
