"""Whole pages of the parent's tree stand in the new tree as they are, and nobody can tell it from a full run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backups.engine import Kind, Options, Repository, Snapshot, assembly, entries, tree
from backups.engine import format as fmt
from backups.engine.assembly import Assembly, Slot, Stretch
from backups.engine.capture import Capture
from backups.engine.content import pack_unit
from backups.engine.entry import Blob, Entry, Unit
from backups.engine.errors import BlobMissing, EngineError
from backups.engine.parent import UnitWalk
from backups.engine.tree import Leaf, TreeWriter
from tests.engine.scenery import FORKED, INLINE, archived, files_of, local_repository, new_repository, plant, scanned

FULL = Options(workers=0, assume_unchanged=False)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "PAGE_ENTRIES", 16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = [f"{letter}{n % 7}/{n % 5}/{n:03d}" for n in range(300) for letter in "ab"]
    planted = plant(tmp_path / "data", {name: name.encode() * 20 for name in names})
    (planted / "a1" / "link").symlink_to("nowhere")
    os.mkfifo(planted / "b2" / "pipe")
    return planted


def leaves(repository: Repository, root: bytes) -> list[Leaf]:
    found = [Leaf(raw) for raw in tree.leaves(repository.load_blob, root)]
    found[-1].last = True
    return found


# -------------------------------------------------------------------- whole runs


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The paths of the entries that were written one by one, and of the rows that were copied."""
    paths: list[bytes] = []
    add, copy = TreeWriter.add, TreeWriter.copy

    def noted(self: TreeWriter, entry: Entry) -> None:
        paths.append(entry.path)
        add(self, entry)

    def copied(self: TreeWriter, leaf: Leaf, start: int, stop: int) -> None:
        paths.extend(leaf.paths[start:stop])
        copy(self, leaf, start, stop)

    monkeypatch.setattr(TreeWriter, "add", noted)
    monkeypatch.setattr(TreeWriter, "copy", copied)
    return paths


def test_pages_without_a_change_are_not_made_again(root: Path, added: list[bytes]) -> None:
    repository, seen = new_repository(), list(scanned(root))
    first = archived(repository, map(replace, seen))
    assert len(added) == first.stats.items
    added.clear()

    second = archived(repository, seen, "second", parent=first.snapshot)

    assert added == leaves(repository, first.snapshot.root)[-1].paths  # the last page alone
    assert (second.snapshot.root, second.stats.unchanged) == (first.snapshot.root, first.stats.items)
    assert (second.snapshot.entries, second.snapshot.size) == (first.snapshot.entries, first.snapshot.size)
    assert second.snapshot.manifest_sha256 == first.snapshot.manifest_sha256


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("options", [INLINE, FORKED], ids=["inline", "forked"])
def test_the_tree_is_the_one_that_a_full_run_makes(tmp_path: Path, root: Path, seed: int, options: Options) -> None:
    repository, chance = local_repository(tmp_path / "store"), random.Random(seed)
    parent = archived(repository, scanned(root))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in chance.sample(files, chance.choice([1, 3, 40])):
        deed = chance.randrange(4)
        if deed == 0:
            path.unlink()
        elif deed == 1:
            path.write_bytes(chance.randbytes(300))
        elif deed == 2:
            path.rename(path.with_name(f"{chance.randrange(9)}{path.name}"))
        else:
            plant(path.parent, {f"{path.name}.new/x": b"new"})

    seen = list(scanned(root))  # once: the directories above belong to everybody
    quick = archived(repository, map(replace, seen), "quick", parent=parent.snapshot, options=options)
    full = archived(repository, seen, "full", options=FULL)

    assert quick.snapshot.root == full.snapshot.root
    assert quick.snapshot.manifest_sha256 == full.snapshot.manifest_sha256
    assert files_of(repository, quick.snapshot, root) == {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    stats = quick.stats
    assert (stats.files, stats.directories, stats.others) == (full.stats.files, full.stats.directories, 2)
    assert stats.new + stats.changed + stats.unchanged == stats.items == full.stats.items
    assert stats.removed == parent.stats.items + stats.new - stats.items
    assert stats.bytes == full.stats.bytes


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: setattr(entry, "mode", 0o700),
        lambda entry: setattr(entry, "uid", 77),
        lambda entry: setattr(entry, "mtime_ns", entry.mtime_ns + 1),
        lambda entry: setattr(entry, "ctime_ns", entry.ctime_ns + 1),
        lambda entry: setattr(entry, "inode", entry.inode + 1),
        lambda entry: setattr(entry, "nlink", entry.nlink + 1),
        lambda entry: setattr(entry, "xattrs", ((b"user.x", b"y"),)),
    ],
)
def test_a_directory_with_any_difference_is_not_taken_over(root: Path, change: object) -> None:
    repository = new_repository()
    first = archived(repository, scanned(root))
    path = bytes(root / "a1")[1:]

    def changed() -> Iterator[Entry]:
        for entry in scanned(root):
            if entry.path == path:
                assert callable(change)
                change(entry)
            yield entry

    second = archived(repository, changed(), "second", parent=first.snapshot)

    before, after = (next(entries(repository, s, path)) for s in (first.snapshot, second.snapshot))
    assert before.kind is after.kind is Kind.DIRECTORY
    assert before != after


