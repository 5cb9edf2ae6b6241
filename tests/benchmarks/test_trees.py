"""The judge of all restores is judged: it finds nothing in a faithful copy, and every single change."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import trees
from benchmarks.compare import CONTENT, Difference, same_tree

SMALL = trees.Hardships(files=600, large=5 << 20, sparse=1 << 30, path=8000, links=5)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[bytes]:
    """A folder for trees too deep for pytest to remove."""
    yield os.fsencode(tmp_path)
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


@pytest.fixture
def hard_tree(here: bytes) -> bytes:
    root = os.path.join(here, b"hard")
    trees.grow(root, SMALL)
    return root


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two small trees that are the same."""
    for name in ("a", "b"):
        folder = tmp_path / name / "folder"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(3 << 20))
        (folder / "other").write_bytes(b"other")
        (folder / "one").write_bytes(b"linked")
        os.link(folder / "one", folder / "two")
        os.symlink("file", folder / "link")
        os.mkfifo(folder / "fifo")
        _settle(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def _settle(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        os.utime(path, (1e9, 1e9), follow_symlinks=False)


def compared(pair: tuple[Path, Path]) -> list[Difference]:
    return same_tree(*map(os.fsencode, pair))


def test_it_grows_everything_that_breaks_backup_tools(hard_tree: bytes) -> None:
    kinds = {stat.S_IFMT(os.lstat(os.path.join(hard_tree, b"special", name)).st_mode) for name in (b"fifo", b"socket")}
    large = os.stat(os.path.join(hard_tree, b"large", b"sparse"))

    assert kinds == {stat.S_IFIFO, stat.S_IFSOCK}
    assert (large.st_size, large.st_blocks * 512 < 1 << 20) == (1 << 30, True)
    assert os.stat(os.path.join(hard_tree, b"links", b"first")).st_nlink == 6
    assert set(os.listdir(os.path.join(hard_tree, b"names"))) > set(trees.STRANGE_NAMES)
    assert len(os.listdir(os.path.join(hard_tree, b"small", b"000500"))) == 100


def test_a_faithful_copy_is_the_same(here: bytes) -> None:
    original, copy = os.path.join(here, b"original"), os.path.join(here, b"copy")
    trees.grow(original, replace(SMALL, path=2000))  # cp cannot go deeper
    subprocess.run(["cp", "-a", "--sparse=always", os.path.join(original, b"."), copy], check=True)

    assert same_tree(original, copy) == []


def test_it_sees_what_lies_below_long_paths(hard_tree: bytes) -> None:
    copy = hard_tree + b"-copy"
    trees.grow(copy, SMALL)
    folder = os.open(os.path.join(copy, b"deep"), os.O_RDONLY)
    while b"bottom" not in map(os.fsencode, os.listdir(folder)):
        folder = os.open(b"d" * 200, os.O_RDONLY, dir_fd=folder)
    os.unlink(b"bottom", dir_fd=folder)

    found = same_tree(hard_tree, copy, aspects=(CONTENT,))

    assert [(difference.aspect, difference.found) for difference in found] == [("it", "missing")]
    assert len(found[0].path) > 8000


def test_two_growths_of_one_seed_hold_the_same_bytes(hard_tree: bytes) -> None:
    trees.grow(hard_tree + b"-again", SMALL)

    assert same_tree(hard_tree, hard_tree + b"-again", aspects=(CONTENT, "mode", "owner", "xattrs", "links")) == []


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"\x01")


def _break_link(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"linked")


def _replace_fifo(path: Path) -> None:
    path.unlink()
    path.touch()


def _redirect(path: Path) -> None:
    path.unlink()
    path.symlink_to("else")


def _fill_hole(path: Path) -> None:
    path.write_bytes(bytes(4 << 20))


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "content": (lambda folder: _flip(folder / "file"), {"content"}),
    "size": (lambda folder: os.truncate(folder / "other", 4), {"size"}),
    "missing": (lambda folder: (folder / "other").unlink(), {"it"}),
    "surplus": (lambda folder: (folder / "new").touch(), {"it"}),
    "kind": (lambda folder: _replace_fifo(folder / "fifo"), {"kind"}),
    "mode": (lambda folder: (folder / "other").chmod(0o4755), {"mode"}),
    "owner": (lambda folder: os.chown(folder / "other", 1, -1), {"owner"}),
    "time": (lambda folder: os.utime(folder / "link", (0, 0), follow_symlinks=False), {"mtime"}),
    "target": (lambda folder: _redirect(folder / "link"), {"target"}),
    "attribute": (lambda folder: os.setxattr(folder / "other", "user.note", b"x"), {"xattrs"}),
    "link": (lambda folder: _break_link(folder / "two"), {"hard links"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_finds_every_single_change(pair: tuple[Path, Path], change: str) -> None:
    deed, aspects = CHANGES[change]
    if change == "owner" and os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    assert compared(pair) == []

    deed(pair[1] / "folder")
    if change != "time":
        _settle(pair[1])

    assert {difference.aspect for difference in compared(pair)} == aspects


def test_it_tells_where_the_first_difference_is(pair: tuple[Path, Path]) -> None:
    _flip(pair[1] / "folder" / "file")
    _settle(pair[1])

    (difference,) = compared(pair)

    assert str(difference) == "b'folder/file': content is different at byte 2000000, not the same"


def test_filled_holes_are_a_difference(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "file").open("wb") as file:
            file.truncate(4 << 20)
    _fill_hole(tmp_path / "b" / "file")
    for name in ("a", "b"):
        _settle(tmp_path / name)

    (difference,) = compared((tmp_path / "a", tmp_path / "b"))

    assert difference.aspect == "room on disk"


def test_a_socket_may_be_missing_and_nothing_else(pair: tuple[Path, Path]) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(pair[0] / "socket"))
    _settle(pair[0])

    assert compared(pair) == []
    assert [difference.path for difference in compared((pair[1], pair[0]))] == [b"socket"]


def test_it_stops_at_its_limit(pair: tuple[Path, Path]) -> None:
    for number in range(30):
        (pair[1] / f"new-{number}").touch()

    assert len(same_tree(*map(os.fsencode, pair), limit=10)) == 10
