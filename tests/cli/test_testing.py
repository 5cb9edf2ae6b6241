"""`aihub test` tells every failure and ends with pytest's own closing line."""

from __future__ import annotations

import pytest

from aihub_backup.cli import testing
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.testing import Check


def test_it_says_how_each_check_went(capfd: pytest.CaptureFixture[str]) -> None:
    good = testing.passes(Check("good", ("-c", "print('looks fine')")))
    bad = testing.passes(Check("bad", ("-c", "import sys; print('line 7 is wrong'); sys.exit(3)")))

    captured = capfd.readouterr()
    assert (good, bad) == (True, False)
    assert "line 7 is wrong" in captured.out
    assert "good: ok" in captured.err
    assert "bad: FAILED (exit code 3)" in captured.err


def test_it_gives_a_check_its_environment_and_the_project_as_directory(capfd: pytest.CaptureFixture[str]) -> None:
    look = "import os; print(os.environ['COLOUR'], os.getcwd(), 'PYTHONSAFEPATH' in os.environ)"

    testing.passes(Check("look", ("-c", look), {"COLOUR": "green"}))

    assert capfd.readouterr().out == f"green {testing.ROOT} False\n"


def test_it_fails_when_a_check_fails_though_the_tests_pass(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(testing, "_style", lambda: [Check("style", ("-c", "raise SystemExit(1)"))])
    monkeypatch.setattr(testing, "_pytest", lambda quick, words: Check("tests", ("-c", "print('3 passed in 0.1s')")))

    code = testing.main(["--quick"])

    captured = capfd.readouterr()
    assert code == 1
    assert captured.out.splitlines()[-1] == "3 passed in 0.1s"
    assert "failed: style." in captured.err


def test_it_asks_for_the_coverage_of_all_tests_only() -> None:
    whole, part, chosen = (testing._pytest(False, words).words for words in ([], ["-k", "x"], ["tests/cli"]))

    assert "--cov-fail-under=90" in whole
    assert not any("--cov" in word for word in (*part, *chosen))


def test_it_names_a_path_that_is_not_there_before_it_checks_anything(capfd: pytest.CaptureFixture[str]) -> None:
    code = testing.main(["tests/cli/test_gone.py::test_it", "-x"])

    told = capfd.readouterr().err
    assert (code, "there is no tests/cli/test_gone.py" in told, "==>" in told) == (Exit.USAGE, True, False)


def test_it_leaves_out_what_takes_long_when_asked_to_be_quick() -> None:
    words = testing._pytest(True, ["-n0"]).words

    assert words == ("-m", "pytest", "-m", "not slow", "-n0")


def test_it_looks_at_style_types_arrows_settings_and_migrations() -> None:
    names = [check.name for check in [*testing._style(), *testing._thorough("/nowhere")]]

    assert names[:6] == ["ruff check", "ruff format", "mypy", "import contracts", "system checks", "migrations"]


def test_the_tests_of_the_database_run_again_on_the_servers_of_production(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def note(check: Check) -> int:
        ran.append(check.name)
        return 0

    monkeypatch.setattr(testing, "_run", note)

    for words in ([], ["--quick"], ["tests/cli"], ["-k", "x"]):
        testing.main(words)

    assert ran.count("tests on PostgreSQL and Valkey") == 1
    assert testing._on_servers([]).words[:2] == ("-m", "tests.servers.production")
