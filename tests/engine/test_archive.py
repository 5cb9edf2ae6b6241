"""archive(): what is stored, what is taken over, what is reported, and what is left after a fault."""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.engine import (
    Entry,
    Kind,
    Notes,
    Options,
    Repository,
    Snapshot,
    Stats,
    archive,
    capture,
    entries,
    restore,
)
from backups.engine import format as fmt
from backups.engine.disk import DiskTree
from backups.engine.errors import Cancelled, EngineError, LostLease, SourceError, StoreFull, WorkerDied
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import (
    FORKED,
    INLINE,
    Reports,
    archived,
    content_of,
    files_of,
    local_repository,
    new_repository,
    opened,
    plant,
    scanned,
)
from tests.engine.test_workers import children
from tests.faults import Crash, Fault, FaultyStore, Harm

SMALL, LARGE = b"small " * 100, os.urandom(700_000)
TREE = {"a/one": SMALL, "a/two": b"", "b/large": LARGE, "c/d/deep": b"deep", "z": b"last"}
ROOT = Entry(b"", Kind.DIRECTORY, xattrs=())
CHANGED = "It changed while it was read; it may be a mixture."
SHRANK = "It shrank while it was read; what was there is stored."
VANISHED = "It vanished between being listed and being read."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "data", TREE)


@pytest.fixture
def repository() -> Repository:
    return new_repository()


def found(repository: Repository, snapshot: Snapshot, path: Path) -> Entry | None:
    name = bytes(path)[1:]
    return next((entry for entry in entries(repository, snapshot, name) if entry.path == name), None)


def counts(stats: Stats) -> tuple[int, int, int, int]:
    return stats.new, stats.changed, stats.unchanged, stats.removed


def above(root: Path) -> int:
    """How many directories above the root of a scan and it itself are entries too."""
    return len(root.parts)


def resting(root: Path, reports: Reports | None = None) -> list[Entry]:
    """The whole scan, taken before anything else happens."""
    return list(scanned(root, reports))


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize("options", [INLINE, FORKED], ids=["inline", "forked"])
def test_what_goes_in_comes_out(tmp_path: Path, root: Path, options: Options) -> None:
    repository = local_repository(tmp_path / "store")

    done = archived(repository, scanned(root), options=options)

    assert files_of(repository, done.snapshot, root) == TREE
    assert done.snapshot == opened(repository.store).log.snapshot("first")
    assert (done.stats.files, done.stats.bytes, done.stats.bytes_read) == (5, 700_608, 700_608)
    assert done.snapshot.size == done.stats.bytes
    assert done.snapshot.entries == done.stats.items == 5 + 4 + above(root)


@pytest.mark.parametrize(("codec", "level"), [("zstd", 9), ("gzip", 6), ("none", 0)])
def test_every_codec_comes_back(repository: Repository, root: Path, codec: str, level: int) -> None:
    done = archived(repository, scanned(root), options=Options(workers=0, codec=codec, level=level, verify_every=1))

    assert files_of(repository, done.snapshot, root) == TREE


