"""Who holds a way in, from a terminal: `python -m backups.engine keys REPOSITORY list|add|change|remove|rotate`."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backups.engine import __main__ as engine
from backups.engine import given, keys
from backups.engine.errors import InvalidOption

Told = Callable[..., tuple[int, Any]]
CHEAP = {"name": "argon2id", "t": 1, "m": 8 << 10, "p": 1}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys, "ARGON2", CHEAP)
    monkeypatch.setenv("AIHUB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "repository"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The exit code and the last JSON document of one command; secrets come as words of the call."""

    def run(verb: str, place: Path, *words: str | Path, **variables: str) -> tuple[int, Any]:
        with monkeypatch.context() as here:
            for name, value in variables.items():
                here.setenv(f"AIHUB_{name}", value)
            code = engine.main([verb, "--json", str(place), *map(str, words)])
        out = capsys.readouterr().out.splitlines()
        return code, json.loads(out[-1]) if out else None

    return run


def test_everything_about_keys_goes_from_a_terminal(place: Path, told: Told, tmp_path: Path) -> None:
    code = told("init", place, "--recovery-code", PASSPHRASE="correct horse")[1]["recovery_code"]

    added = told("keys", place, "add", "--keyfile", tmp_path / "ann.key", "--label", "Ann", PASSPHRASE="correct horse")
    changed = told("keys", place, "change", PASSPHRASE="correct horse", NEW_PASSPHRASE="battery staple")
    epoch = told("keys", place, "rotate", RECOVERY_CODE=code)
    paper = told("keys", place, "add", "--recovery-code", "--label", "safe", PASSPHRASE="battery staple")
    removed = told("keys", place, "remove", "recovery code", PASSPHRASE="battery staple")
    listed = told("keys", place, "list", KEYFILE=str(tmp_path / "ann.key"))

    assert [one[0] for one in (added, changed, epoch, paper, removed, listed)] == [0] * 6
    assert stat.S_IMODE((tmp_path / "ann.key").stat().st_mode) == 0o600
    assert epoch[1] == {"epoch": 2, "packs_of_older_epochs": 0}
    slots = sorted((row["label"], row["kind"], row["opened"]) for row in listed[1]["slots"])
    assert slots == [("Ann", "keyfile", True), ("command line", "passphrase", False), ("safe", "recovery", False)]
    assert told("list", place, RECOVERY_CODE=paper[1]["recovery_code"])[0] == 0
    assert told("list", place, PASSPHRASE="correct horse")[0] == engine.EXIT_NOT_ALLOWED
    assert told("list", place, RECOVERY_CODE=code)[0] == engine.EXIT_NOT_ALLOWED


def test_what_is_still_under_older_keys_is_told(place: Path, told: Told, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_bytes(b"of yesterday")
    told("init", place, "--recovery-code", PASSPHRASE="correct horse")
    told("backup", place, tmp_path / "data", PASSPHRASE="correct horse")
    told("keys", place, "rotate", PASSPHRASE="correct horse")

    found = told("keys", place, "list", PASSPHRASE="correct horse")[1]

    assert (found["epoch"], found["packs_of_older_epochs"]) == (2, 2)
    assert found["bytes_of_older_epochs"] == sum(
        path.stat().st_size for path in (place / "packs").rglob("*") if path.is_file()
    )


def test_the_way_in_that_is_used_is_removed_with_another_secret(place: Path, told: Told) -> None:
    code = told("init", place, "--recovery-code", PASSPHRASE="correct horse")[1]["recovery_code"]
    told("keys", place, "add", "--label", "Bob", PASSPHRASE="correct horse", NEW_PASSPHRASE="of Bob")

    refused = told("keys", place, "remove", "command line", PASSPHRASE="correct horse")
    done = told("keys", place, "remove", "command line", PASSPHRASE="correct horse", OTHER_RECOVERY_CODE=code)

    assert (refused[0], refused[1]["code"]) == (engine.EXIT_USAGE, "InvalidOption")
    assert done[0] == 0
    assert told("list", place, PASSPHRASE="correct horse") == (
        engine.EXIT_NOT_ALLOWED,
        {
            "error": "The passphrase is wrong: the repository's key slots are intact, and it opens none of them.",
            "code": "WrongSecret",
        },
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Say what to do: --to DIR, or one of list, add, change, remove, rotate"),
        (("add", "--label", "Bob"), "Set AIHUB_NEW_PASSPHRASE, or ask for --recovery-code or --keyfile FILE"),
        (("remove", "Zoe"), "No key slot is called 'Zoe'; there are:"),
        (("add", "--label", "Bob", "--keyfile", "/nowhere/key"), "The keyfile /nowhere/key cannot be made"),
    ],
    ids=["nothing", "no secret", "nobody", "no place"],
)
def test_words_that_cannot_be_followed_are_refused_with_the_cure(
    place: Path, told: Told, words: tuple[str, ...], sentence: str
) -> None:
    told("init", place, "--recovery-code", PASSPHRASE="correct horse")

    code, said = told("keys", place, *words, PASSPHRASE="correct horse")

    assert code == engine.EXIT_USAGE
    assert sentence in said["error"]


def test_a_keyfile_gets_its_name_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(os, "fsync", killed)
        given.made(str(tmp_path / "ann.key"), b"k" * 32)
    left = list(tmp_path.iterdir())
    given.made(str(tmp_path / "ann.key"), b"k" * 32)

    assert left == []
    assert (tmp_path / "ann.key").read_bytes() == b"k" * 32
    assert (tmp_path / "ann.key").stat().st_mode & 0o777 == 0o600


def test_a_keyfile_takes_the_place_of_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "ann.key").write_bytes(b"old")

    with pytest.raises(InvalidOption, match=r"The keyfile .* cannot be made: "):
        given.made(str(tmp_path / "ann.key"), b"k" * 32)

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_people_read_it_in_lines(
    place: Path, told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told("init", place, "--recovery-code", PASSPHRASE="correct horse")
    monkeypatch.setenv("AIHUB_PASSPHRASE", "correct horse")

    assert engine.main(["keys", str(place), "list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Key epoch 1."
    assert [line for line in lines if "command line  (opened now)" in line and "passphrase" in line]
