"""`python -m backups.engine copy REPOSITORY TO`: no secret is asked for, and the exit code tells what became of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backups.engine import __main__ as engine
from backups.engine import choosing, keys
from tests.engine.specimen import CHEAP
from tests.engine.test_command_line import told
from tests.engine.test_compaction import noise
from tests.servers.s3 import OWNER, S3Server

Copied = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one snapshot of a directory beside it."""
    monkeypatch.setattr(keys, "ARGON2", CHEAP)
    monkeypatch.setenv("AIHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(noise("file", 200_000))
    assert told(monkeypatch, "init", tmp_path / "repository") == 0
    assert told(monkeypatch, "backup", tmp_path / "repository", tmp_path / "data") == 0
    return tmp_path / "repository"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Copied:
    """Exit code, JSON and sentences of one copy. There is no secret in the environment."""

    def run(*words: object) -> tuple[int, Any, str]:
        capsys.readouterr()
        monkeypatch.delenv("AIHUB_PASSPHRASE", raising=False)
        try:
            code = engine.main(["copy", "--json", *map(str, words)])
        except SystemExit as end:
            code = int(end.code or 0)
        heard = capsys.readouterr()
        return code, json.loads(heard.out) if heard.out else None, heard.err

    return run


def objects(place: Path) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(place)): path.read_bytes() for path in files if "quarantine" not in path.parts}