def test_forked_and_inline_make_the_same_tree(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(root, {f"many/{n}": os.urandom(500) for n in range(200)})
    monkeypatch.setattr("backups.engine.archiver.BATCH_FILES", 20)
    repository = local_repository(tmp_path / "store")

    inline = archived(repository, scanned(root), "inline")
    forked = archived(opened(repository.store), scanned(root), "forked", options=FORKED)

    assert forked.snapshot.root == inline.snapshot.root
    assert forked.snapshot.manifest_sha256 == inline.snapshot.manifest_sha256
    assert forked.stats.bytes_stored == 0


def test_attributes_of_every_kind_are_stored(tmp_path: Path, repository: Repository) -> None:
    root = plant(tmp_path / "data", {"file": b"x"})
    (root / "link").symlink_to("nowhere")
    os.mkfifo(root / "fifo", 0o640)
    os.setxattr(root, "user.note", b"on a directory")
    os.setxattr(root / "file", "user.note", b"on a file")
    os.chmod(root / "file", 0o4751)
    os.utime(root / "file", ns=(1, -5_000_000_001))
    st = (root / "file").stat()

    done = archived(repository, scanned(root))

    file = found(repository, done.snapshot, root / "file")
    link, fifo, top = (found(repository, done.snapshot, root / name) for name in ("link", "fifo", ""))
    assert file and link and fifo and top
    assert (file.mode, file.mtime_ns, file.xattrs) == (0o4751, -5_000_000_001, ((b"user.note", b"on a file"),))
    assert (file.inode, file.ctime_ns, file.nlink) == (st.st_ino, st.st_ctime_ns, 1)
    assert (link.kind, link.target) == (Kind.SYMLINK, b"nowhere")
    assert (fifo.kind, fifo.mode) == (Kind.FIFO, 0o640)
    assert top.xattrs == ((b"user.note", b"on a directory"),)


def test_the_record_says_what_a_console_needs_to_adopt_it(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root)).snapshot

    second = archive(
        repository, scanned(root), snapshot_id="second", facts=lambda: {"label": "夜"}, parent=first,
        options=INLINE, lease_epoch=7,
    ).snapshot  # fmt: skip

    assert (second.parent, second.lease_epoch, second.facts) == ("first", 7, {"label": "夜"})
    assert first.index
    assert first.tree_packs
    assert repository.store.stat(fmt.pack_name(first.tree_packs[0]))
    assert repository.store.stat(second.record)


def test_facts_are_asked_for_after_the_last_entry(repository: Repository, root: Path) -> None:
    passed: list[bytes] = []

    def noted() -> Iterator[Entry]:
        for entry in scanned(root):
            passed.append(entry.path)
            yield entry

    done = archive(repository, noted(), snapshot_id="s", facts=lambda: {"passed": len(passed)}, options=INLINE)

    assert done.snapshot.facts == {"passed": done.snapshot.entries}


def test_entries_out_of_order_leave_nothing_visible(repository: Repository) -> None:
    before = set(repository.log.names)

    with pytest.raises(EngineError, match="out of order"):
        archived(repository, [ROOT, Entry(b"b", Kind.FIFO, xattrs=()), Entry(b"a", Kind.FIFO, xattrs=())])

    assert set(opened(repository.store).log.names) == before


def test_an_empty_source_is_a_snapshot_too(repository: Repository) -> None:
    done = archived(repository, [])

    assert files_of(repository, done.snapshot) == {}
    assert done.snapshot.entries == 0


# ------------------------------------------------------------------ deduplication


def test_equal_content_is_stored_once(tmp_path: Path, repository: Repository) -> None:
    root = plant(tmp_path / "data", {f"{n}": LARGE for n in range(5)})

    done = archived(repository, scanned(root))

    assert done.stats.bytes == 5 * len(LARGE)
    assert done.stats.bytes_stored < 1.1 * len(LARGE)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_store_equal_content_once_between_them(tmp_path: Path, workers: int) -> None:
    root = plant(tmp_path / "data", {f"{n:02}": LARGE for n in range(20)})
    repository = local_repository(tmp_path / "store")

    done = archived(repository, scanned(root), options=Options(workers=workers))

    assert done.stats.bytes_stored < 1.1 * len(LARGE)
    assert set(files_of(repository, done.snapshot, root).values()) == {LARGE}


def test_a_full_claim_table_makes_room_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"{n:04}": b"%d" % (n % 600) * 20 for n in range(800)}
    root = plant(tmp_path / "data", files)
    monkeypatch.setattr("backups.engine.dispatch.Claims", _tiny_claims)
    monkeypatch.setattr("backups.engine.dispatch.ROOM", 0)  # as few tasks as the table has few places
    monkeypatch.setattr("backups.engine.archiver.BATCH_FILES", 40)
    for options in (INLINE, FORKED):
        repository = local_repository(tmp_path / f"store {options.workers}")

        done = archived(repository, scanned(root), options=options)

        assert files_of(repository, done.snapshot, root) == files
        assert len(done.snapshot.index) > 1
        ids = list(repository.reload_index().ids())
        assert len(ids) - len(set(ids)) < 60


