"""Giving space back from the engine's own command line: one run marks, a later one sweeps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from backups.engine import __main__ as engine
from backups.engine import choosing
from tests.engine.test_command_line import told
from tests.engine.test_compaction import noise


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two snapshots, of which the first and larger one is forgotten."""
    monkeypatch.setenv("AIHUB_CACHE_DIR", str(tmp_path / "cache"))
    place, data = tmp_path / "repository", tmp_path / "data"
    data.mkdir()
    (data / "large").write_bytes(noise("large", 300_000))
    assert told(monkeypatch, "init", place) == 0
    assert told(monkeypatch, "backup", place, data) == 0
    (data / "large").unlink()
    (data / "small").write_bytes(noise("small", 1000))
    assert told(monkeypatch, "backup", place, data) == 0
    return place


def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, int]:
    """What a command tells as JSON."""
    capsys.readouterr()
    assert told(monkeypatch, *words, "--json") == 0
    answer: dict[str, int] = json.loads(capsys.readouterr().out)
    return answer


def size(place: Path) -> int:
    return sum(path.stat().st_size for path in (place / "packs").rglob("*") if path.is_file())


def forget_first(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert told(monkeypatch, "list", place, "--json") == 0
    first = json.loads(capsys.readouterr().out)[0]["id"]
    assert told(monkeypatch, "forget", place, first[:12]) == 0


def test_a_dry_run_tells_what_would_come_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(monkeypatch, capsys, "compact", place, "--dry-run")["freed"] == 0
    forget_first(place, monkeypatch, capsys)
    before = size(place)

    plan = asked(monkeypatch, capsys, "compact", place, "--dry-run")

    assert plan["freed"] >= 300_000
    assert plan["stored"] == before == size(place)


def test_a_second_run_a_day_later_gives_the_space_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_first(place, monkeypatch, capsys)

    first = asked(monkeypatch, capsys, "compact", place)
    assert (first["deleted"], first["marked"] >= 300_000) == (0, True)
    assert asked(monkeypatch, capsys, "compact", place)["deleted"] == 0
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + choosing.GRACE + 1)
    second = asked(monkeypatch, capsys, "compact", place)

    assert second["freed"] >= 300_000
    assert size(place) < 10_000
    assert told(monkeypatch, "check", place, "--read-data") == 0
    assert told(monkeypatch, "restore", place, "--target", place.parent / "back") == 0
    assert (place.parent / "back" / "small").read_bytes() == noise("small", 1000)


@pytest.mark.parametrize("words", [("--budget", "much"), ("--budget", "5X"), ("--unused", "120"), ("--unused", "x")])
def test_what_makes_no_sense_is_refused_before_anything_is_touched(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    before = size(place)

    assert told(monkeypatch, "compact", place, *words) == engine.EXIT_USAGE

    assert size(place) == before


def test_a_budget_may_be_told_in_larger_units(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("0", "500M", "2g", "1T"):
        assert told(monkeypatch, "compact", place, "--budget", words) == 0
