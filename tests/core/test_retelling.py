"""What was stored in English is told in the reader's language; what people wrote stays as it is."""

from __future__ import annotations

import pytest
from django.utils.translation import override

from aihub_backup.cli import output
from aihub_backup.core import retelling, showing
from recovery.services.points import NOTICES


@pytest.mark.parametrize(
    ("stored", "chinese"),
    [
        ("The recovery point of 2026-11-27 00:06:54 UTC was chosen.", "已选择 2026-11-27 00:06:54 UTC 的恢复点。"),
        (
            "The recovery point of noon was chosen. It lies 7 seconds before the moment you named.",
            "已选择 noon 的恢复点，比您指定的时刻早 7 秒。",
        ),
        ("Somebody else's sentence.", "Somebody else's sentence."),
    ],
)
def test_it_tells_a_stored_sentence_in_the_language_of_the_reader(stored: str, chinese: str) -> None:
    with override("zh-hans"):
        assert retelling.retold(stored, *NOTICES) == chinese
    with override("en"):
        assert retelling.retold(stored, *NOTICES) == stored


@pytest.mark.parametrize(
    ("name", "chinese"),
    [
        ("full: every part → /srv/back", "完整：所有部分 → /srv/back"),
        ("incremental 2026-11-27 00:06", "增量 2026-11-27 00:06"),
        ("nightly", "nightly"),
    ],
)
def test_it_tells_what_a_deed_was_done_to(name: str, chinese: str) -> None:
    with override("zh-hans"):
        assert retelling.target(name) == chinese


def test_it_tells_deeds_the_console_and_its_reasons_in_words() -> None:
    with override("zh-hans"):
        assert retelling.deed("backup.request") == "备份：已请求"
        assert retelling.deed("backup.part.delete.failed") == "备份部分：无法删除"
        assert retelling.deed("something.else") == ""
        assert retelling.actor("system", "system") == "系统"
        assert retelling.actor("user", "system") == "system"
        assert retelling.reason("asked for on the command line") == "在命令行中请求"


@pytest.mark.parametrize("count", [0, 999, 1_024, 1_363_907, 5 * 10**12])
def test_pages_and_terminals_write_a_size_alike(count: int) -> None:
    assert showing.size(count) == output.size(count)
    assert showing.size(1_024) == "1.0 kB"
