"""Policies, and sources that are there, from the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihub_backup.cli.exits import Exit
from backups.models import Policy, Source
from tests.cli.test_deeds import Terminal, _worker, terminal

__all__ = ["_worker", "terminal"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_worker")]


def test_it_adds_changes_and_lists_policies(terminal: Terminal) -> None:
    terminal.types("policy", "add", "gold", "--keep-daily", "14", "--keep-days", "90", "--rpo", "1560")
    changed = terminal.asks("policy", "change", "gold", "--rpo", "120", "--description", "the best")
    listed = terminal.types("policy", "list")[1]

    gold = Policy.objects.get(name="gold")
    assert (gold.keep_daily, gold.retention_days, gold.rpo_target_minutes) == (14, 90, 120)
    assert (changed["rpo"], gold.description) == (120, "the best")
    assert "14 daily, 90 days" in listed and "120 min" in listed


def test_it_takes_numbers_away_from_a_policy(terminal: Terminal) -> None:
    terminal.types("policy", "add", "gold", "--keep-daily", "14", "--keep-days", "90", "--rpo", "1560")

    terminal.types("policy", "change", "gold", "--keep-daily", "none", "--keep-days", "none", "--rpo", "none")
    with pytest.raises(SystemExit) as wrong:
        terminal.types("policy", "change", "gold", "--rpo", "nine")

    gold = Policy.objects.get(name="gold")
    assert (gold.keep_daily, gold.retention_days, gold.rpo_target_minutes) == (0, None, None)
    assert wrong.value.code == Exit.USAGE


def test_it_says_what_a_policy_cannot_be(terminal: Terminal) -> None:
    nothing = terminal.types("policy", "add", "gold", "--keep-days", "0")
    unknown = terminal.types("policy", "change", "gold", "--rpo", "60")

    assert (nothing[0], "0 days would keep nothing" in nothing[2]) == (Exit.USAGE, True)
    assert (unknown[0], Policy.objects.filter(name="gold").exists()) == (Exit.NOT_FOUND, False)


def test_it_changes_a_source_and_tries_it_out(terminal: Terminal, tmp_path: Path) -> None:
    terminal.types("policy", "add", "gold", "--rpo", "1560")

    named = terminal.types("source", "change", "data", "--policy", "gold", "--tag", "team=ml", "--rename", "papers")
    moved = terminal.types("source", "change", "papers", "--option", f"paths={tmp_path / 'gone'}")

    papers = Source.objects.get(name="papers")
    assert (named[0], papers.policy and papers.policy.name, papers.tags) == (Exit.OK, "gold", {"team": "ml"})
    assert (moved[0], "its test failed" in moved[2], "gone" in papers.test_error) == (Exit.FAILED, True, True)
    assert terminal.types("source", "change", "papers")[0] == Exit.USAGE


def test_an_earlier_test_says_nothing_about_a_deed_that_tests_nothing(terminal: Terminal) -> None:
    Source.objects.filter(name="data").update(test_error="It was shut.")

    paused = terminal.types("source", "pause", "data")

    assert (paused[0], paused[1]) == (Exit.OK, "“data” is paused\n")


def test_it_tests_pauses_and_resumes_a_source(terminal: Terminal) -> None:
    tested = terminal.asks("source", "test", "data")
    terminal.types("source", "pause", "data", "--reason", "moving house")
    paused = Source.objects.get(name="data").enabled
    resumed = terminal.asks("source", "resume", "data")

    assert (tested["test_error"], paused, resumed["enabled"]) == ("", False, True)
    assert terminal.types("source", "test", "nobody")[0] == Exit.NOT_FOUND
