"""The engine's own command line: what it refuses before anything is touched, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backups.engine import __main__ as engine

PASSPHRASE = "correct horse"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, and a directory with one file beside it."""
    monkeypatch.setenv("AIHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("content")
    place = tmp_path / "repository"
    assert told(monkeypatch, "init", place) == 0
    return place


def told(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of one command."""
    monkeypatch.setenv("AIHUB_PASSPHRASE", PASSPHRASE)
    try:
        return engine.main([*map(str, words), "--quiet"])
    except SystemExit as end:
        return int(end.code or 0)


def test_a_repository_is_never_backed_up_into_itself(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))

    codes = [told(monkeypatch, "backup", place, source) for source in (place, place / "packs", place.parent)]

    assert codes == [engine.EXIT_FAILED] * 3
    assert "each backup would store those before it" in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(("closed", "code"), [("2>&-", 0), (">/dev/full", engine.EXIT_FAILED)])
def test_what_nobody_wants_to_hear_is_no_error_and_what_cannot_be_told_is_one(
    place: Path, closed: str, code: int
) -> None:
    command = f'"$0" -m backups.engine backup --quiet --json "$1" "$2" {closed}'
    words = ["sh", "-c", command, sys.executable, str(place), str(place.parent / "data")]

    ended = subprocess.run(words, env={**os.environ, "AIHUB_PASSPHRASE": PASSPHRASE}, check=False)

    assert ended.returncode == code
    assert len(list((place / "log").rglob("*-*"))) == 2  # of the keys and of the snapshot


def test_a_secret_that_does_not_open_is_told_before_a_source_that_is_not_there(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__name__ + ".PASSPHRASE", "battery staple")

    code = told(monkeypatch, "backup", place, place.parent / "absent")

    assert code == engine.EXIT_NOT_ALLOWED
    assert "absent" not in capsys.readouterr().err


def test_a_repository_that_is_left_out_is_no_loop(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, "backup", place, place.parent, "--exclude", place, "--exclude", "cache") == 0


def test_nothing_is_restored_into_the_repository(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, "backup", place, place.parent / "data") == 0

    code = told(monkeypatch, "restore", place, "--target", place / "back")

    assert code == engine.EXIT_FAILED
    assert "--target lies in the repository" in capsys.readouterr().err
    assert not (place / "back").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("backup", "PLACE", "/srv", "--level", "999"), "invalid choice"),
        (("backup", "PLACE", "/srv", "--workers", "99999999"), "give 0 to 256"),
        (("check", "PLACE", "--read-share", "9"), "up to 1"),
        (("check", "PLACE", "--read-share", "nan"), "up to 1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...],
    sentence: str,
) -> None:  # fmt: skip
    code = told(monkeypatch, *(place if word == "PLACE" else word for word in words))

    assert code == engine.EXIT_USAGE
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["AIHUB_PASSPHRASE", "AIHUB_RECOVERY_CODE", "AIHUB_KEYFILE"])
def test_an_empty_secret_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv(name, "")

    code = engine.main(["init", str(tmp_path / "repository")])

    assert code == engine.EXIT_USAGE
    assert f"{name} is empty. Set AIHUB_PASSPHRASE, AIHUB_RECOVERY_CODE or AIHUB_KEYFILE" in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()


def test_a_secret_is_taken_although_another_variable_is_empty(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_RECOVERY_CODE", "")

    assert told(monkeypatch, "list", place) == 0


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "Set AIHUB_PASSPHRASE, AIHUB_RECOVERY_CODE or AIHUB_KEYFILE"),
        ({"AIHUB_KEYFILE": "/nowhere/key"}, "The keyfile /nowhere/key cannot be read: no such file"),
        ({"AIHUB_KEYFILE": "/dev/null"}, "A keyfile holds at least 32 random bytes"),
    ],
)
def test_a_secret_that_cannot_be_used_is_wrong_words(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str],
    sentence: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("AIHUB_PASSPHRASE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    code = engine.main(["list", str(place)])

    assert code == engine.EXIT_USAGE
    assert sentence in capsys.readouterr().err


def test_an_address_without_a_bucket_is_wrong_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, "list", "s3://") == engine.EXIT_USAGE
    assert "write s3://BUCKET" in capsys.readouterr().err


def test_a_directory_that_is_not_there_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it sleeps for {seconds} s"))

    code = told(monkeypatch, "list", tmp_path / "nowhere")

    assert code == engine.EXIT_NOT_FOUND
    assert f"no store of ours in the directory {tmp_path}/nowhere" in capsys.readouterr().err


ODD = os.fsdecode(b"odd\xff")  # a name that is no UTF-8, as it comes from the command line


def test_odd_names_are_told_in_one_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIHUB_CACHE_DIR", str(tmp_path / "cache"))
    place, source = tmp_path / f"place-{ODD}", tmp_path / f"source-{ODD}"
    source.mkdir()
    (source / "file").write_text("content")

    codes = [
        told(monkeypatch, "init", place),
        told(monkeypatch, "backup", place, source, "--exclude", f"*.{ODD}"),
        told(monkeypatch, "list", place, source, "--snapshot", "latest"),
        told(monkeypatch, "restore", place, "--target", place / "inside"),
        told(monkeypatch, "restore", place, "--target", tmp_path / f"back-{ODD}"),
        told(monkeypatch, "backup", place, place),
    ]

    out, err = capfd.readouterr()
    assert codes == [0, 0, 0, engine.EXIT_FAILED, 0, engine.EXIT_FAILED]
    assert r"place-odd\xff." in out
    assert r"source-odd\xff/file" in out
    assert r"--target lies in the repository" in err
    assert "udcff" not in out + err
    assert (tmp_path / f"back-{ODD}" / "file").read_text() == "content"


def test_progress_and_result_of_a_restore_speak_of_items_as_a_backup_does(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(monkeypatch, "backup", place, place.parent / "data") == 0

    assert told(monkeypatch, "restore", place, "--target", place.parent / "back") == 0

    assert "2 items, 7 bytes restored" in capsys.readouterr().out  # the directory and its file


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_that_may_not_be_restored_is_no_damage(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mknod(place.parent / "data" / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert told(monkeypatch, "backup", place, place.parent / "data") == 0

    without = told(monkeypatch, "restore", place, "--target", place.parent / "one")
    privileged = told(monkeypatch, "restore", place, "--target", place.parent / "two", "--privileges")

    assert (without, privileged) == (engine.EXIT_WARNINGS, 0)
    assert (place.parent / "two" / "null").is_char_device()


def test_a_config_of_a_thousand_brackets_is_damage_and_no_crash(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "config").write_text("[" * 50_000)

    assert told(monkeypatch, "check", place) == engine.EXIT_DAMAGE
    assert told(monkeypatch, "list", place) == 0


# ----------------------------------------------------------------------- repair


@pytest.fixture
def copied(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository with one snapshot, whose only data pack is damaged since in the repository itself."""
    assert told(monkeypatch, "backup", place, place.parent / "data") == 0
    copy = place.parent / "copy"
    shutil.copytree(place, copy)
    for pack in place.glob("packs/*/*"):
        data = pack.read_bytes()
        pack.chmod(0o600)
        pack.write_bytes(data[:70] + bytes(20) + data[90:])
    return copy


def test_a_repair_is_foretold_done_and_proved(
    place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    codes = [told(monkeypatch, "repair", place, "--from", copied, "--dry-run")]
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    codes += [told(monkeypatch, "repair", place, "--from", copied), told(monkeypatch, "check", place, "--read-data")]
    codes += [told(monkeypatch, "repair", place)]

    words = capsys.readouterr().out
    assert codes == [engine.EXIT_DAMAGE, 0, 0, 0]
    assert "to be replaced packs/" in words
    assert "2 remedies found" in words
    assert "2 remedies applied" in words
    assert "0 remedies applied, 0 bytes from copies, 0 problems left" in words


def test_what_a_repair_cannot_heal_is_told(
    place: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied / "packs")

    code = told(monkeypatch, "repair", place, "--from", copied, "--json")

    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == engine.EXIT_DAMAGE
    assert len(result["problems"]) == 2
    assert {problem["object"][:6] for problem in result["problems"]} == {"packs/"}
    assert result["deeds"] == []


def test_a_repair_from_a_place_that_is_not_there_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = told(monkeypatch, "repair", place, "--from", place.parent / "nowhere")

    assert code == engine.EXIT_NOT_FOUND
    assert "nowhere" in capsys.readouterr().err