def _tiny_claims(slots: int = 0, *, shared: bool = True) -> Any:
    from backups.engine.claims import Claims

    return Claims(512, shared=shared)


# -------------------------------------------------------------------- incremental


def test_what_is_unchanged_is_neither_read_nor_stored(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root))

    second = archived(repository, scanned(root), "second", parent=first.snapshot)

    assert counts(second.stats) == (0, 0, first.stats.items, 0)
    assert (second.stats.bytes_read, second.stats.bytes_stored) == (0, 0)
    assert second.snapshot.root == first.snapshot.root


def test_it_counts_what_is_new_changed_and_removed(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root))
    (root / "z").write_bytes(b"changed")
    (root / "c" / "d" / "deep").unlink()
    plant(root, {"e/new": b"new"})

    second = archived(repository, scanned(root), "second", parent=first.snapshot)

    new, changed, _, removed = counts(second.stats)
    assert (new, removed) == (2, 1)
    assert changed == 3  # the file, and the directories whose times the others changed
    assert second.stats.bytes_read == len(b"changed") + len(b"new")
    assert files_of(repository, second.snapshot, root) == {
        **{name: data for name, data in TREE.items() if name != "c/d/deep"}, "z": b"changed", "e/new": b"new"
    }  # fmt: skip
    assert files_of(repository, first.snapshot, root) == TREE


def test_a_file_of_the_same_size_and_time_is_noticed_by_its_ctime(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root))
    st = (root / "z").stat()
    (root / "z").write_bytes(b"LAST")
    os.utime(root / "z", ns=(st.st_atime_ns, st.st_mtime_ns))

    second = archived(repository, scanned(root), "second", parent=first.snapshot)

    assert files_of(repository, second.snapshot, root)["z"] == b"LAST"


def test_a_full_run_reads_everything_and_stores_nothing_twice(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root))

    second = archived(
        repository, scanned(root), "second", parent=first.snapshot, options=Options(workers=0, assume_unchanged=False)
    )

    assert second.stats.bytes_read == first.stats.bytes
    assert second.stats.bytes_stored == 0
    assert counts(second.stats) == (0, 0, first.stats.items, 0)


def test_what_changed_just_before_the_scan_is_read_again(repository: Repository, root: Path) -> None:
    """Within one tick of the clock a file may change twice; its times prove nothing."""
    first = archived(repository, scan([bytes(root)], report=Reports().append))
    assert all(entry.notes & Notes.UNSURE for entry in entries(repository, first.snapshot, bytes(root)[1:]))

    second = archived(repository, scanned(root), "second", parent=first.snapshot)
    third = archived(repository, scanned(root), "third", parent=second.snapshot)

    assert second.stats.bytes_read == first.stats.bytes
    assert third.stats.bytes_read == 0


def test_a_changed_attribute_of_a_directory_is_noticed(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root))
    os.setxattr(root / "a", "user.note", b"new")

    second = archived(repository, scanned(root), "second", parent=first.snapshot)

    entry = found(repository, second.snapshot, root / "a")
    assert entry and entry.xattrs == ((b"user.note", b"new"),)
    assert files_of(repository, second.snapshot, root) == TREE


# ---------------------------------------------------------------------- hard links


