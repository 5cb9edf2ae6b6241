"""A restore that was killed is continued by the same restore: what it had made whole is proved and kept."""

from __future__ import annotations

import io
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from backups.engine import Entry, ItemError, Kind, Restored, RestoreOptions, restore
from backups.engine import format as fmt
from backups.engine.errors import StoreUnavailable
from backups.engine.patterns import PathFilter
from backups.engine.stores.local import LocalStore
from backups.engine.target import PREFIX, probe_target
from benchmarks.compare import same_tree
from tests.engine.scenery import archived, local_repository, opened, scanned
from tests.faults import Fault, FaultyStore, Harm

STAGES = f"{os.fsdecode(PREFIX)}*"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small packs, so that the data lie in many of them; a tree with what is awkward to find again."""
    for name in ("PACK_SIZE", "FRAME_SIZE", "UNIT_SIZE"):
        monkeypatch.setattr(fmt, name, getattr(fmt, name) // 32)
    draw, root = random.Random(3), tmp_path / "source"
    for number in range(300):
        path = root / f"folder {number % 7}" / "below" / f"small {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(draw.choice((20, 9000, 60_000))))
    for number in range(3):
        (root / f"large {number}").write_bytes(draw.randbytes(3 << 20))
    (root / "closed").write_bytes(draw.randbytes(5000))
    (root / "closed").chmod(0)
    (root / "empty").touch()
    (root / "second name").hardlink_to(root / "large 1")
    (root / "link").symlink_to("large 1")
    os.mkfifo(root / "fifo")
    with (root / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        os.pwrite(file.fileno(), draw.randbytes(100_000), 5 << 20)
    os.setxattr(root / "large 2", b"user.note", b"kept")
    (root / "folder 3" / "below").chmod(0o500)
    return root


@pytest.fixture
def store(tmp_path: Path, root: Path) -> FaultyStore:
    archived(local_repository(tmp_path / "store"), scanned(root))
    return FaultyStore(Counting(str(tmp_path / "store")))


class Counting(LocalStore):
    """Counts the bytes that are read."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.read = 0

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = super().get(name, start, length)
        self.read += len(data)
        return data


def base_of(root: Path) -> bytes:
    return os.fsencode(root).strip(b"/")


def brought_back(store: FaultyStore, root: Path, target: Path, **more: object) -> Restored:
    told = list[ItemError]()
    repository = opened(store)
    options = more.pop("options", RestoreOptions(workers=0))
    done = restore(
        repository, repository.log.snapshot("first"), bytes(target), base=base_of(root), report=told.append,
        options=options, **more,  # type: ignore[arg-type]  # a filter
    )  # fmt: skip
    assert told == []
    return done


