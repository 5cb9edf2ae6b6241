"""find(): which snapshots hold a path, in which versions."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from backups.engine import Found, Repository, find
from backups.engine import format as fmt
from backups.engine.entry import Entry, Kind
from backups.engine.finder import content_id
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from tests.engine.scenery import archived, new_repository, opened, plant, scanned

LARGE = os.urandom(400_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def repository(root: Path) -> Repository:
    """Four snapshots: a file that changes and changes back, one that comes and goes, one that stays."""
    repository, parent = new_repository(), None
    rounds = [{"hosts": b"1", "large": LARGE}, {"hosts": b"22", "gone.sql": b"x"}, {"hosts": b"1"}, {"[odd]": b"y"}]
    for number, files in enumerate(rounds):
        plant(root / "etc", files)
        if number == 2:
            (root / "etc" / "gone.sql").unlink()
        parent = archived(repository, scanned(root), f"s{number}", parent=parent).snapshot
    return repository


def told(found: list[Found], root: Path) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    """Name below the root → (size, snapshots) of each version."""
    start = len(bytes(root))
    return {os.fsdecode(one.path[start:]): [(v.entry.size, v.snapshots) for v in one.versions] for one in found}


def test_a_path_is_found_with_its_versions_by_content(repository: Repository, root: Path) -> None:
    (found,) = find(repository, f"{root}/etc/hosts")

    assert told([found], root) == {"etc/hosts": [(1, ("s0", "s2", "s3")), (2, ("s1",))]}
    assert [version.id for version in found.versions] == [hashlib.sha256(data).hexdigest() for data in (b"1", b"22")]


def test_versions_that_differ_in_their_first_page_only_have_other_contents() -> None:
    """Two pages' ids are as long as what stands for a small file."""
    one, two = (Entry(b"f", Kind.FILE, size=1 << 30, content=(first, bytes(32))) for first in (b"1" * 32, b"2" * 32))

    assert content_id(one) != content_id(two)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("*.sql", ["etc/gone.sql"]), ("gone", ["etc/gone.sql"]), ("ho?ts", ["etc/hosts"]), ("LARGE", []),
        ("/**/etc/l*", ["etc/large"]), ("etc", ["etc"]),
    ],
)  # fmt: skip
def test_patterns_and_words_find_what_some_snapshot_holds(
    repository: Repository, root: Path, wanted: str, names: list[str]
) -> None:
    assert list(told(list(find(repository, wanted)), root)) == names


def test_bytes_are_a_path_whatever_signs_are_in_it(repository: Repository, root: Path) -> None:
    assert told(list(find(repository, bytes(root / "etc" / "[odd]"))), root) == {"etc/[odd]": [(1, ("s3",))]}


def test_only_some_snapshots_are_looked_into(repository: Repository, root: Path) -> None:
    one = [repository.log.snapshot("s2")]

    assert list(find(repository, "gone.sql", one)) == []
    assert told(list(find(repository, "hosts", one)), root) == {"etc/hosts": [(1, ("s2",))]}


def test_large_files_are_told_apart_by_what_they_are_made_of(repository: Repository, root: Path) -> None:
    plant(root, {"copy": LARGE, "other": LARGE[:-1] + b"?"})
    archived(repository, scanned(root), "later")

    ids = {os.path.basename(one.path): one.versions[-1].id for one in find(repository, f"{root}/**")}

    assert ids[b"copy"] == ids[b"large"] != ids[b"other"]


def test_pages_that_snapshots_share_are_read_once_and_content_never(tmp_path: Path) -> None:
    memory, root = MemoryStore(), plant(tmp_path / "data", {f"{n:04}": b"%d" % n for n in range(3000)})
    first = archived(new_repository(memory), scanned(root), "first").snapshot
    for number in range(5):
        plant(root, {"0001": b"version %d" % number})
        archived(opened(memory), scanned(root), f"n{number}", parent=first)
    store = MeteredStore(memory)
    repository = opened(store)
    trees = {pack for snapshot in repository.snapshots for pack in snapshot.tree_packs}
    repository.sync_index()
    before = store.usage

    (found,) = find(repository, f"{root}/0001")
    (again,) = find(repository, f"{root}/2999")

    size = sum(len(memory.objects[fmt.pack_name(pack)]) for pack in trees)
    assert (len(found.versions), len(again.versions)) == (6, 1)
    assert store.usage.bytes_got - before.bytes_got < 2 * size