def test_a_copy_is_made_and_restored_from(place: Path, copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    to = place.parent / "copy"

    code, result, said = copied(place, to)

    assert (code, said, result["problems"], result["gone"]) == (0, "", [], 0)
    assert result["copied"] == result["objects"] == len(objects(place))
    assert objects(to) == objects(place)
    assert told(monkeypatch, "check", to, "--read-data") == 0
    assert told(monkeypatch, "restore", to, "--target", place.parent / "back") == 0
    assert (place.parent / "back" / "file").read_bytes() == noise("file", 200_000)


def test_a_second_run_brings_what_is_new(place: Path, copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    to = place.parent / "copy"
    copied(place, to)
    (place.parent / "data" / "more").write_text("more")
    assert told(monkeypatch, "backup", place, place.parent / "data") == 0

    results = [copied(place, to)[1]["copied"] for _ in range(2)]

    assert results == [4, 0]
    assert objects(to) == objects(place)


def test_damage_in_the_repository_is_named_and_ends_with_the_code_of_damage(place: Path, copied: Copied) -> None:
    pack = next(path for path in place.rglob("packs/*/*"))
    pack.chmod(0o600)
    pack.write_bytes(b"no longer a pack")
    name = str(pack.relative_to(place))

    code, result, said = copied(place, place.parent / "copy")

    assert code == engine.EXIT_DAMAGE
    assert result["problems"] == [{"object": name, "message": "its SHA-256 is not its name"}]
    assert f"{name}: its SHA-256 is not its name" in said


def test_damage_in_the_copy_is_found_when_it_is_read_and_healed(place: Path, copied: Copied) -> None:
    to = place.parent / "copy"
    copied(place, to)
    pack = next(path for path in to.rglob("packs/*/*"))
    wrong = pack.read_bytes()[:-1] + b"!"
    pack.chmod(0o600)
    pack.write_bytes(wrong)

    quick, thorough = copied(place, to)[1], copied(place, to, "--verify")[1]

    assert (quick["copied"], thorough["copied"]) == (0, 1)
    assert list(thorough["replaced"]) == [str(pack.relative_to(to))]
    assert objects(to) == objects(place)
    assert [(to / aside).read_bytes() for aside in thorough["set_aside"]] == [wrong]


def test_what_the_repository_let_go_stays_and_goes_when_it_is_asked_for(
    place: Path, copied: Copied, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The days are counted from the first run that saw it gone."""
    to = place.parent / "copy"
    copied(place, to)
    forget_and_compact(place, monkeypatch, capsys)
    kept = copied(place, to)[1]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 6 * 86400)
    early = copied(place, to, "--delete-after", "7")[1]
    monkeypatch.setattr(time, "time", lambda: now + 8 * 86400)
    late = copied(place, to, "--delete-after", "7")[1]

    assert kept["bytes_gone"] > 200_000
    assert (early["deleted"], early["gone"]) == (0, kept["gone"])
    assert (late["deleted"], late["bytes_deleted"], late["gone"]) == (kept["gone"], kept["bytes_gone"], 0)
    assert objects(to) == objects(place)


def forget_and_compact(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All that there was, with the day between the mark and the sweep gone by."""
    capsys.readouterr()
    assert told(monkeypatch, "list", place, "--json") == 0
    assert told(monkeypatch, "forget", place, json.loads(capsys.readouterr().out)[0]["id"]) == 0
    assert told(monkeypatch, "compact", place) == 0
    with monkeypatch.context() as later:
        now = time.time()
        later.setattr(time, "time", lambda: now + choosing.GRACE + 1)
        assert told(later, "compact", place) == 0


def test_a_disk_that_is_not_mounted_is_not_taken_for_a_new_place(place: Path, copied: Copied) -> None:
    to = place.parent / "mount"
    copied(place, to)
    shutil.rmtree(to)
    to.mkdir()

    code, _, said = copied(place, to)
    again = copied(place, to, "--new")

    assert code == engine.EXIT_NOT_FOUND
    assert "mount the disk it is on" in said
    assert "with --new it is made anew" in said
    assert again[0] == 0
    assert objects(to) == objects(place)


def test_another_repository_in_the_way_is_left_alone(
    place: Path, copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(monkeypatch, "init", place.parent / "other") == 0
    before = objects(place.parent / "other")

    code, _, said = copied(place, place.parent / "other")

    assert code == engine.EXIT_FAILED
    assert "choose an empty place, or that of a copy of this one" in said
    assert objects(place.parent / "other") == before


@pytest.mark.parametrize("to", [".", "packs", "..", "../../elsewhere/../repository"])
def test_a_copy_in_the_repository_itself_is_refused(place: Path, copied: Copied, to: str) -> None:
    (place.parent / "elsewhere").mkdir()
    before = objects(place)

    code, _, said = copied(place, place / to.replace("../../elsewhere", "../elsewhere"))

    assert code == engine.EXIT_USAGE
    assert "lie in one another; choose another directory" in said
    assert objects(place) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--parallel", "0"), "give 1 to 64"),
        (("--parallel", "100"), "give 1 to 64"),
        (("--delete-after", "-1"), "give 0 to 36500"),
        (("--delete-after", "nan"), "give 0 to 36500"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    place: Path, copied: Copied, words: tuple[str, str], sentence: str
) -> None:
    code, _, said = copied(place, place.parent / "copy", *words)

    assert (code, sentence in said) == (engine.EXIT_USAGE, True)
    assert not (place.parent / "copy").exists()


def test_a_repository_that_is_not_there_is_told(tmp_path: Path, copied: Copied) -> None:
    code, _, said = copied(tmp_path / "nowhere", tmp_path / "copy")

    assert code == engine.EXIT_NOT_FOUND
    assert "nowhere" in said
    assert not (tmp_path / "copy").exists()


def test_a_copy_goes_to_a_bucket_and_back(
    place: Path, copied: Copied, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends read the same variables."""
    options = s3_server.options()
    monkeypatch.setenv("AIHUB_S3_ENDPOINT", s3_server.url)
    address = f"s3://{options['bucket']}/{options['prefix']}"
    for source, to in ((place, address), (address, place.parent / "back")):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
        assert copied(source, to, "--parallel", "8")[0] == 0

    assert objects(place.parent / "back") == objects(place)


def test_a_bucket_is_no_copy_of_itself(copied: Copied, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_S3_ENDPOINT", s3_server.url)

    code, _, said = copied("s3://tests/here", "s3://tests/here/")

    assert code == engine.EXIT_USAGE
    assert "The copy would be the repository itself" in said


def test_a_memory_that_is_spoilt_only_begins_the_delay_anew(place: Path, copied: Copied) -> None:
    to = place.parent / "copy"
    copied(place, to)
    (memory,) = (place.parent / "cache" / "copies").iterdir()
    for text in ("", "{}", '{"gone": 5}', "[]"):
        memory.write_text(text)

        assert copied(place, to)[0] == 0
