"""The console in a browser: everything a person does from the first start to a file that came back."""

from __future__ import annotations

import os
from pathlib import Path

from tests.browser.chromium import CHINESE, ENGLISH, Look
from tests.browser.journey import Journey
from tests.proofs.registry import Case, Figures, proof


@proof("browser", "journey-english-light", "the first day of a person, in English and light", count=1)
def english(case: Case) -> Figures:
    return _walked(ENGLISH, case)


@proof("browser", "journey-chinese-dark", "the first day of a person, in Simplified Chinese and dark", count=1)
def chinese(case: Case) -> Figures:
    return _walked(CHINESE, case)


def _walked(look: Look, case: Case) -> Figures:
    pictures = os.environ.get("AIHUB_PICTURES")
    return Journey(look, case.place, Path(pictures) if pictures else None).prove()