def test_a_volume_that_was_mounted_anew_changes_nothing(root: Path) -> None:
    """The device number is another one after each boot."""
    repository, seen = new_repository(), list(scanned(root))
    first = archived(repository, map(replace, seen))
    elsewhere = (replace(entry, device=entry.device + 1) for entry in seen)

    second = archived(repository, elsewhere, "second", parent=first.snapshot)

    assert second.snapshot.root == first.snapshot.root


# ---------------------------------------------------------------------- the writer


def pages_of(count: int) -> tuple[dict[bytes, bytes], tree.Tree]:
    pages: dict[bytes, bytes] = {}
    writer = TreeWriter(lambda raw: pages.setdefault(fmt.sha256(raw), raw) and fmt.sha256(raw))
    for number in range(count):
        writer.add(Entry(b"%06d" % number, Kind.FILE, size=number, xattrs=(), content=b"c" * 64))
    return pages, writer.finish()


def taken(pages: dict[bytes, bytes], done: tree.Tree) -> list[Leaf]:
    found = [Leaf(raw) for raw in tree.leaves(pages.__getitem__, done.root)]
    found[-1].last = True
    return found


def test_a_tree_of_pages_is_the_tree_of_their_entries() -> None:
    pages, done = pages_of(500)
    writer = TreeWriter(fmt.sha256)
    *most, last = taken(pages, done)

    assert all(writer.take(leaf) for leaf in most)
    assert not writer.take(last)
    for at in range(len(last.rows)):
        writer.add(last.entry(at))

    assert writer.finish() == done


def test_a_page_is_refused_in_the_middle_of_another() -> None:
    pages, done = pages_of(500)
    first, second, *_ = taken(pages, done)
    writer = TreeWriter(fmt.sha256)
    writer.add(first.entry(0))

    assert not writer.take(second)


def test_a_page_out_of_order_is_an_error() -> None:
    pages, done = pages_of(500)
    first, second, *_ = taken(pages, done)
    writer = TreeWriter(fmt.sha256)
    writer.take(second)

    with pytest.raises(EngineError, match="out of order"):
        writer.take(first)


def test_rows_of_other_pages_are_written_as_their_entries_are(chance: random.Random) -> None:
    first, second = TreeWriter(fmt.sha256), TreeWriter(fmt.sha256)
    found = [odd(number, chance) for number in range(3000)]
    leaf = Leaf(tree.encode_entries(found))

    for entry in found:
        first.add(entry)
    for start in range(0, 3000, 700):
        second.copy(leaf, start, min(start + 700, 3000))

    assert second.finish() == first.finish()


