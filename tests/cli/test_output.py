"""What the terminal shows, and what scripts read."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from aihub_backup.cli import output, parser
from aihub_backup.cli.exits import CommandFailed, Exit
from backups.engine import __main__ as engine


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (999_950_000, "1.0 GB"), (3.2e9, "3.2 GB"), (5e15, "5000.0 TB")],
)
def test_it_writes_sizes_for_people(amount: float, text: str) -> None:
    assert output.size(amount) == text


def test_it_lines_columns_up_with_numbers_to_the_right_and_wide_letters_counted() -> None:
    assert output.table(("name", "size"), [("备份", "10 B"), ("abc", "1.5 kB")]) == (
        "name  size\n备份    10 B\nabc   1.5 kB"
    )


def test_it_lets_no_name_colour_the_terminal_or_fake_a_row() -> None:
    assert output.table(("name",), [("a\x1b[31mb\nc\u202e",)]) == "name\na\\x1b[31mb\\nc\\u202e"


def test_it_has_no_rate_without_time() -> None:
    assert (output.rate(100, 0), output.rate(3_000_000, 2)) == ("-", "1.5 MB/s")


def test_it_colours_only_terminals_and_obeys_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = output.coloured("x", output.RED, Terminal())  # type: ignore[arg-type]  # the one method that is asked

    monkeypatch.setenv("NO_COLOR", "")

    assert shown == "\x1b[31mx\x1b[0m"
    assert output.coloured("x", output.RED, Terminal()) == "x"  # type: ignore[arg-type]  # as above


def test_it_survives_a_reader_that_has_seen_enough() -> None:
    talk = "from aihub_backup.cli import output\nfor n in range(200_000): output.result('line')"
    process = subprocess.Popen([sys.executable, "-c", talk], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    complaints = process.stderr.read()

    assert (process.wait(), complaints) == (0, b"")


def test_it_speaks_to_a_terminal_without_unicode() -> None:
    talk = "from aihub_backup.cli import output; output.result('备份 done')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    done = subprocess.run([sys.executable, "-c", talk], capture_output=True, check=True, env=environment)

    assert done.stdout == b"\\u5907\\u4efd done\n"


def test_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    codes = [parser.main([]), parser.main(["help"]), parser.main(["--version"])]

    shown = capsys.readouterr().out
    assert codes == [Exit.USAGE, Exit.OK, Exit.OK]
    assert all(name in shown for name in parser.COMMANDS)


def test_the_help_of_a_command_keeps_the_capitals_of_its_summary() -> None:
    assert parser.command("token").description == "Make a token for the REST API."


def test_the_engines_own_command_line_ends_with_the_same_numbers() -> None:
    """It is pure and cannot import them."""
    theirs = {name.removeprefix("EXIT_"): code for name, code in vars(engine).items() if name.startswith("EXIT_")}

    assert theirs == {
        "FAILED": Exit.FAILED, "USAGE": Exit.USAGE, "WARNINGS": Exit.WARNINGS, "NOT_FOUND": Exit.NOT_FOUND,
        "DAMAGE": Exit.DAMAGED, "NOT_ALLOWED": Exit.PERMISSION, "IN_THE_WAY": Exit.CONFLICT,
        "UNREACHABLE": Exit.DEPENDENCY,
    }  # fmt: skip


def test_it_guesses_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    code = parser.main(["docter"])

    assert code == Exit.USAGE
    assert "there is no command “docter”. Did you mean “doctor”?" in capsys.readouterr().err


def test_it_answers_in_json_also_when_it_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(words: list[str]) -> int:
        raise CommandFailed("the disk is on fire.", Exit.DEPENDENCY)

    monkeypatch.setattr("aihub_backup.cli.doctor.main", refuse)

    code = parser.main(["doctor", "--json"])

    captured = capsys.readouterr()
    assert code == Exit.DEPENDENCY
    assert json.loads(captured.out) == {"type": "result", "ok": False, "exit": 11, "error": "the disk is on fire."}
    assert captured.err == "aihub: the disk is on fire.\n"


def test_it_ends_quietly_when_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("aihub_backup.cli.doctor.main", interrupt)

    assert parser.main(["doctor"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "aihub: interrupted.\n"


def test_it_becomes_the_program_it_was_asked_for() -> None:
    words = [sys.executable, "-m", "aihub_backup.cli", "manage", "version"]

    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("5.2")
