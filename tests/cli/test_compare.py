"""The demo's witness: it must notice every kind of difference, or its word is worth nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aihub_backup.cli import compare, demo_data
from aihub_backup.cli.demo_data import Scale

TINY = Scale(files=40, weights=20_000, log=9_000, rows=200)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    demo_data.make_files(tmp_path / "tree", TINY)
    return tmp_path / "tree"


def test_it_makes_the_same_data_from_the_same_seed(tree: Path, tmp_path: Path) -> None:
    demo_data.make_files(tmp_path / "again", TINY)

    assert compare.compare_trees(compare.read_tree(tree), compare.read_tree(tmp_path / "again")) == []


def test_it_changes_the_same_things_in_the_same_way(tree: Path, tmp_path: Path) -> None:
    demo_data.make_files(tmp_path / "again", TINY)
    for root in (tree, tmp_path / "again"):
        demo_data.change_files(root)
        demo_data._settle(root)

    assert compare.compare_trees(compare.read_tree(tree), compare.read_tree(tmp_path / "again")) == []


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip(path: Path) -> None:
    """One bit, with the same size and the same times."""
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def nanosecond(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def untie(path: Path) -> None:
    """The hard link becomes a copy."""
    content, facts = path.read_bytes(), path.stat()
    folder = path.parent.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(0, facts.st_mtime_ns))
    os.utime(path.parent, ns=(0, folder.st_mtime_ns))


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("models/base.bin", flip, "content"),
        ("models/base.bin", grow, "size"),
        ("models/base.bin", lambda path: path.chmod(0o600), "mode"),
        ("models", nanosecond, "modified_ns"),
        ("odd/shared again", untie, "same_as"),
        ("odd/relative link", retarget, "content"),
        ("odd/pipe", lambda path: path.chmod(0o600), "mode"),
        ("odd/empty folder", lambda path: path.rmdir(), "is missing"),
        ("odd/empty", lambda path: path.with_name("new").touch(), "should not be there"),
        ("logs", lambda path: shutil.rmtree(path), "is missing"),
    ],
)
def test_it_notices_every_difference(tree: Path, name: str, change: Callable[[Path], None], word: str) -> None:
    before = compare.read_tree(tree)

    change(tree / name)

    assert any(word in problem for problem in compare.compare_trees(before, compare.read_tree(tree)))


@pytest.fixture
def databases(tmp_path: Path) -> tuple[Path, Path]:
    paths = (tmp_path / "one.sqlite3", tmp_path / "two.sqlite3")
    for path in paths:
        demo_data.make_database(path, TINY).close()
    return paths


def test_it_finds_equal_databases_equal(databases: tuple[Path, Path]) -> None:
    assert compare.compare_databases(*databases) == []
    assert compare.count_rows(databases[0]) == 231


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE runs SET note = 'x' WHERE id = 150", "table runs: row 150 differs"),
        ("UPDATE users SET joined = 1 WHERE id = 3", "table users: row 3 differs"),
        ("DELETE FROM labels WHERE name = 'label-9'", "table labels: row 9 differs"),
        ("DROP VIEW heavy", "the schema differs"),
        ("PRAGMA user_version = 8", "the schema differs"),
    ],
)
def test_it_notices_a_different_database(databases: tuple[Path, Path], statement: str, sentence: str) -> None:
    with sqlite3.connect(databases[1]) as connection:
        connection.execute(statement)
    connection.close()

    assert compare.compare_databases(*databases) == [sentence]


def test_it_notices_a_number_of_another_type(databases: tuple[Path, Path]) -> None:
    for path, number in zip(databases, (1, 1.0), strict=True):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE loose (value)")
            connection.execute("INSERT INTO loose VALUES (?)", (number,))
        connection.close()

    assert compare.compare_databases(*databases) == ["table loose: row 0 differs"]


def test_it_says_when_there_is_no_database(databases: tuple[Path, Path], tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"

    assert compare.compare_databases(databases[0], nowhere) == [f"there is no database at {nowhere}"]
    assert compare.read_tree(nowhere) == {}
