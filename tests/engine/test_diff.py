"""diff(): the differences between two snapshots, from their trees alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backups.engine import Change, Difference, Entry, Kind, Repository, diff, diff_with_moves
from backups.engine.differ import compare
from backups.engine.entry import sort_key
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from tests.engine.scenery import archived, new_repository, opened, plant, scanned

FILES = {"a/one": b"one", "a/two": b"two", "b": b"b"}


@pytest.fixture
def repository() -> Repository:
    return new_repository()


def told(changes: list[Change], below: Path) -> dict[str, str]:
    base = len(bytes(below))
    return {os.fsdecode(change.path[base:]): str(change.kind) for change in changes if len(change.path) >= base - 1}


def test_it_tells_each_kind_of_difference(repository: Repository, tmp_path: Path) -> None:
    root = plant(tmp_path / "data", {**FILES, "gone": b"x", "kind": b"x", "mode": b"x", "note": b"x"})
    (root / "link").symlink_to("here")
    before = archived(repository, scanned(root), "before").snapshot
    plant(root, {"b": b"B", "new/file": b"new"})
    for name in ("gone", "kind", "link"):
        (root / name).unlink()
    (root / "kind").mkdir()
    (root / "link").symlink_to("there")
    (root / "mode").chmod(0o600)
    os.setxattr(root / "note", "user.note", b"changed")

    after = archived(repository, scanned(root), "after", parent=before).snapshot

    assert told(list(diff(repository, before, after, bytes(root)[1:])), root) == {
        "": "attributes", "b": "changed", "gone": "removed", "kind": "changed", "link": "changed",
        "mode": "attributes", "new": "added", "new/file": "added", "note": "attributes",
    }  # fmt: skip


def test_before_and_after_come_along(repository: Repository, tmp_path: Path) -> None:
    root = plant(tmp_path / "data", FILES)
    before = archived(repository, scanned(root), "before").snapshot
    plant(root, {"b": b"longer"})
    after = archived(repository, scanned(root), "after").snapshot

    (change,) = [change for change in diff(repository, before, after) if change.path.endswith(b"/b")]

    assert change.kind is Difference.CONTENT
    assert (change.before and change.before.size, change.after and change.after.size) == (1, 6)


def test_a_touched_directory_reads_no_file(tmp_path: Path) -> None:
    store = MemoryStore()
    root = plant(tmp_path / "data", FILES)
    repository, seen = new_repository(store), list(scanned(root))  # once: the parents of the tree are everybody's
    before = archived(repository, map(replace, seen), "before").snapshot
    after = archived(repository, seen, "after").snapshot
    metered = MeteredStore(store)
    again = opened(metered)
    opened_with = metered.usage.gets

    assert list(diff(again, before, after)) == []
    assert metered.usage.gets == opened_with


def test_nothing_else_than_what_lies_below_is_told(repository: Repository, tmp_path: Path) -> None:
    root = plant(tmp_path / "data", FILES)
    before = archived(repository, scanned(root), "before").snapshot
    plant(root, {"b": b"B", "a/one": b"1"})
    after = archived(repository, scanned(root), "after").snapshot

    changes = list(diff(repository, before, after, bytes(root / "a")[1:]))

    assert told(changes, root / "a") == {"one": "changed"}


def test_what_only_this_machine_knows_is_no_difference() -> None:
    """After a restore to another disk inodes, devices and ctimes are others."""
    one = Entry(b"f", Kind.FILE, inode=1, device=1, ctime_ns=1, nlink=1, size=1, content=bytes(64))
    two = Entry(b"f", Kind.FILE, inode=2, device=2, ctime_ns=2, nlink=2, size=1, content=bytes(64))

    assert compare(one, two) is None


NAMES = some.sampled_from([b"a", b"a!", b"a/b", b"a/b/c", b"ab", b"b", b"\xff", b"a/\x01"])
TREES = some.dictionaries(NAMES, some.integers(0, 3), max_size=8)


@settings(deadline=None, max_examples=60)
@given(one=TREES, two=TREES)
def test_differences_are_those_of_two_dictionaries(one: dict[bytes, int], two: dict[bytes, int]) -> None:
    repository = new_repository()
    before, after = (
        archived(repository, _entries(tree), name).snapshot for name, tree in (("before", one), ("after", two))
    )

    found = [(change.path, change.kind) for change in diff(repository, before, after)]

    expected = dict.fromkeys(two.keys() - one.keys(), Difference.ADDED)
    expected.update(dict.fromkeys(one.keys() - two.keys(), Difference.REMOVED))
    expected.update({path: Difference.CONTENT for path in one.keys() & two.keys() if one[path] != two[path]})
    assert found == sorted(expected.items(), key=lambda pair: sort_key(pair[0]))


def _entries(tree: dict[bytes, int]) -> list[Entry]:
    links = [Entry(path, Kind.SYMLINK, target=b"%d" % value, xattrs=()) for path, value in tree.items()]
    return sorted(links, key=lambda entry: entry.key)


# ------------------------------------------------------------------------ moves


def test_a_file_under_another_path_has_moved(repository: Repository, tmp_path: Path) -> None:
    large = os.urandom(300_000)
    root = plant(tmp_path / "data", {"a": b"content", "z/large": large, "stays": b"content", "empty": b""})
    before = archived(repository, scanned(root), "before").snapshot
    plant(root, {"b/new": b"something new"})
    (root / "a").rename(root / "b" / "a")
    (root / "z" / "large").rename(root / "0")
    (root / "empty").rename(root / "void")
    (root / "z").rmdir()
    after = archived(repository, scanned(root), "after", parent=before).snapshot

    changes = list(diff_with_moves(repository, before, after, bytes(root)[1:]))

    assert told(changes, root) == {
        "": "attributes", "0": "moved", "b": "added", "b/a": "moved", "b/new": "added", "empty": "removed",
        "void": "added", "z": "removed",
    }  # fmt: skip
    moved = {change.path: change.before.path for change in changes if change.kind == "moved" and change.before}
    assert {os.path.basename(to): os.path.basename(old) for to, old in moved.items()} == {b"a": b"a", b"0": b"large"}


def test_copies_have_not_moved_and_twins_go_one_by_one(repository: Repository, tmp_path: Path) -> None:
    root = plant(tmp_path / "data", {"a": b"twin", "b": b"twin", "c": b"other"})
    before = archived(repository, scanned(root), "before").snapshot
    plant(root, {"copy of c": b"other", "d": b"twin"})
    for name in ("a", "b"):
        (root / name).unlink()
    after = archived(repository, scanned(root), "after", parent=before).snapshot

    changes = told(list(diff_with_moves(repository, before, after, bytes(root)[1:])), root)

    assert changes == {"": "attributes", "b": "removed", "copy of c": "added", "d": "moved"}


@settings(max_examples=25, deadline=None)
@given(
    some.dictionaries(some.sampled_from("abcdef"), some.binary(min_size=1, max_size=1), max_size=5),
    some.dictionaries(some.sampled_from("abcdef"), some.binary(min_size=1, max_size=1), max_size=5),
)
def test_moves_lose_nothing_and_invent_nothing(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    repository = new_repository()
    with tempfile.TemporaryDirectory() as place:
        before = archived(repository, scanned(plant(Path(place, "x"), {"keep": b"", **one})), "before").snapshot
        shutil.rmtree(Path(place, "x"))
        after = archived(repository, scanned(plant(Path(place, "x"), {"keep": b"", **two})), "after").snapshot
        base = bytes(Path(place, "x"))[1:]

    plain, moved = list(diff(repository, before, after, base)), list(diff_with_moves(repository, before, after, base))

    told_moved = [change for change in moved if change.kind is Difference.MOVED]
    parts = {(Difference.REMOVED, c.before.path) for c in told_moved if c.before} | {
        (Difference.ADDED, c.path) for c in told_moved
    }
    rest = {(c.kind, c.path) for c in moved if c.kind is not Difference.MOVED}
    assert parts | rest == {(c.kind, c.path) for c in plain}
    assert len(parts) + len(rest) == len(plain)
    assert all(c.before and c.after and c.before.content == c.after.content for c in told_moved)
