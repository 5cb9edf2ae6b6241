"""`aihub demo` for real, its verdict, and what is left when it is interrupted: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from aihub_backup.cli import demo, demo_story
from aihub_backup.cli.exits import CommandFailed, Exit
from tests.cli.console import command
from tests.cli.waiting import eventually

console_group = pytest.mark.xdist_group("console")


def environment(place: Path) -> dict[str, str]:
    """The demo makes its directories here."""
    return {**os.environ, "TMPDIR": str(place), "AIHUB_ENV_FILE": os.devnull}


def processes_of(place: Path) -> list[str]:
    """Living processes that were given something below the directory."""
    others = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]
    return [entry.name for entry in others if str(place) in _words(entry)]


def _words(entry: Path) -> str:
    try:
        return (entry / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@console_group
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_brings_everything_back_identical_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        command("demo", "--size", "small", "--json"),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == Exit.OK, done.stderr
    (line,) = done.stdout.splitlines()
    figures = json.loads(line)
    assert list(figures) == ["backups", "files", "bytes", "identical", "seconds"]
    assert (figures["backups"], figures["identical"]) == (2, True)
    assert "second backup (incremental)" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@console_group
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_takes_everything_away_when_it_is_asked_to_end(tmp_path: Path) -> None:
    running = subprocess.Popen(
        command("demo", "--size", "small"), env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert running.stderr is not None
    while b"the console runs at" not in running.stderr.readline():
        assert running.poll() is None

    running.send_signal(signal.SIGTERM)
    running.stderr.read()

    assert running.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: processes_of(tmp_path) == [])


def test_it_refuses_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(CommandFailed, match="is not empty; the demo needs a directory of its own"):
        demo.main(["--home", str(tmp_path)])


def test_it_says_when_something_differs(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = demo_story.Outcome(backups=2, compared=2, differences=["first point back: 'a' differs in content"])

    code = demo._report(outcome, 10.0, as_json=True)

    captured = capsys.readouterr()
    assert code == Exit.DAMAGED
    assert json.loads(captured.out)["identical"] is False
    assert "'a' differs in content" in captured.err


def test_it_is_not_identical_when_nothing_was_compared() -> None:
    assert demo_story.Outcome(compared=1).identical is False
