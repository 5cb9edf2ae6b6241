"""What a validation found, as its page tells it."""

from __future__ import annotations

from django.utils.translation import override

from recovery.admin.findings import in_words

READ = {
    "part": "docs", "check": "read back", "passed": True, "detail": "2 files, 30 bytes, …",
    "counts": {"files": 2, "bytes": 30, "missing": 1},
}  # fmt: skip


def test_what_was_read_back_is_told_in_the_reader_s_language() -> None:
    with override("zh-hans"):
        (found,) = in_words([READ])

        assert str(found["label"]) == "回读并比对"

    assert found["detail"] == "2 个文件（30 B）的 SHA-256 与记录一致。 1 个报告为未恢复的项目不在其中。"


def test_what_differs_is_told_as_it_was_found() -> None:
    (found,) = in_words([{**READ, "passed": False, "detail": "a.txt (other content)."}])

    assert found["detail"] == "a.txt (other content)."


def test_a_check_of_a_foreign_strategy_keeps_its_own_word() -> None:
    (found,) = in_words([{"part": "docs", "check": "checksums of the vendor", "passed": True, "detail": "Well."}])

    assert (found["label"], found["detail"]) == ("checksums of the vendor", "Well.")