def linked(tmp_path: Path, data: bytes) -> Path:
    root = plant(tmp_path / "data", {"first": data})
    for name in ("second", "third"):
        os.link(root / "first", root / name)
    return root


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_names_of_one_inode_are_read_once(tmp_path: Path, repository: Repository, data: bytes) -> None:
    root = linked(tmp_path, data)

    done = archived(repository, scanned(root))

    assert done.stats.bytes_read == len(data)
    assert files_of(repository, done.snapshot, root) == dict.fromkeys(("first", "second", "third"), data)
    inodes = {entry.inode for entry in entries(repository, done.snapshot, bytes(root)[1:]) if entry.kind is Kind.FILE}
    assert len(inodes) == 1


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("options", [INLINE, FORKED], ids=["inline", "forked"])
def test_a_first_name_that_vanishes_does_not_take_the_others_along(
    tmp_path: Path, data: bytes, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reports = linked(tmp_path, data), Reports()
    plant(root, {f"more {n}": SMALL for n in range(60)})
    monkeypatch.setattr("backups.engine.archiver.BATCH_FILES", 10)
    listed = resting(root)
    (root / "first").unlink()
    repository = local_repository(tmp_path / "store")

    done = archived(repository, listed, options=options, report=reports.append)

    stored = files_of(repository, done.snapshot, root)
    assert "first" not in stored
    assert stored["second"] == stored["third"] == data
    assert reports.about(bytes(root / "first")[1:]) == [VANISHED]


# -------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("name", ["z", "b/large"])
def test_what_vanishes_is_a_warning(repository: Repository, root: Path, name: str) -> None:
    listed, reports = resting(root), Reports()
    (root / name).unlink()

    done = archived(repository, listed, report=reports.append)

    assert [(item.path, item.message, item.severity) for item in reports] == [
        (bytes(root / name)[1:], VANISHED, "warning")
    ]
    assert (done.stats.warnings, done.stats.errors) == (1, 0)
    assert files_of(repository, done.snapshot, root) == {n: data for n, data in TREE.items() if n != name}


@pytest.mark.parametrize("name", ["z", "b/large"])
def test_what_cannot_be_read_is_an_error_and_the_rest_is_stored(
    repository: Repository, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, reports = DiskTree.open_file, Reports()

    def broken(self: DiskTree, path: bytes) -> Any:
        if path.endswith(name.encode()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(self, path)

    monkeypatch.setattr(DiskTree, "open_file", broken)

    done = archived(repository, scanned(root), report=reports.append)

    assert [(item.message, item.severity) for item in reports] == [("It cannot be read: input/output error.", "error")]
    assert done.stats.errors == 1
    assert files_of(repository, done.snapshot, root) == {n: data for n, data in TREE.items() if n != name}


@pytest.mark.parametrize("name", ["z", "b/large"])
def test_an_error_in_the_middle_of_a_file_is_an_error(
    repository: Repository, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, reports = resting(root), Reports()

    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(capture, "read_all" if name == "z" else "_fill", broken)

    done = archived(repository, [e for e in listed if e.kind is not Kind.FILE or e.path.endswith(name.encode())],
                    report=reports.append)  # fmt: skip

    assert done.stats.errors == 1
    assert files_of(repository, done.snapshot, root) == {}


@pytest.mark.parametrize("name", ["z", "b/large"])
@pytest.mark.parametrize("become", ["fifo", "directory", "link"])
def test_a_file_that_became_something_else_never_hangs_the_run(
    repository: Repository, root: Path, name: str, become: str
) -> None:
    listed, reports = resting(root), Reports()
    (root / name).unlink()
    {"fifo": os.mkfifo, "directory": os.mkdir, "link": lambda path: os.symlink("/etc/passwd", path)}[become](
        root / name
    )

    done = archived(repository, listed, report=reports.append)

    assert [item.severity for item in reports] == ["error"]
    assert name not in files_of(repository, done.snapshot, root)


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], object]) -> None:
    """Call change(n) after the n-th read of a small file."""
    original, count = capture.read_all, 0

    def read_and_change(fd: int, size: int) -> bytes:
        nonlocal count
        data = original(fd, size)
        count += 1
        change(count)
        return data

    monkeypatch.setattr(capture, "read_all", read_and_change)


def test_a_small_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reports = plant(tmp_path / "data", {"log": b"one\n"}), Reports()
    listed = resting(root)
    changing(monkeypatch, lambda n: plant(root, {"log": b"two, longer\n"} if n == 1 else {}))

    done = archived(repository, listed, report=reports.append)

    entry = found(repository, done.snapshot, root / "log")
    assert entry and content_of(repository, entry) == b"two, longer\n"
    assert entry.size == 12
    assert not reports


def test_a_small_file_that_never_rests_is_stored_and_reported_and_read_next_time(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reports = plant(tmp_path / "data", {"log": b"0\n"}), Reports()
    changing(monkeypatch, lambda n: plant(root, {"log": b"%d\n" % n * n}))

    first = archived(repository, scanned(root), report=reports.append)

    entry = found(repository, first.snapshot, root / "log")
    assert entry and entry.notes & Notes.CHANGED
    assert reports.about(bytes(root / "log")[1:]) == [CHANGED]
    monkeypatch.undo()
    second = archived(repository, scanned(root), "second", parent=first.snapshot)
    assert second.stats.bytes_read > 0


@pytest.mark.parametrize("size", [200_000, 1_000_000], ids=["beyond a blob", "beyond a unit"])
def test_a_small_file_that_grew_large_is_stored_whole(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(fmt, "UNIT_SIZE", 500_000)
    root = plant(tmp_path / "data", {"log": b"small", "other": b"x"})
    listed = resting(root)
    (root / "log").write_bytes(LARGE * 2)
    os.truncate(root / "log", size)

    done = archived(repository, listed)

    assert files_of(repository, done.snapshot, root) == {"log": (LARGE * 2)[:size], "other": b"x"}


def test_a_large_file_that_grew_is_stored_as_long_as_it_was_and_reported(repository: Repository, root: Path) -> None:
    listed, reports = resting(root), Reports()
    with (root / "b" / "large").open("ab") as file:
        file.write(b"more")

    done = archived(repository, listed, report=reports.append)

    assert files_of(repository, done.snapshot, root)["b/large"] == LARGE
    assert reports.messages == [CHANGED]


@pytest.mark.parametrize("left", [0, 1, 300_000, 699_999])
def test_a_large_file_that_shrank_is_stored_as_it_is_and_reported(
    repository: Repository, root: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(fmt, "UNIT_SIZE", 200_000)
    listed, reports = resting(root), Reports()
    os.truncate(root / "b" / "large", left)

    done = archived(repository, listed, report=reports.append)

    assert files_of(repository, done.snapshot, root)["b/large"] == LARGE[:left]
    assert reports.messages == [SHRANK]


def test_a_large_file_that_was_replaced_is_reported(repository: Repository, root: Path) -> None:
    listed, reports = resting(root), Reports()
    plant(root, {"new": LARGE[::-1]})
    (root / "new").rename(root / "b" / "large")

    archived(repository, listed, report=reports.append)

    assert reports.messages == [CHANGED]


def test_a_small_file_that_shrank_is_stored_as_it_is(tmp_path: Path, repository: Repository) -> None:
    root = plant(tmp_path / "data", {"log": SMALL})
    listed = resting(root)
    os.truncate(root / "log", 10)

    done = archived(repository, listed)

    assert files_of(repository, done.snapshot, root) == {"log": SMALL[:10]}


# ------------------------------------------------------------------- odd content


def test_holes_are_neither_read_nor_stored(tmp_path: Path, repository: Repository) -> None:
    root = plant(tmp_path / "data", {})
    root.mkdir()
    with (root / "sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(LARGE)
        file.truncate(64 << 20)

    done = archived(repository, scanned(root))

    assert done.stats.bytes == 64 << 20
    assert done.stats.bytes_read < 2 * len(LARGE)
    entry = found(repository, done.snapshot, root / "sparse")
    assert entry and content_of(repository, entry) == bytes(3 << 20) + LARGE + bytes((61 << 20) - len(LARGE))


def test_a_file_that_is_one_hole_keeps_its_attributes(tmp_path: Path, repository: Repository) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "hole").touch()
    os.truncate(root / "hole", 100 << 30)
    os.setxattr(root / "hole", "user.note", b"kept")

    done = archived(repository, scanned(root))

    entry = found(repository, done.snapshot, root / "hole")
    assert entry and (entry.size, entry.content, entry.xattrs) == (100 << 30, b"", ((b"user.note", b"kept"),))
    assert done.stats.bytes_read == 0


def test_a_file_of_many_units_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units come back from the workers in any order; long content goes to pages of its own."""
    monkeypatch.setattr(fmt, "UNIT_SIZE", 100_000)
    monkeypatch.setattr(fmt, "CONTENT_PAGE", 300)
    data = os.urandom(3_000_001)
    root = plant(tmp_path / "data", {"large": data})
    repository = local_repository(tmp_path / "store")

    done = archived(repository, scanned(root), options=Options(workers=3))

    assert files_of(repository, done.snapshot, root) == {"large": data}
    entry = found(repository, done.snapshot, root / "large")
    assert entry and isinstance(entry.content, tuple)
    again = archived(repository, scanned(root), "again", parent=done.snapshot)
    assert again.stats.bytes_read == 0
    assert files_of(repository, again.snapshot, root) == {"large": data}


@pytest.mark.parametrize(("year", "kept"), [(2500, 2500), (9999, 2554), (1500, 1677)])
def test_a_time_that_no_file_system_should_hold_spoils_nothing(
    tmp_path: Path, repository: Repository, year: int, kept: int
) -> None:
    """A wrong clock may give a file any time; one such file must not end the run, nor the restore."""
    root, reports = Path(tempfile.mkdtemp(dir="/dev/shm")), Reports()
    second = (datetime(year, 6, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    plant(root, {"small": SMALL, "large": LARGE})
    for name in ("small", "large"):
        os.utime(root / name, ns=(0, second * 10**9))

    done = archived(repository, scanned(root), report=reports.append)
    again = archived(repository, scanned(root), "again", parent=done.snapshot)
    restored = restore(repository, done.snapshot, bytes(tmp_path / "target"), base=bytes(root)[1:])

    shutil.rmtree(root)
    assert files_of(repository, done.snapshot, root) == {"small": SMALL, "large": LARGE}
    times = [e.mtime_ns // 10**9 for e in entries(repository, done.snapshot) if e.kind is Kind.FILE]
    assert {(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time)).year for time in times} == {kept}
    assert len(reports) == (0 if year == kept else 2)
    assert again.stats.bytes_read == 0
    assert (restored.failed, (tmp_path / "target" / "large").read_bytes()) == (0, LARGE)


def stream(path: bytes, data: bytes, **more: Any) -> Entry:
    return Entry(path, Kind.FILE, source=lambda: io.BytesIO(data), **more)


@pytest.mark.parametrize("options", [INLINE, FORKED], ids=["inline", "forked"])
def test_streams_and_files_may_be_mixed(tmp_path: Path, options: Options) -> None:
    repository = local_repository(tmp_path / "store")
    dump = os.urandom(9_000_000)
    root = plant(tmp_path / "data", {"m": b"a file between"})

    done = archived(
        repository,
        [*scanned(root), stream(b"zz/1", dump), stream(b"zz/2", b""), stream(b"zz/3", dump[:5])],
        options=options,
    )

    assert files_of(repository, done.snapshot, "zz") == {"1": dump, "2": b"", "3": dump[:5]}
    assert files_of(repository, done.snapshot, root) == {"m": b"a file between"}
    sums = {entry.path: entry.sha256 for entry in entries(repository, done.snapshot, b"zz")}
    assert sums == {b"zz/1": fmt.sha256(dump), b"zz/2": fmt.sha256(b""), b"zz/3": fmt.sha256(dump[:5])}


def test_attributes_that_a_strategy_gives_are_kept(tmp_path: Path, repository: Repository) -> None:
    """A copy of a database stands in for the database, which has attributes of its own."""
    root = plant(tmp_path / "copies", {"copy": LARGE})
    os.setxattr(root / "copy", "user.note", b"of the copy")
    st = (root / "copy").stat()
    given: dict[str, Any] = {"xattrs": ((b"user.note", b"of the database"),), "flags": 0x40}
    copy = Entry(
        b"data.db", Kind.FILE, inode=st.st_ino, size=st.st_size, mtime_ns=st.st_mtime_ns, ctime_ns=st.st_ctime_ns,
        source=bytes(root / "copy"), **given,
    )  # fmt: skip

    done = archived(repository, [ROOT, copy, stream(b"dump.sql", b"select 1", **given)])

    kept = {entry.path: (entry.xattrs, entry.flags) for entry in entries(repository, done.snapshot) if entry.path}
    assert kept == dict.fromkeys((b"data.db", b"dump.sql"), (given["xattrs"], 0x40))
    assert files_of(repository, done.snapshot)["data.db"] == LARGE


def test_a_stream_that_breaks_leaves_nothing_visible(repository: Repository) -> None:
    class Broken(io.BytesIO):
        def readinto(self, _: Any) -> int:
            raise SourceError("pg_dump ended with status 1.")

    broken = Entry(b"dump", Kind.FILE, source=lambda: Broken())

    with pytest.raises(SourceError, match="status 1"):
        archived(repository, [ROOT, broken])

    assert opened(repository.store).snapshots == []


# ------------------------------------------------------------------- the commit


def test_a_refused_commit_leaves_nothing_visible(repository: Repository, root: Path) -> None:
    def refused() -> None:
        raise LostLease("Somebody else has this job now.")

    with pytest.raises(LostLease):
        archived(repository, scanned(root), commit=refused)

    assert opened(repository.store).snapshots == []
    later = opened(repository.store)
    again = archived(later, scanned(root), "again")
    assert again.stats.bytes_stored == 0
    assert files_of(later, again.snapshot, root) == TREE


def test_everything_is_durable_before_the_commit_is_asked_for(root: Path) -> None:
    store = MemoryStore()
    repository = new_repository(store)
    seen: list[set[str]] = []

    archived(repository, scanned(root), commit=lambda: seen.append(set(store.objects)))

    assert set(store.objects) - seen[0] == {repository.log.snapshot("first").record}


def test_a_run_that_was_committed_before_is_committed_once(repository: Repository, root: Path) -> None:
    first = archived(repository, scanned(root), "part").snapshot

    again = archived(opened(repository.store), scanned(root), "part").snapshot

    assert again == first
    assert [s.id for s in opened(repository.store).snapshots] == ["part"]


def test_progress_may_cancel(repository: Repository, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))

    def stop(_: Stats) -> None:
        raise Cancelled("Somebody asked for the end.")

    with pytest.raises(Cancelled):
        archived(repository, scanned(root), progress=stop)

    assert opened(repository.store).snapshots == []


def test_a_checkpoint_comes_after_so_many_commits(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "RECORDS_PER_CHECKPOINT", 4)
    for number in range(9):
        archived(repository, [ROOT], str(number))

    kinds = [repository.log.read(name).kind for name in sorted(repository.log.names)]

    assert [at for at, kind in enumerate(kinds) if kind == "checkpoint"] == [0, 5, 10]
    assert len(opened(repository.store).snapshots) == 9


# --------------------------------------------------------------------- the parent


def test_a_damaged_parent_costs_reading_and_the_new_snapshot_is_sound(root: Path) -> None:
    store, reports = MemoryStore(), Reports()
    first = archived(new_repository(store), scanned(root)).snapshot
    name = fmt.pack_name(first.tree_packs[0])
    store.objects[name] = store.objects[name][:100] + b"damaged" + store.objects[name][107:]
    repository = opened(store)

    second = archived(repository, scanned(root), "second", parent=first, report=reports.append)

    assert len(reports) == 1
    assert "The parent snapshot is damaged, so all is read anew" in reports[0].message
    assert name in reports[0].message
    assert second.stats.bytes_read == second.stats.bytes
    assert files_of(opened(store), second.snapshot, root) == TREE


def test_pages_of_a_parent_that_was_lost_are_stored_again_and_heal_it(root: Path) -> None:
    store = MemoryStore()
    first = archived(new_repository(store), scanned(root)).snapshot
    for digest in first.tree_packs:
        store.delete(fmt.pack_name(digest))

    second = archived(opened(store), scanned(root), "second", parent=first).snapshot

    assert second.root == first.root
    assert files_of(opened(store), first, root) == TREE


def test_a_store_that_does_not_answer_is_no_damaged_parent(root: Path) -> None:
    store = MemoryStore()
    first = archived(new_repository(store), scanned(root)).snapshot
    faulty = FaultyStore(store)
    repository = opened(faulty)
    repository.sync_index()
    faulty.faults = [Fault(Harm.ERROR, "get", at=faulty.counts["get"] + 1)]

    with pytest.raises(EngineError) as caught:
        archived(repository, scanned(root), "second", parent=first)

    assert not caught.value.permanent


# ------------------------------------------------------------------ interruptions


@pytest.fixture
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "FRAME_SIZE", 20_000)
    monkeypatch.setattr(fmt, "PACK_SIZE", 50_000)
    monkeypatch.setattr(fmt, "PACKS_PER_INDEX", 2)


@pytest.mark.usefixtures("_small_packs")
@pytest.mark.parametrize("harm", [Harm.CRASH, Harm.CRASH_AFTER])
def test_a_run_killed_at_any_step_is_resumed_from_its_last_index(root: Path, harm: Harm) -> None:
    for put in itertools.count(1):
        store = MemoryStore()
        faulty = FaultyStore(store)
        repository = new_repository(faulty)
        faulty.faults = [Fault(harm, "put", at=faulty.counts["put"] + put)]
        try:
            archived(repository, scanned(root))
            break  # there are fewer steps than that
        except Crash:
            indexed = set(opened(store).sync_index().ids())
            committed = {snapshot.id for snapshot in opened(store).snapshots}

        done = archived(opened(store), scanned(root))

        again = opened(store)
        assert files_of(again, done.snapshot, root) == TREE
        assert {snapshot.id for snapshot in again.snapshots} == {"first"} >= committed
        assert not indexed & {b for b in again.index.ids() if len(list(again.index.find_all(b))) > 1}
    assert put > 6


class DeadlyForWorkers(FaultyStore):
    """SIGKILL at the third put of every process but our own."""

    def fresh(self) -> FaultyStore:
        return FaultyStore(self.inner.fresh(), [Fault(Harm.CRASH, "put", at=3)], kill=True)


@pytest.mark.usefixtures("_small_packs")
def test_a_killed_worker_ends_the_run_and_the_next_one_succeeds(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real SIGKILL to a worker at its own third put."""
    plant(root, {f"many/{n}": os.urandom(3000) for n in range(300)})
    monkeypatch.setattr("backups.engine.archiver.BATCH_FILES", 20)
    repository = local_repository(tmp_path / "store")
    before = children()
    doomed = opened(DeadlyForWorkers(LocalStore(str(tmp_path / "store"))))

    with pytest.raises(WorkerDied, match="SIGKILL"):
        archived(doomed, scanned(root), options=FORKED)

    assert children() <= before
    again = opened(repository.store)
    assert again.snapshots == []
    done = archived(again, scanned(root), options=FORKED)
    assert len(files_of(again, done.snapshot, root)) == 305


@pytest.mark.usefixtures("_small_packs")
def test_a_full_store_is_told_and_what_was_there_stays_readable(root: Path) -> None:
    store = MemoryStore()
    repository = new_repository(store)
    first = archived(repository, scanned(root)).snapshot
    plant(root, {"more": os.urandom(600_000)})
    full = FaultyStore(store, [Fault(Harm.ERROR, "put", at=2, times=99, error=StoreFull("No space is left."))])

    with pytest.raises(StoreFull):
        archived(opened(full), scanned(root), "second", parent=first)

    again = opened(store)
    assert [snapshot.id for snapshot in again.snapshots] == ["first"]
    assert files_of(again, first, root) == TREE


def test_a_run_leaves_no_handle_open(root: Path, repository: Repository) -> None:
    """A process that makes many, as an embedded one does, would come to its limit."""
    archived(repository, scanned(root), "first")
    before = set(os.listdir("/proc/self/fd"))

    for number in range(5):
        (root / "b/large").write_bytes(os.urandom(700_000))
        archived(repository, scanned(root), f"run {number}", parent=repository.snapshots[-1])

    assert len(os.listdir("/proc/self/fd")) == len(before)
