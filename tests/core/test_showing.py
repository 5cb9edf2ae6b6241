"""Facts and figures as pages tell them."""

from __future__ import annotations

import pytest

from aihub_backup.core import showing


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"), ("", "–"), ([], "–"), ({}, "–"), (True, "yes"), (False, "no"), (0, "0"), ("docs", "docs"),
        (["docs", "shop"], "docs, shop"), ({"points": 3, "damaged": []}, "points=3, damaged=–"),
    ],
)  # fmt: skip
def test_a_fact_is_told_without_brackets_and_quotes(value: object, words: str) -> None:
    assert showing.plain(value) == words