@pytest.fixture(params=range(5))
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def odd(number: int, chance: random.Random) -> Entry:
    """Any of all that an entry can be, its path in order."""
    path = b"%03d/%05d" % (number // 40, number)
    kind = chance.choice([Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO, Kind.CHARACTER])
    return Entry(
        path, kind, uid=number % 3, user=("", "olivia", "root")[number % 3], gid=number % 5, group="x" * (number % 5),
        mode=chance.choice([0o600, 0o755]), size=chance.randrange(1 << 40) if kind is Kind.FILE else 0,
        mtime_ns=chance.randrange(1 << 60), inode=number, nlink=chance.choice([1, 2]),
        target=b"to" * chance.randrange(900) if kind is Kind.SYMLINK else b"",
        rdev=chance.choice([0, 1280]), flags=chance.choice([0, 16]), block=chance.choice([0, 4096]),
        xattrs=chance.choice([(), ((b"user.x", bytes(chance.randrange(500))),)]),
        content=chance.choice([None, b"", b"c" * 64, (b"p" * 32, b"q" * 32)]) if kind is Kind.FILE else None,
        sha256=chance.choice([b"", b"s" * 32]),
    )  # fmt: skip


def test_rows_out_of_order_are_an_error() -> None:
    pages, done = pages_of(500)
    first, second, *_ = taken(pages, done)
    writer = TreeWriter(fmt.sha256)
    writer.copy(second, 0, 1)

    with pytest.raises(EngineError, match="out of order"):
        writer.copy(first, 0, 1)


# ------------------------------------------------------------------------ the queue


class Queue(Assembly):
    """Tells what left it: a path, or the rows of a stretch."""

    def __init__(self) -> None:
        self.left: list[object] = []
        super().__init__(self._slot, self.left.append, self._rows)

    def _slot(self, slot: Slot) -> None:
        self.left.append(slot.entry.path)

    def _rows(self, stretch: Stretch) -> None:
        self.left.append((stretch.start, stretch.stop))


def page() -> Leaf:
    pages, done = pages_of(500)
    return max(taken(pages, done), key=lambda leaf: len(leaf.rows))


def test_a_stretch_leaves_when_its_page_ends() -> None:
    queue, leaf = Queue(), page()

    for at in range(len(leaf.rows)):
        assert queue.left == []
        queue.push_row(leaf, at)

    assert queue.left == [(0, len(leaf.rows))]


def test_a_stretch_leaves_in_its_turn() -> None:
    queue, leaf, slow = Queue(), page(), Slot(Entry(b"slow", Kind.FILE), None)
    queue.push_row(leaf, 0)
    queue.push(slow)
    queue.push_row(leaf, 1)
    queue.push_row(leaf, 3)
    queue.push(Slot(Entry(b"quick", Kind.FILE), None, ready=True))
    assert queue.left == [(0, 1)]

    slow.ready = True
    queue.advance()

    assert queue.left == [(0, 1), b"slow", (1, 2), (3, 4), b"quick"]


def test_rows_that_wait_fill_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "WINDOW", 3)
    queue, leaf, slow = Queue(), page(), Slot(Entry(b"slow", Kind.FILE), None)
    queue.push(slow)
    for at in range(2 * assembly.ROWS):
        assert not queue.full
        queue.push_row(leaf, at)
    assert queue.full

    slow.ready = True
    queue.close_stretch()
    queue.advance()

    assert not queue.full


def test_a_page_longer_than_any_stretch_leaves_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "LONGEST", 3)
    queue, leaf = Queue(), page()

    for at in range(7):
        queue.push_row(leaf, at)

    assert queue.left == [(0, 3), (3, 6)]


