"""Who holds a way into a repository, from the terminal."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from aihub_backup.cli.exits import Exit
from backups.engine.keys import new_recovery_code
from tests.cli.test_deeds import Terminal, _worker, terminal  # noqa: F401  fixtures

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]


class Typed:
    """What is typed behind the questions of the next command, a line each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *lines: str) -> None:
        self._monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    return Typed(monkeypatch)


def labels(terminal: Terminal) -> list[str]:  # noqa: F811
    return sorted(slot["label"] for slot in terminal.asks("repository", "keys", "main", "list")["slots"])


@pytest.mark.usefixtures("_worker")
def test_the_paper_is_replaced_from_the_terminal(terminal: Terminal, typed: Typed, tmp_path: Path) -> None:  # noqa: F811
    told = terminal.asks("repository", "keys", "main", "new-code", "--kit", str(tmp_path / "new.txt"))
    kit = (tmp_path / "new.txt").read_text()
    code = next(line.split()[-1] for line in kit.splitlines() if line.startswith("Recovery code"))

    typed(new_recovery_code()[:-4])
    wrong = terminal.types("repository", "keys", "main", "add", "--kind", "recovery-code", "--label", "safe")
    typed(code)
    right = terminal.types("repository", "keys", "main", "add", "--kind", "recovery-code", "--label", "safe")
    removed = terminal.types("repository", "keys", "main", "remove", "recovery kit", "--reason", "an old paper")

    assert told == {"repository": "main", "kit_file": str(tmp_path / "new.txt")}
    assert (wrong[0], right[0], removed[0]) == (Exit.PERMISSION, Exit.OK, Exit.OK)
    assert labels(terminal) == ["application", "safe"]


@pytest.mark.usefixtures("_worker")
def test_a_passphrase_is_added_and_changed_and_new_keys_are_drawn(terminal: Terminal, typed: Typed) -> None:  # noqa: F811
    typed("correct horse")
    terminal.asks("repository", "keys", "main", "add", "--label", "Ann")
    typed("correct horse", "battery staple")
    terminal.asks("repository", "keys", "main", "change")

    rotated = terminal.asks("repository", "keys", "main", "rotate", "--reason", "a laptop was stolen")
    renewed = terminal.asks("repository", "keys", "main", "renew")
    shown = terminal.types("repository", "keys", "main", "list")[1]

    assert (rotated["epoch"], renewed["epoch"]) == (2, 2)
    assert labels(terminal) == ["Ann", "application", "recovery kit"]
    assert "application  (this console)" in shown
    assert "correct horse" not in shown


@pytest.mark.usefixtures("_worker")
def test_a_keyfile_comes_from_a_file(terminal: Terminal, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "ann.key").write_bytes(os.urandom(32))
    words = ("repository", "keys", "main", "add", "--kind", "keyfile", "--label", "Ann")

    nothing = terminal.types(*words)
    nowhere = terminal.types(*words, "--keyfile", str(tmp_path / "none"))
    terminal.asks(*words, "--keyfile", str(tmp_path / "ann.key"))

    assert (nothing[0], nowhere[0]) == (Exit.USAGE, Exit.USAGE)
    assert labels(terminal) == ["Ann", "application", "recovery kit"]
