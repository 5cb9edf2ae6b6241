"""Bringing a snapshot back: whole, in parts, and in spite of damage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backups import engine
from backups.engine import errors, plan, remembered, restorer
from backups.engine import format as fmt
from backups.engine.content import units
from backups.engine.entry import Entry, Unit
from backups.engine.patterns import PathFilter
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from backups.engine.target import probe_target
from benchmarks.compare import same_tree
from benchmarks.trees import Hardships, grow
from tests.engine.scenery import plant

SECRET = engine.Secret.keyfile(b"k" * 32)
SMALL_HARDSHIPS = Hardships(files=300, large=3 << 20, sparse=1 << 30, path=6000, links=20)


def nothing(_: engine.ItemError) -> None:
    pass


@pytest.fixture
def repository(tmp_path: Path) -> engine.Repository:
    return engine.Repository.create(LocalStore(str(tmp_path / "repository")), [(SECRET, "test")])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two small files, one of several chunks, a link, and a file in a sub-directory."""
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"alpha")
    (root / "b.txt").write_bytes(b"beta" * 1000)
    (root / "large.bin").write_bytes(os.urandom(2 << 20))
    (root / "sub" / "c.txt").write_bytes(b"gamma")
    (root / "link").symlink_to("a.txt")
    return root


def back_up(repository: engine.Repository, source: Path, name: str = "one") -> engine.Snapshot:
    entries = scan([os.fsencode(source)], report=nothing)
    return engine.archive(repository, entries, snapshot_id=name, facts=dict).snapshot


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def base_of(path: Path) -> bytes:
    return os.fsencode(path).strip(b"/")


@pytest.mark.parametrize(("workers", "room"), [(0, remembered.ROOM), (2, remembered.ROOM), (2, 5_000)])
def test_it_brings_back_a_tree_full_of_hardships(
    tmp_path: Path, repository: engine.Repository, workers: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree for which there is no room is decoded twice."""
    monkeypatch.setattr(remembered, "ROOM", room)
    source = tmp_path / "hard"
    grow(os.fsencode(source), SMALL_HARDSHIPS)
    snapshot = back_up(repository, source)

    engine.restore(
        repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source),
        options=engine.RestoreOptions(workers=workers, privileges=os.geteuid() == 0),
    )  # fmt: skip

    differences = same_tree(os.fsencode(source), os.fsencode(tmp_path / "target"))
    assert [d for d in differences if b"socket" not in d.path] == []


def test_it_brings_back_chosen_paths_only(tmp_path: Path, repository: engine.Repository, source: Path) -> None:
    snapshot = back_up(repository, source)
    target = tmp_path / "target"

    engine.restore(
        repository, snapshot, os.fsencode(target), base=base_of(source), select=PathFilter([str(source / "sub")])
    )

    assert (target / "sub" / "c.txt").read_bytes() == b"gamma"
    assert sorted(p.name for p in target.iterdir()) == ["sub"]


def test_it_puts_a_single_file_source_into_the_target(
    tmp_path: Path, repository: engine.Repository, source: Path
) -> None:
    snapshot = back_up(repository, source / "a.txt")

    engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source / "a.txt"))

    assert (tmp_path / "target" / "a.txt").read_bytes() == b"alpha"


def test_it_leaves_no_damaged_file_under_its_name(tmp_path: Path, repository: engine.Repository, source: Path) -> None:
    snapshot = back_up(repository, source)
    flip_in_frame_of(tmp_path / "repository", repository, source / "large.bin", snapshot)
    told: list[engine.ItemError] = []

    done = engine.restore(
        repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source), report=told.append
    )

    assert done.failed == 1
    assert [item.path for item in told] == [b"large.bin"]
    assert not (tmp_path / "target" / "large.bin").exists()
    assert (tmp_path / "target" / "sub" / "c.txt").read_bytes() == b"gamma"
    assert [name for name in os.listdir(tmp_path / "target") if name.startswith(".aihub")] == []


def test_it_links_the_names_of_one_file_again(tmp_path: Path, repository: engine.Repository, source: Path) -> None:
    (source / "z-second").hardlink_to(source / "a.txt")
    snapshot = back_up(repository, source)
    target = tmp_path / "target"

    engine.restore(repository, snapshot, os.fsencode(target), base=base_of(source))

    assert (target / "a.txt").stat().st_ino == (target / "z-second").stat().st_ino


def test_it_counts_what_it_expects_in_the_items_of_a_backup(
    tmp_path: Path, repository: engine.Repository, source: Path
) -> None:
    """Of a hard-linked file every name is an item, and its bytes are written once."""
    (source / "z-second").hardlink_to(source / "a.txt")
    (source / "z-link").symlink_to("a.txt")
    snapshot = back_up(repository, source)
    above = len(Path(base_of(source).decode()).parts)  # directories above the source: not in the target

    done = engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source))

    assert (done.items, done.bytes) == (done.items_expected, done.bytes_expected)
    assert done.items == snapshot.entries - above
    assert done.bytes == snapshot.size - len(b"alpha")


def test_it_restores_a_second_name_whose_first_was_not_chosen(
    tmp_path: Path, repository: engine.Repository, source: Path
) -> None:
    (source / "z-second").hardlink_to(source / "a.txt")
    snapshot = back_up(repository, source)
    target = tmp_path / "target"

    engine.restore(
        repository, snapshot, os.fsencode(target), base=base_of(source), select=PathFilter([str(source / "z-second")])
    )

    assert (target / "z-second").read_bytes() == b"alpha"


@pytest.mark.parametrize("workers", [0, 2])
def test_it_brings_back_the_same_however_small_its_windows_are(
    tmp_path: Path, repository: engine.Repository, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of many chunks reach over windows and tasks; near copies share frames."""
    monkeypatch.setattr(remembered, "ROOM", 0)
    monkeypatch.setattr(restorer, "WINDOW_FIRST", 3)
    monkeypatch.setattr(restorer, "WINDOW", 7)
    monkeypatch.setattr(plan, "BATCH_PIECES", 2)
    source = tmp_path / "source"
    model = os.urandom(5 << 20)
    plant(source, {f"small/{n}": b"%d" % n * n for n in range(200)} | {f"empty/{n}": b"" for n in range(20)})
    plant(source, {"models/first": model, "models/tuned": model[: 3 << 20] + os.urandom(100) + model[3 << 20 :]})
    (source / "sparse").write_bytes(model[: 1 << 20])
    os.truncate(source / "sparse", 1 << 30)
    snapshot = back_up(repository, source)

    done = engine.restore(
        repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source),
        options=engine.RestoreOptions(workers=workers),
    )  # fmt: skip

    assert same_tree(os.fsencode(source), os.fsencode(tmp_path / "target")) == []
    assert (done.items, done.bytes) == (done.items_expected, done.bytes_expected)
    assert done.failed == 0


