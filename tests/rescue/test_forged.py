"""Whoever has a secret of the repository can write any list into it. None of them leads out of the target."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups import rescue
from backups.rescue import Entry, Restorer

CONTENT = b"forged"
ID = bytes(32)


class Holding(rescue.Repository):
    """A repository that holds one blob, and needs no place."""

    def __init__(self) -> None:
        """Nothing is read."""

    def blob(self, id_: bytes) -> bytes:
        assert id_ == ID
        return CONTENT


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "target"


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    """Each story begins and ends with nothing to report."""
    rescue.say.said, rescue.say.code = set(), 0
    yield
    rescue.say.said, rescue.say.code = set(), 0


def entry(path: bytes, kind: int = 1, target: bytes = b"", size: int = len(CONTENT), proof: bytes = b"") -> Entry:
    content = ID + (proof or hashlib.sha256(CONTENT).digest())
    return Entry(path, kind, 0o600, os.getuid(), os.getgid(), 0, None, size, content, {"target": target}, "")


def everything(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.parametrize(
    "path", [b"..", b"../outside/evil", b"a/../../outside/evil", b"/etc/evil", b"./evil", b"evil/", b"ev\0il", b"a//b"]
)
def test_a_path_that_leads_elsewhere_is_refused(target: Path, path: bytes) -> None:
    restorer = Restorer(Holding(), str(target))

    restorer.restore(entry(path))

    assert everything(target.parent) == ["outside", "target"]
    assert rescue.say.code == 5
    assert any("has a path that no file can have" in sentence for sentence in rescue.say.said)


def test_a_link_is_never_followed(target: Path) -> None:
    restorer = Restorer(Holding(), str(target))

    restorer.restore(entry(b"way", kind=3, target=b"../outside"))
    restorer.restore(entry(b"way/evil"))

    assert everything(target.parent) == ["outside", "target", "target/way"]
    assert "/way/evil could not be made: File exists." in rescue.say.said


def test_a_file_that_is_listed_twice_is_not_replaced(target: Path) -> None:
    restorer = Restorer(Holding(), str(target))

    restorer.restore(entry(b"same", kind=3, target=b"first"))
    restorer.restore(entry(b"same"))

    assert os.readlink(target / "same") == "first"
    assert "/same is listed twice; it was not restored." in rescue.say.said


@pytest.mark.parametrize("wrong", [{"size": 5}, {"size": 7}, {"proof": b"\1" * 32}])
def test_a_file_that_is_not_what_its_entry_says_gets_no_name(target: Path, wrong: dict[str, int]) -> None:
    restorer = Restorer(Holding(), str(target))

    restorer.restore(entry(b"file", **wrong))  # type: ignore[arg-type]  # one of them is bytes

    assert everything(target) == []
    assert "/file does not have the content that was written; it was not restored." in rescue.say.said


def test_a_directory_whose_entry_is_lost_is_made_for_what_is_in_it(target: Path) -> None:
    restorer = Restorer(Holding(), str(target))

    restorer.restore(entry(b"lost/file"))
    restorer.go([])

    assert (target / "lost" / "file").read_bytes() == CONTENT
    assert rescue.say.code == 0


def test_names_come_back_from_what_a_terminal_shows() -> None:
    for path in (b"plain", b"new\nline", b"\xff\xfe", b"back\\slash", rb"\x41", "数据 é".encode(), bytes(range(1, 47))):
        assert rescue.unshown(rescue.shown(path)) == path
