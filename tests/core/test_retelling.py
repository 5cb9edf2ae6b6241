"""What was stored in English is told in the reader's language; what people wrote stays as it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils.translation import override

from aihub_backup.cli import output
from aihub_backup.core import retelling, showing
from aihub_backup.core.failures import Failure
from backups.services import cron, scope, slots, verifications
from recovery.services import points, targets
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
    ("note", "chinese"),
    [
        ("The schedule was given another time.", "计划任务改为了其他时间。"),
        (
            "All sources of the schedule “night” are paused; resume one.",
            "计划任务“night”的全部保护对象均已暂停；请恢复其中之一。",
        ),
        (
            "This version has no strategy for “redis” yet, so there is nothing of that kind to back up.",
            "此版本尚无“redis”的备份方式，因此没有这类内容可备份。",
        ),
        (
            "The storage “disk” is switched off; enable it, or choose another repository.",
            "存储“disk”已停用；请将其启用，或选择其他仓库。",
        ),
        ("moving house", "moving house"),  # a person's own words
    ],
)
def test_it_tells_why_a_slot_waits_or_was_missed(note: str, chinese: str) -> None:
    with override("zh-hans"):
        assert retelling.retold(note, *slots.NOTES) == chinese


@pytest.mark.parametrize(
    ("words", "chinese"),
    [
        (lambda: targets.normal("srv/back"), "目标 srv/back 必须是绝对路径"),
        (lambda: scope.known_type("hourly"), "没有备份类型“hourly”；可用的类型为"),
        (lambda: cron.zone("localtime"), "没有时区“localtime”"),
        (lambda: verifications.known_level(7), "级别为 1（对象存在）"),
        (lambda: points.choose("full", backup=None, source=None, at=None, parts=()), "请说明要恢复什么"),
    ],
)
def test_services_refuse_in_the_language_of_the_reader(words: Callable[[], object], chinese: str) -> None:
    with override("zh-hans"), pytest.raises(Failure) as refusal:
        words()

    assert refusal.value.message.startswith(chinese)


@pytest.mark.parametrize(
    ("kind", "name", "chinese"),
    [
        ("recovery.recovery", "full: every part → /srv/back", "完整：所有部分 → /srv/back"),
        ("backups.backup", "incremental 2026-11-27 00:06", "增量 2026-11-27 00:06"),
        ("backups.backup", "nightly", "nightly"),
        ("backups.backup", "full: every part → /srv/back", "full: every part → /srv/back"),  # somebody's label
        ("backups.backuppart", "full 2026-11-27 00:06", "full 2026-11-27 00:06"),  # of a source that is called so
        ("backups.source", "files → Tokyo", "files → Tokyo"),
    ],
)
def test_it_tells_what_a_deed_was_done_to(kind: str, name: str, chinese: str) -> None:
    with override("zh-hans"):
        assert retelling.target(name, kind) == chinese


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