def test_it_fetches_what_files_share_once(tmp_path: Path) -> None:
    source, store = tmp_path / "source", MeteredStore(MemoryStore())
    shared = os.urandom(3 << 20)
    plant(source, {"a": shared, "b": shared, "c": shared + b"more"})
    repository = engine.Repository.create(store, [(SECRET, "test")])
    snapshot = back_up(repository, source)
    before = store.usage.bytes_got

    engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source))

    assert store.usage.bytes_got - before < 1.5 * len(shared)
    assert same_tree(os.fsencode(source), os.fsencode(tmp_path / "target")) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_large_file_is_whole_or_not_there(
    tmp_path: Path, repository: engine.Repository, source: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its many tasks meets damage: it is told once, and its neighbours are brought back."""
    monkeypatch.setattr(plan, "BATCH_PIECES", 1)
    monkeypatch.setattr(restorer, "WINDOW_FIRST", 2)
    (source / "large.bin").write_bytes(os.urandom(6 << 20))
    (source / "second.bin").write_bytes(os.urandom(6 << 20))
    snapshot = back_up(repository, source)
    flip_in_frame_of(tmp_path / "repository", repository, source / "large.bin", snapshot)
    told: list[engine.ItemError] = []

    done = engine.restore(
        repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source), report=told.append,
        options=engine.RestoreOptions(workers=workers),
    )  # fmt: skip

    assert [item.path for item in told] == [b"large.bin"]
    assert (done.failed, done.files) == (1, 4)
    assert not (tmp_path / "target" / "large.bin").exists()
    assert (tmp_path / "target" / "second.bin").read_bytes() == (source / "second.bin").read_bytes()


def test_a_file_whose_pieces_are_longer_than_its_tree_says_is_not_restored(
    tmp_path: Path, repository: engine.Repository, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = back_up(repository, source)
    told: list[engine.ItemError] = []

    def lying(*arguments: Any) -> Iterator[Unit]:
        for unit in units(*arguments):
            first, *rest = unit.blobs
            yield unit._replace(blobs=(first._replace(length=first.length + 1), *rest))

    monkeypatch.setattr(restorer, "units", lying)

    engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source), report=told.append)

    assert [item.path for item in told] == [b"large.bin"]
    assert "another length" in told[0].message
    assert sorted(os.listdir(tmp_path / "target")) == ["a.txt", "b.txt", "link", "sub"]


def test_files_whose_blobs_are_in_no_index_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "FRAME_SIZE", 50_000)
    monkeypatch.setattr(fmt, "PACK_SIZE", 100_000)  # an index object is written after eight packs
    source, store = tmp_path / "source", MemoryStore()
    files = {f"{n:02}": os.urandom(60_000) for n in range(20)} | {"large": os.urandom(2 << 20)}
    plant(source, files)
    repository = engine.Repository.create(store, [(SECRET, "test")])
    snapshot = back_up(repository, source)
    assert len(snapshot.index) > 1
    store.delete(snapshot.index[0])
    repository.reload_index()
    told: list[engine.ItemError] = []

    done = engine.restore(
        repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source), report=told.append
    )

    lost = {os.fsdecode(item.path) for item in told}
    assert 0 < done.failed == len(lost) < len(files)
    assert all("index" in item.message for item in told)
    assert files_below(tmp_path / "target") == {name: data for name, data in files.items() if name not in lost}


def test_names_of_a_link_are_linked_to_its_first(tmp_path: Path, repository: engine.Repository, source: Path) -> None:
    os.link(source / "link", source / "z-link", follow_symlinks=False)
    os.mkfifo(source / "fifo")
    os.link(source / "fifo", source / "z-fifo")
    snapshot = back_up(repository, source)
    target = tmp_path / "target"

    done = engine.restore(repository, snapshot, os.fsencode(target), base=base_of(source))

    assert (target / "link").lstat().st_ino == (target / "z-link").lstat().st_ino
    assert os.readlink(target / "z-link") == "a.txt"
    assert (target / "fifo").stat().st_ino == (target / "z-fifo").stat().st_ino
    assert done.others == 4


def test_it_refuses_a_target_without_room_before_it_writes(
    tmp_path: Path, repository: engine.Repository, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = back_up(repository, source)
    full = probe_target(os.fsencode(tmp_path / "target"))._replace(free_bytes=1 << 20)
    monkeypatch.setattr(restorer, "probe_target", lambda _target: full)

    with pytest.raises(errors.TargetError, match="room for"):
        engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source))

    assert not (tmp_path / "target").exists()


def test_it_needs_no_room_for_holes(tmp_path: Path, repository: engine.Repository, source: Path) -> None:
    os.truncate(source / "large.bin", 1 << 43)
    snapshot = back_up(repository, source)

    engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source))

    assert (tmp_path / "target" / "large.bin").stat().st_size == 1 << 43


def test_it_refuses_a_target_that_holds_something(tmp_path: Path, repository: engine.Repository, source: Path) -> None:
    snapshot = back_up(repository, source)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").write_bytes(b"mine")

    with pytest.raises(errors.TargetError, match="empty"):
        engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base_of(source))

    assert os.listdir(tmp_path / "target") == ["precious"]


def test_it_names_a_path_that_the_snapshot_does_not_hold(
    tmp_path: Path, repository: engine.Repository, source: Path
) -> None:
    snapshot = back_up(repository, source)

    with pytest.raises(errors.TargetError, match="not in the snapshot"):
        engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=b"no/such/place")

    assert not (tmp_path / "target").exists()


def test_it_writes_nothing_when_the_manifest_is_refused(
    tmp_path: Path, repository: engine.Repository, forge: Callable[[Entry], engine.Snapshot]
) -> None:
    snapshot = forge(Entry(b"..", engine.Kind.FIFO, xattrs=()))

    with pytest.raises(errors.TargetError):
        engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"))

    assert not (tmp_path / "target").exists()


@pytest.fixture
def forge(repository: engine.Repository) -> Callable[[Entry], engine.Snapshot]:
    """A snapshot with one entry that no scan would give, written with the real keys."""

    def make(entry: Entry) -> engine.Snapshot:
        root = Entry(b"", engine.Kind.DIRECTORY, mode=0o755, xattrs=())
        return engine.archive(repository, [root, entry], snapshot_id="forged", facts=dict).snapshot

    return make


def flip_in_frame_of(place: Path, repository: engine.Repository, path: Path, snapshot: engine.Snapshot) -> None:
    """Damage one byte of the first frame that holds the file's content."""
    from backups.engine.content import blob_ids

    entry = next(e for e in engine.entries(repository, snapshot, os.fsencode(path).strip(b"/")))
    assert entry.content is not None
    location = repository.reload_index().locate(next(blob_ids(entry.content, repository.load_blob)))
    where = place / fmt.pack_name(location.pack)
    data = bytearray(where.read_bytes())
    data[location.section.offset + 10] ^= 1
    where.chmod(0o600)
    where.write_bytes(data)