# ------------------------------------------------------------- units of large files


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets of the units that were read and hashed whole."""
    offsets: list[int] = []
    whole = Capture._read_unit

    def noted(self: Capture, fd: int, offset: int, length: int, block: int) -> Unit:
        offsets.append(offset)
        return whole(self, fd, offset, length, block)

    monkeypatch.setattr(Capture, "_read_unit", noted)
    monkeypatch.setattr(fmt, "UNIT_SIZE", fmt.MiB)
    return offsets


def large(tmp_path: Path) -> tuple[Path, Path, Repository]:
    root = plant(tmp_path / "data", {"large": random.Random(1).randbytes(5 * fmt.MiB + 1000)})
    return root, root / "large", new_repository()


def test_only_units_with_a_difference_are_hashed_again(tmp_path: Path, read: list[int]) -> None:
    root, path, repository = large(tmp_path)
    first = archived(repository, scanned(root))
    assert read == [fmt.MiB * n for n in range(6)]
    with path.open("r+b") as file:
        file.seek(3 * fmt.MiB - 5)
        file.write(b"other")
        file.seek(0, os.SEEK_END)
        file.write(b"longer")
    read.clear()

    second = archived(repository, scanned(root), "second", parent=first.snapshot)

    assert read == [2 * fmt.MiB, 5 * fmt.MiB]
    assert second.stats.bytes_read == path.stat().st_size
    assert files_of(repository, second.snapshot, root) == {"large": path.read_bytes()}
    full = archived(repository, scanned(root), "full", options=FULL)
    assert content(repository, second.snapshot, path) == content(repository, full.snapshot, path)


def content(repository: Repository, snapshot: Snapshot, path: Path) -> object:
    return next(entries(repository, snapshot, bytes(path)[1:])).content


def test_a_full_run_beside_a_parent_hashes_no_unit_twice(tmp_path: Path, read: list[int]) -> None:
    root, path, repository = large(tmp_path)
    first = archived(repository, scanned(root))
    read.clear()

    second = archived(repository, scanned(root), "second", parent=first.snapshot, options=FULL)

    assert (read, second.stats.bytes_read) == ([], path.stat().st_size)
    assert files_of(repository, second.snapshot, root) == {"large": path.read_bytes()}


@pytest.mark.parametrize("size", [3 * fmt.MiB - 1, 3 * fmt.MiB + 1, 200_000, 100])
def test_a_unit_of_another_length_is_another_unit(tmp_path: Path, read: list[int], size: int) -> None:
    root, path, repository = large(tmp_path)
    os.truncate(path, 3 * fmt.MiB)
    first = archived(repository, scanned(root))
    os.truncate(path, size)

    second = archived(repository, scanned(root), "second", parent=first.snapshot)

    assert files_of(repository, second.snapshot, root) == {"large": path.read_bytes()}


def unit(offset: int) -> Unit:
    return Unit(offset, 10, bytes(32), (Blob(bytes(32), 10),))


def test_units_of_the_parent_are_found_by_their_offset() -> None:
    packed = [pack_unit(unit(offset)) for offset in (0, 20, 30)]
    walk = UnitWalk(Entry(b"x", Kind.FILE, size=40, content=b"".join(packed)), bytes)

    assert [walk.at(offset) for offset in (0, 10, 20, 40, 50)] == [packed[0], b"", packed[1], b"", b""]


def test_units_that_cannot_be_read_are_no_help_and_no_harm() -> None:
    def gone(blob_id: bytes) -> bytes:
        raise BlobMissing(blob_id)

    walk = UnitWalk(Entry(b"x", Kind.FILE, size=40, content=(bytes(32),)), gone)

    assert [walk.at(0), walk.at(30)] == [b"", b""]
    assert UnitWalk(None, gone).at(0) == b""


# ------------------------------------------------------------------- what it loads

RUN = """
import sys
from backups.engine import archiver, table
table.FEW = archiver.FEW = int(sys.argv[3])
from backups.engine.__main__ import main
assert main(["backup", *sys.argv[1:3], "--quiet"]) == 0
print("numpy" in sys.modules)
"""


def run(repository: Path, root: Path, few: int) -> str:
    environment = {"AIHUB_PASSPHRASE": "secret", "AIHUB_CACHE_DIR": f"{repository}.cache", "PATH": os.environ["PATH"]}
    if few < 0:
        command = ["-m", "backups.engine", "init", str(repository)]
    else:
        command = ["-c", RUN, str(repository), str(root), str(few)]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def test_a_run_that_finds_little_after_one_that_stored_much_does_not_load_numpy(tmp_path: Path) -> None:
    """Loading it takes as long as looking at thousands of files."""
    repository, root = tmp_path / "store", plant(tmp_path / "data", {f"{n}": b"%d" % n for n in range(40)})
    run(repository, root, -1)

    assert run(repository, root, few=5) == "True"
    plant(root, {"one more": b"one more"})
    assert run(repository, root, few=50) == "False"