def killed(store: FaultyStore, root: Path | None, target: Path, after: int) -> None:
    """The restore (of the stream, without a root) in a process of its own that gets SIGKILL at so many readings."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            deadly = FaultyStore(store.inner, [Fault(Harm.CRASH, "get", at=after)], kill=True)
            brought_back(deadly, root, target) if root else stream_back(deadly, target)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.fixture
def readings(store: FaultyStore, root: Path, tmp_path: Path) -> int:
    """How often a whole restore reads."""
    before = store.counts["get"]
    brought_back(store, root, tmp_path / "whole")
    return store.counts["get"] - before


def stage_of(target: Path) -> Path:
    (stage,) = target.parent.glob(STAGES)
    return stage


def assert_same(root: Path, target: Path) -> None:
    assert same_tree(os.fsencode(root), os.fsencode(target)) == []
    assert not list(target.parent.glob(STAGES))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_whole_is_not_fetched_again(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int, workers: int
) -> None:
    target = tmp_path / "target"
    killed(store, root, target, readings * 9 // 10)
    there = sum(path.stat().st_size for path in stage_of(target).rglob("small*"))
    assert isinstance(store.inner, Counting)
    whole, store.inner.read = store.inner.read, 0

    done = brought_back(store, root, target, options=RestoreOptions(workers=workers))

    assert_same(root, target)
    assert done.kept >= there * 0.9 > 0
    assert (done.bytes, done.items) == (done.bytes_expected, done.items_expected)
    assert workers or store.inner.read < whole // 2


def test_it_is_continued_as_often_as_it_is_killed(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int
) -> None:
    target, kept = tmp_path / "target", list[int]()
    for after in (readings // 2, readings * 3 // 4, readings // 3):
        killed(store, root, target, after)
        kept.append(sum(path.is_file() for path in stage_of(target).rglob("*")))

    done = brought_back(store, root, target)

    assert_same(root, target)
    assert done.kept > 0
    assert kept == sorted(kept)  # a file that is whole is never lost again


@pytest.mark.parametrize("harm", ["zeros", "cut", "longer", "another"])
def test_a_file_that_is_not_whole_is_fetched_again(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int, harm: str
) -> None:
    """As after a power cut: the right name, and other bytes."""
    target = tmp_path / "target"
    killed(store, root, target, readings - 1)
    files = [path for path in stage_of(target).rglob("small*") if path.stat().st_size > 5000]
    size = sum(path.stat().st_size for path in files)
    with (stage_of(target) / "sparse").open("r+b") as file:
        os.pwrite(file.fileno(), b"what has to be a hole", 7 << 20)
    files.append(stage_of(target) / "large 1")
    for path in files:
        data = path.read_bytes()
        harmed = {"zeros": bytes(len(data)), "cut": data[:-1], "longer": data + b"x", "another": data[:-1] + b"?"}
        path.write_bytes(harmed[harm])

    done = brought_back(store, root, target)

    assert_same(root, target)
    assert len(files) > 50
    assert 0 < done.kept <= done.bytes - size


def test_of_a_large_file_only_what_is_wrong_is_fetched(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int
) -> None:
    """Its units are proved one by one; what has to be a hole must be one."""
    target = tmp_path / "target"
    killed(store, root, target, readings - 1)
    for path in stage_of(target).rglob("*"):
        if path.is_file() and path.name != "large 0":
            path.unlink()
    with (stage_of(target) / "large 0").open("r+b") as file:
        file.truncate(3 << 20)
        file.write((root / "large 0").read_bytes())
        os.pwrite(file.fileno(), b"wrong", 1_500_000)

    done = brought_back(store, root, target)

    assert_same(root, target)
    assert done.kept == 2 << 20
    assert done.bytes == done.bytes_expected


class Dump(io.BytesIO):
    """What a tool would write to a pipe."""


def test_a_stream_goes_on_where_it_was_killed(store: FaultyStore, tmp_path: Path) -> None:
    data, target = random.Random(9).randbytes(30 << 20), tmp_path / "target"
    entry = Entry(b"dump", Kind.FILE, 0o600, xattrs=(), mtime_ns=5, source=lambda: Dump(data))
    archived(opened(store.inner), [Entry(b"", Kind.DIRECTORY, 0o700, xattrs=()), entry], "stream")
    store.counts.clear()
    stream_back(store, tmp_path / "whole")
    killed(store, None, target, store.counts["get"] - 5)
    written = (stage_of(target) / "dump").stat().st_size

    done = stream_back(store, target)

    assert (target / "dump").read_bytes() == data
    assert 0 < written < len(data)
    assert written - (4 << 20) <= done.kept < len(data)
    assert done.bytes == len(data)


def stream_back(store: FaultyStore, target: Path) -> Restored:
    repository = opened(store)
    options = RestoreOptions(workers=0)
    return restore(repository, repository.log.snapshot("stream"), bytes(target), options=options)


def test_a_link_in_place_of_a_file_is_not_followed(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int
) -> None:
    target, canary = tmp_path / "target", tmp_path / "canary"
    canary.write_bytes(b"alive")
    killed(store, root, target, readings - 1)
    files = [path for path in stage_of(target).rglob("small*") if path.is_file()]
    files[0].unlink()
    files[0].symlink_to(canary)
    files[1].unlink()
    files[1].hardlink_to(canary)

    brought_back(store, root, target)

    assert_same(root, target)
    assert (canary.read_bytes(), canary.stat().st_nlink) == (b"alive", 1)


def test_another_restore_begins_anew(store: FaultyStore, root: Path, tmp_path: Path, readings: int) -> None:
    """What was chosen is a part of what a restore is: nothing that was not asked for stays behind."""
    target = tmp_path / "target"
    killed(store, root, target, readings - 1)
    chosen = PathFilter([f"{root}/folder 1"])

    done = brought_back(store, root, target, select=chosen)

    assert done.kept == 0
    assert [path.name for path in target.iterdir()] == ["folder 1"]
    assert not list(tmp_path.glob(STAGES))


def test_a_stage_that_had_its_attributes_already_begins_anew(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int
) -> None:
    """Others may have been inside since then."""
    target = tmp_path / "target"
    killed(store, root, target, readings - 1)
    stage_of(target).chmod(0o755)

    done = brought_back(store, root, target)

    assert_same(root, target)
    assert done.kept == 0


def test_inside_a_target_that_is_there_it_is_continued_too(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int
) -> None:
    target = tmp_path / "mount point"
    target.mkdir()
    killed(store, root, target, readings - 1)

    done = brought_back(store, root, target)

    assert done.kept > 0
    assert same_tree(os.fsencode(root), os.fsencode(target)) == []


def test_below_a_handle_it_is_continued_whatever_the_handles_number(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    first, second = (os.open(place, os.O_RDONLY | os.O_DIRECTORY) for _ in range(2))
    killed(store, root, Path(f"/proc/self/fd/{first}/tree"), readings - 1)

    done = brought_back(store, root, Path(f"/proc/self/fd/{second}/tree"))

    os.close(first)
    os.close(second)
    assert done.kept > 0
    assert_same(root, place / "tree")


@pytest.mark.parametrize("leave", [True, False])
def test_an_error_leaves_what_was_written_only_where_that_is_wanted(
    store: FaultyStore, root: Path, tmp_path: Path, readings: int, leave: bool
) -> None:
    target, options = tmp_path / "target", RestoreOptions(workers=0, leave=leave)
    broken = FaultyStore(store.inner, [Fault(Harm.ERROR, "get", at=readings - 1)])
    with pytest.raises(StoreUnavailable):
        brought_back(broken, root, target, options=options)
    left = list(tmp_path.glob(STAGES))

    done = brought_back(store, root, target, options=options)

    assert_same(root, target)
    assert bool(left) == (done.kept > 0) == leave


def test_what_a_killed_restore_left_counts_as_free(tmp_path: Path) -> None:
    """Else a target that is full of it could never be restored to."""
    stage = tmp_path / os.fsdecode(PREFIX + b"0000-1111") / "folder"
    stage.mkdir(parents=True)
    (stage / "half").write_bytes(os.urandom(64 << 20))

    before = os.statvfs(tmp_path)  # others write to this disk, too: what was free just before, and is just after
    inside = probe_target(bytes(tmp_path))
    after = os.statvfs(tmp_path)

    assert inside.free_bytes >= min(one.f_bavail * one.f_frsize for one in (before, after)) + (60 << 20)
