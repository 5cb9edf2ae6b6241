"""Schedules from the terminal."""

from __future__ import annotations

from aihub_backup.cli.exits import Exit
from tests.cli.test_deeds import Terminal, _worker, terminal

__all__ = ["_worker", "terminal"]

import pytest

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_worker")]


def test_it_adds_lists_switches_and_removes_schedules(terminal: Terminal) -> None:
    words = ("--type", "files", "--cron", "0 2 * * *", "--timezone", "Asia/Shanghai", "--source", "data")
    made = terminal.asks("schedule", "add", "nightly", *words, "--keep-days", "7", "--misfire", "skip")
    listed = terminal.types("schedule", "list")[1]
    off = terminal.types("schedule", "disable", "nightly", "--reason", "moving house")
    on = terminal.asks("schedule", "enable", "nightly")
    kept = terminal.types("schedule", "remove", "nightly")
    gone = terminal.types("schedule", "remove", "nightly", "--confirm", "--reason", "moved")

    assert (made["policy"], made["sources"], len(made["next_runs"])) == ("keep 7 days", ["data"], 5)
    assert made["next_run"].endswith("T02:00+08:00")
    assert "At 02:00" in listed and "nightly" in listed
    assert (off[0], "is disabled (At 02:00, Asia/Shanghai)\n" in off[1], on["enabled"]) == (Exit.OK, True, True)
    assert (kept[0], "No other schedule makes backups of “data”" in kept[2]) == (Exit.CONFLICT, True)
    assert (gone[0], "its backups stay" in gone[1]) == (Exit.OK, True)
    assert "nightly" not in {row["name"] for row in terminal.asks("schedule", "list")}


def test_it_runs_one_now_and_waits(terminal: Terminal) -> None:
    terminal.asks("schedule", "add", "nightly", "--type", "files", "--cron", "0 2 * * *")

    backup = terminal.asks("schedule", "run", "nightly", "--wait")

    assert (backup["status"], backup["label"]) == ("completed", "nightly")
    assert terminal.types("schedule", "run", "nobody")[0] == Exit.NOT_FOUND


def test_it_begins_with_a_preset(terminal: Terminal) -> None:
    keys = [one["key"] for one in terminal.asks("schedule", "presets")]
    made = terminal.asks("schedule", "add", "--preset", "weekly-files", "--cron", "0 4 * * 6", "--disabled")
    gold = terminal.asks("schedule", "add", "mine", "--preset", "daily-database", "--policy", "keep 30 days")

    assert keys == ["daily-database", "weekly-files"]
    assert "daily at 02:00" in terminal.types("schedule", "presets")[1]
    assert (made["name"], made["cron_expression"], made["policy"], made["enabled"]) == (
        "Weekly Files Backup", "0 4 * * 6", "keep 30 days", False,
    )  # fmt: skip
    assert (gold["name"], gold["policy"], gold["next_run"][14:16]) == ("mine", "keep 30 days", "00")
    assert terminal.types("schedule", "add", "--preset", "tapes")[0] == Exit.USAGE


def test_it_chooses_by_tags_and_environment(terminal: Terminal) -> None:
    words = ("--type", "full", "--cron", "0 * * * *", "--tag", "team=ml", "--environment", "default")

    made = terminal.asks("schedule", "add", "ml", *words)

    assert made["tags"] == {"team": "ml"}
    assert terminal.types("schedule", "add", "x", *words[:4], "--tag", "ml")[0] == Exit.USAGE


def test_wrong_words_are_told_with_the_cure(terminal: Terminal) -> None:
    silent = terminal.types("schedule", "add", "x")
    wrong = terminal.types("schedule", "add", "x", "--type", "files", "--cron", "61 * * * *")
    unexplained = terminal.types

    assert (silent[0], "say --type, --cron, or begin with --preset" in silent[2]) == (Exit.USAGE, True)
    assert (wrong[0], "The minute of “61 * * * *”" in wrong[2]) == (Exit.USAGE, True)
    with pytest.raises(SystemExit):
        unexplained("schedule", "disable", "x")
