"""Writing a tree back: whole or not at all, exact, and never outside of the target."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backups.engine import kernel
from backups.engine import target as target_module
from backups.engine.entry import Entry, ItemError, Kind
from backups.engine.errors import TargetError
from backups.engine.extract import DirectoryWriter, NotRestored, probe_target
from backups.engine.target import PREFIX, TargetFacts
from tests.components import open_the_way
from tests.engine import trees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices, owners and mounts")
RENAME_EXCHANGE = 2


def raw(path: Path) -> bytes:
    return os.fsencode(path)


def directory(path: bytes = b"", **facts: object) -> Entry:
    return Entry(path, Kind.DIRECTORY, 0o755, os.geteuid(), os.getegid(), **facts)  # type: ignore[arg-type]  # passed on


def file(path: bytes, size: int = 5, **facts: object) -> Entry:
    return Entry(path, Kind.FILE, 0o644, os.geteuid(), os.getegid(), size=size, **facts)  # type: ignore[arg-type]  # same


def put(writer: DirectoryWriter, path: bytes, data: bytes = b"hello") -> None:
    with writer.open_writer(file(path, len(data))) as out:
        out.write_at(0, data)


def left_beside(target: Path) -> list[str]:
    """What stands beside the target, or in it, that is ours and unfinished."""
    places = [target.parent, *([target] if target.is_dir() else [])]
    return [name for place in places for name in os.listdir(place) if name.startswith(os.fsdecode(PREFIX))]


# exactly what there was


@pytest.fixture(params=["new", "empty"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    target = tmp_path / "target"
    if request.param == "empty":
        target.mkdir(0o700)
    yield target
    trees.remove(target)


def test_it_brings_back_everything_a_tree_may_hold(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    trees.plant_oddities(source)
    told: list[ItemError] = []

    with DirectoryWriter(raw(target), base=raw(source)[1:], privileges=True, report=told.append) as writer:
        trees.copy(source, writer)

    assert told == []
    assert trees.picture(target) == trees.picture(source)
    assert (target / "sparse").stat().st_blocks <= 32
    assert left_beside(target) == []


@needs_root
@pytest.mark.root
def test_it_strips_privileges_unless_asked_for_them(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    trees.plant_oddities(source)
    told: list[ItemError] = []

    with DirectoryWriter(raw(target), base=raw(source)[1:], report=told.append) as writer:
        trees.copy(source, writer)

    assert stat.S_IMODE((target / "tool").stat().st_mode) == 0o755
    assert os.listxattr(target / "capable") == []
    assert not (target / "null").exists()
    assert (target / "empty").stat().st_uid == 12345
    reported = {(item.path.rpartition(b"/")[2], item.severity) for item in told}
    assert reported == {(b"tool", "warning"), (b"capable", "warning"), (b"null", "error")}


@needs_root
@pytest.mark.root
def test_it_keeps_no_setuid_bit_without_its_owner(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    trees.plant_oddities(source)

    with DirectoryWriter(raw(target), base=raw(source)[1:], preserve_owner=False, privileges=True) as writer:
        trees.copy(source, writer)

    assert stat.S_IMODE((target / "tool").stat().st_mode) == 0o755
    assert (target / "tool").stat().st_uid == 0


@needs_root
@pytest.mark.root
def test_it_maps_owners_by_name_where_asked(tmp_path: Path) -> None:
    known = Entry(b"known", Kind.FILE, uid=4242, gid=4242, user="nobody", group="nogroup")
    unknown = Entry(b"unknown", Kind.FILE, uid=4242, gid=4243, user="nobody-has-this-name", group="")

    with DirectoryWriter(raw(tmp_path / "t"), owners_by_name=True) as writer:
        for entry in (known, unknown, replace(known, path=b"again")):
            writer.open_writer(entry).finish()

    assert (tmp_path / "t" / "known").stat().st_uid == 65534
    assert ((tmp_path / "t" / "unknown").stat().st_uid, (tmp_path / "t" / "unknown").stat().st_gid) == (4242, 4243)


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("existing", [False, True])
def test_it_locks_files_last(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "target"
    if existing:
        target.mkdir()
    if not _flags_here(tmp_path):
        pytest.skip("this file system keeps no inode flags")
    try:
        with DirectoryWriter(raw(target), privileges=True, report=trees.fail) as writer:
            writer.make_directory(directory(mtime_ns=10**18))
            writer.make_directory(directory(b"d", flags=0x10, mtime_ns=10**18))
            with writer.open_writer(file(b"a", flags=0x10, mtime_ns=10**18, nlink=2)) as out:
                out.write_at(0, b"hello")
            with writer.open_writer(file(b"d/append", flags=0x20, mtime_ns=10**18)) as out:
                out.write_at(0, b"hello")
            writer.link(file(b"d/b", nlink=2), b"a")

        flags = {path: _flags(target / path) & kernel.LOCKS for path in ("a", "d/b", "d/append", "d")}
        assert flags == {"a": 0x10, "d/b": 0x10, "d/append": 0x20, "d": 0x10}
        assert all((target / path).stat().st_mtime_ns == 10**18 for path in ("a", "d/append", "d", "."))
    finally:
        subprocess.run(["chattr", "-R", "-i", "-a", tmp_path], check=False, capture_output=True)


def _flags(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return kernel.get_flags(fd)
    finally:
        os.close(fd)


def _flags_here(place: Path) -> bool:
    (place / "probe").touch()
    return subprocess.run(["chattr", "+d", place / "probe"], check=False, capture_output=True).returncode == 0


def test_it_writes_in_any_order_and_leaves_holes(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer, writer.open_writer(file(b"f", 1 << 20)) as out:
        out.write_at(500_000, memoryview(b"later"))
        out.write_at(0, b"first")

    data = (tmp_path / "t" / "f").read_bytes()
    assert data == b"first" + bytes(499_995) + b"later" + bytes((1 << 20) - 500_005)
    assert (tmp_path / "t" / "f").stat().st_blocks * 512 < 100_000


def test_it_inherits_no_acl_from_where_it_is_put(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:7:rwx", tmp_path], check=True)

    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        writer.make_directory(directory())
        writer.make_directory(directory(b"d"))
        put(writer, b"d/f")

    assert [os.listxattr(tmp_path / "t" / path) for path in ("", "d", "d/f")] == [[], [], []]


def test_it_reports_what_it_cannot_give_back_and_goes_on(tmp_path: Path) -> None:
    told: list[ItemError] = []
    odd = file(b"f", xattrs=((b"user.big", b"x" * 60_000), (b"user.fine", b"1")))

    with DirectoryWriter(raw(tmp_path / "t"), report=told.append) as writer, writer.open_writer(odd) as out:
        out.write_at(0, b"hello")

    assert os.listxattr(tmp_path / "t" / "f") == ["user.fine"]
    assert [(item.path, item.severity) for item in told] == [(b"f", "warning")]
    assert "attribute user.big could not be restored: no space left" in told[0].message


def test_it_makes_the_directories_above_a_new_target(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "a" / "b" / "t")) as writer:
        put(writer, b"f")

    assert (tmp_path / "a" / "b" / "t" / "f").read_text() == "hello"


@needs_root
@pytest.mark.root
def test_it_leaves_the_labels_of_another_policy_alone_unless_asked(tmp_path: Path) -> None:
    labelled = file(b"f", 0, xattrs=((b"security.selinux", b"system_u:object_r:etc_t:s0\0"),))

    for wanted in (False, True):
        with DirectoryWriter(raw(tmp_path / str(wanted)), selinux=wanted, privileges=True, report=trees.fail) as writer:
            writer.open_writer(labelled).finish()

    assert os.listxattr(tmp_path / "False" / "f") == []
    assert os.listxattr(tmp_path / "True" / "f") == ["security.selinux"]


def test_it_reports_flags_it_may_not_or_cannot_set(tmp_path: Path) -> None:
    told: list[ItemError] = []

    with DirectoryWriter(raw(tmp_path / "t"), report=told.append) as writer:
        writer.open_writer(file(b"immutable", 0, flags=0x10)).finish()
        writer.open_writer(file(b"no copy on write", 0, flags=0x0080_0000)).finish()

    assert told[0].path == b"immutable"
    assert "flag was not restored: that needs privileges" in told[0].message
    assert all(item.path == b"no copy on write" and item.severity == "warning" for item in told[1:])
    assert _flags(tmp_path / "t" / "immutable") & kernel.LOCKS == 0


def test_it_reports_a_time_nobody_can_express(tmp_path: Path) -> None:
    told: list[ItemError] = []

    with DirectoryWriter(raw(tmp_path / "t"), report=told.append) as writer:
        writer.open_writer(file(b"f", 0, mtime_ns=2**100)).finish()

    assert "time could not be restored: this system cannot express it" in told[0].message


def test_it_reports_a_size_the_target_cannot_take(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        with pytest.raises(NotRestored, match="file too large"), writer.open_writer(file(b"f", 2**62)):
            pass
        with pytest.raises(NotRestored, match="file too large"), writer.open_writer(file(b"f", 2**62)) as out:
            out.write_at(2**62 - 1, b"x")

    assert os.listdir(tmp_path / "t") == []


# all or nothing


def test_it_shows_nothing_before_it_is_whole(tmp_path: Path, target: Path) -> None:
    existed = target.exists()
    with DirectoryWriter(raw(target)) as writer:
        put(writer, b"f")
        assert target.exists() == existed
        assert not (target / "f").exists()

    assert (target / "f").read_text() == "hello"


def test_it_leaves_no_trace_when_it_is_given_up(tmp_path: Path, target: Path) -> None:
    existed = target.exists()

    def broken() -> None:
        with DirectoryWriter(raw(target)) as writer:
            writer.make_directory(directory(b"d"))
            put(writer, b"d/f")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()

    assert target.exists() == existed
    assert left_beside(target) == []


def test_it_removes_the_directories_it_made_when_it_is_given_up(tmp_path: Path) -> None:
    DirectoryWriter(raw(tmp_path / "a" / "b" / "t")).discard()

    assert os.listdir(tmp_path) == []


def test_it_removes_a_file_that_is_not_whole(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        put(writer, b"good")
        with pytest.raises(ValueError), writer.open_writer(file(b"bad")) as out:
            out.write_at(0, b"he")
            raise ValueError

    assert os.listdir(tmp_path / "t") == ["good"]


def test_it_refuses_content_beyond_the_size(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        for offset in (1, 2**40, -1):
            with pytest.raises(NotRestored, match="beyond its size"), writer.open_writer(file(b"f")) as out:
                out.write_at(offset, b"hello")

    assert os.listdir(tmp_path / "t") == []


def test_it_aborts_twice(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        out = writer.open_writer(file(b"f"))
        out.abort()
        out.abort()

    assert os.listdir(tmp_path / "t") == []


def test_it_discards_once(tmp_path: Path) -> None:
    writer = DirectoryWriter(raw(tmp_path / "t"))
    put(writer, b"f")
    writer.close()

    writer.discard()

    assert (tmp_path / "t" / "f").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_it_cleans_up_behind_a_killed_restore(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "target"
    if existing:
        target.mkdir()

    def half() -> None:
        writer = DirectoryWriter(raw(target))
        writer.make_directory(directory(b"d"))
        put(writer, b"d/f")
        os.kill(os.getpid(), signal.SIGKILL)

    _in_child(half)
    left = left_beside(target)
    assert len(left) == 1

    with DirectoryWriter(raw(target)) as writer:
        put(writer, b"f")

    assert left_beside(target) == []
    assert os.listdir(target) == ["f"]


def test_it_leaves_the_remains_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / ".aihub-restore-00000000-11111111").mkdir()  # of a restore to another target

    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        put(writer, b"f")

    assert (tmp_path / ".aihub-restore-00000000-11111111").exists()


@needs_root
@pytest.mark.root
def test_it_leaves_what_only_looks_like_remains_alone(tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    (target / ".aihub-restore-file").write_text("x")
    (target / ".aihub-restore-link").symlink_to(tmp_path)
    (target / ".aihub-restore-others").mkdir()
    os.chown(target / ".aihub-restore-others", 65534, 65534)

    with DirectoryWriter(raw(target)) as writer:
        put(writer, b"f")

    assert sorted(os.listdir(target)) == [
        ".aihub-restore-file", ".aihub-restore-link", ".aihub-restore-others", "f",
    ]  # fmt: skip


def test_it_replaces_nothing_that_came_meanwhile(tmp_path: Path, target: Path) -> None:
    def restore() -> None:
        with DirectoryWriter(raw(target)) as writer:
            put(writer, b"f")
            target.mkdir(exist_ok=True)
            (target / "f").write_text("somebody else's")

    with pytest.raises(TargetError, match="cannot be written: file exists"):
        restore()

    assert (target / "f").read_text() == "somebody else's"
    assert left_beside(target) == []


def test_it_refuses_to_write_where_another_restore_writes(tmp_path: Path, target: Path) -> None:
    with DirectoryWriter(raw(target)) as writer:
        put(writer, b"f")
        with pytest.raises(TargetError, match="Another restore"):
            DirectoryWriter(raw(target))

    assert (target / "f").exists()


def test_it_fills_files_from_several_processes(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        for number in range(3):
            writer.make_directory(directory(b"d%d" % number, mtime_ns=10**18))
        for number in range(3):
            _in_child(lambda name=b"d%d/f" % number: put(writer, name))  # type: ignore[misc]  # bound now

    assert [(tmp_path / "t" / f"d{number}" / "f").read_text() for number in range(3)] == ["hello"] * 3
    assert (tmp_path / "t" / "d0").stat().st_mtime_ns == 10**18


def _in_child(deed: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            deed()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def test_it_needs_little_memory_for_many_directories(tmp_path: Path) -> None:
    import tracemalloc

    writer = DirectoryWriter(b"/dev/shm/aihub-many-directories")
    tracemalloc.start()
    try:
        for number in range(20_000):
            writer.make_directory(directory(b"d%05d" % number, xattrs=((b"user.x", b"y" * 300),)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        writer.discard()

    assert peak < 6 << 20


# where it cannot write


def test_it_refuses_a_target_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")

    with pytest.raises(TargetError, match=r"is not empty: it holds a and 1 more\. Choose a new or empty directory"):
        DirectoryWriter(raw(tmp_path))
    with pytest.raises(TargetError, match="is no directory"):
        DirectoryWriter(raw(tmp_path / "a"))
    with pytest.raises(TargetError, match=r"/a is no directory\. Choose"):
        DirectoryWriter(raw(tmp_path / "a" / "b"))
    with pytest.raises(TargetError, match="name a directory"):
        DirectoryWriter(b"")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB and 64 inodes."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "none", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@needs_root
@pytest.mark.root
def test_it_says_that_the_disk_is_full_and_leaves_no_trace(small_disk: Path) -> None:
    def fill() -> None:
        with DirectoryWriter(raw(small_disk / "t")) as writer:
            put(writer, b"f", bytes(512 << 10))

    with pytest.raises(TargetError, match=r"no room is left there\. Free space"):
        fill()

    assert os.listdir(small_disk) == []


@needs_root
@pytest.mark.root
def test_it_says_that_no_more_files_fit_and_leaves_no_trace(small_disk: Path) -> None:
    def fill() -> None:
        with DirectoryWriter(raw(small_disk)) as writer:
            for number in range(100):
                put(writer, b"f%d" % number, b"x")

    with pytest.raises(TargetError, match="no room is left there"):
        fill()

    assert os.listdir(small_disk) == []


@needs_root
@pytest.mark.root
def test_it_says_that_the_place_is_read_only(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    with pytest.raises(TargetError, match="mounted read-only"):
        DirectoryWriter(raw(small_disk / "t"))
    with pytest.raises(TargetError, match="mounted read-only"):
        probe_target(raw(small_disk))


@needs_root
@pytest.mark.root
def test_it_fills_a_mount_point(small_disk: Path) -> None:
    (small_disk / "lost+found").mkdir()

    with DirectoryWriter(raw(small_disk)) as writer:
        writer.make_directory(directory(mtime_ns=10**18))
        writer.make_directory(directory(b"lost+found"))
        put(writer, b"f")

    assert sorted(os.listdir(small_disk)) == ["f", "lost+found"]
    assert small_disk.stat().st_mtime_ns == 10**18


@needs_root
@pytest.mark.root
def test_it_says_that_permission_is_missing(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(0o700)
    told: list[str] = []

    def as_nobody() -> None:
        os.chmod(tmp_path, 0o755)
        os.setuid(65534)
        try:
            DirectoryWriter(raw(tmp_path / "t"))
        except TargetError as error:
            (Path("/dev/shm") / f"aihub-told-{os.getppid()}").write_text(str(error))

    _in_child(as_nobody)
    note = Path("/dev/shm") / f"aihub-told-{os.getpid()}"
    told.append(note.read_text())
    note.unlink()

    assert "permission denied. Let this account write there" in told[0]


@needs_root
@pytest.mark.root
def test_it_works_without_privileges_of_any_kind(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    os.chown(place, 65534, 65534)
    open_the_way(tmp_path)

    def as_nobody() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        for target in (place / "new", place / "empty"):
            with DirectoryWriter(raw(target)) as writer:
                writer.make_directory(directory(b"closed", mtime_ns=10**18))
                writer.make_directory(Entry(b"closed/deeper", Kind.DIRECTORY, 0o500, 65534, 65534))
                put(writer, b"closed/deeper/f")
                writer.open_writer(Entry(b"read", Kind.FILE, 0o400, xattrs=((b"user.x", b"1"),))).finish()
                writer.make_directory(Entry(b"shut", Kind.DIRECTORY, 0o555, 65534, 65534))
            DirectoryWriter(raw(place / "third")).discard()

    (place / "empty").mkdir()
    os.chown(place / "empty", 65534, 65534)
    _in_child(as_nobody)

    for target in (place / "new", place / "empty"):
        assert (target / "closed" / "deeper" / "f").read_text() == "hello"
        assert os.getxattr(target / "read", "user.x") == b"1"
        assert stat.S_IMODE((target / "shut").stat().st_mode) == 0o555
    assert left_beside(place / "empty") == []


# hostile snapshots and hostile neighbours


@pytest.mark.parametrize(
    "path", [b"..", b"../x", b"a/../../x", b"/etc/x", b"a/..", b".", b"a/./x", b"", b"link/x", b"a//x", b"nul\0x"]
)
def test_it_never_writes_outside_whatever_the_path(tmp_path: Path, path: bytes) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "inner" / "target"
    deeds: list[Callable[[DirectoryWriter], object]] = [
        lambda writer: put(writer, path),
        lambda writer: writer.symlink(Entry(path, Kind.SYMLINK, target=b"x")),
        lambda writer: writer.special(Entry(path, Kind.FIFO)),
        lambda writer: writer.link(file(path), b"a/f"),
        lambda writer: writer.link(file(b"a/second"), path),
        lambda writer: writer.make_directory(directory(path or b".")),
    ]

    with DirectoryWriter(raw(target)) as writer:
        writer.make_directory(directory(b"a"))
        put(writer, b"a/f")
        writer.symlink(Entry(b"link", Kind.SYMLINK, target=raw(outside)))
        for deed in deeds:
            try:
                deed(writer)
            except (TargetError, NotRestored, ValueError):
                continue

    assert os.listdir(outside) == []
    assert os.listdir(tmp_path) == ["outside", "inner"] or sorted(os.listdir(tmp_path)) == ["inner", "outside"]
    assert os.listdir(tmp_path / "inner") == ["target"]
    assert not Path("/etc/x").exists()


def test_it_reports_a_name_that_is_already_there(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        put(writer, b"f")
        with pytest.raises(NotRestored, match="cannot tell its name"):
            put(writer, b"f", b"other")

    assert (tmp_path / "t" / "f").read_text() == "hello"


def test_it_reports_names_the_target_does_not_take(tmp_path: Path) -> None:
    told: list[ItemError] = []
    with DirectoryWriter(raw(tmp_path / "t"), report=told.append) as writer:
        with pytest.raises(NotRestored, match="file name too long"):
            put(writer, b"n" * 256)
        assert not writer.symlink(Entry(b"n" * 256, Kind.SYMLINK, target=b"x"))
        assert not writer.special(Entry(b"n" * 256, Kind.FIFO))
        assert not writer.link(file(b"other"), b"missing")

    assert [item.severity for item in told] == ["error"] * 3
    assert "its first name, /missing, was not restored" in told[2].message


def test_it_notices_that_what_it_made_was_replaced(tmp_path: Path) -> None:
    def restore(spoil: Callable[[Path], None]) -> None:
        with DirectoryWriter(raw(tmp_path / "t")) as writer:
            writer.make_directory(directory(b"d"))
            put(writer, b"f")
            spoil(next(tmp_path.glob(".aihub-restore-*")))
            writer.link(file(b"second"), b"f")

    def by_a_link(stage: Path) -> None:
        (stage / "f").unlink()
        (stage / "f").symlink_to("/etc/passwd")

    def directory_by_a_link(stage: Path) -> None:
        (stage / "d").rmdir()
        (stage / "d").symlink_to("/etc")

    for spoil in (by_a_link, directory_by_a_link):
        with pytest.raises(TargetError, match="somebody else changes"):
            restore(spoil)
    assert os.listdir(tmp_path) == []


def test_it_refuses_paths_beside_its_base(tmp_path: Path) -> None:
    with DirectoryWriter(raw(tmp_path / "t"), base=b"srv/data") as writer:
        put(writer, b"srv/data/f")
        for path in (b"srv/data2/f", b"srv", b"f", b""):
            with pytest.raises(TargetError, match="does not lie below /srv/data"):
                put(writer, path)

    assert os.listdir(tmp_path / "t") == ["f"]


def test_it_refuses_a_stage_that_others_may_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir

    def open_to_all(name: bytes, mode: int, *, dir_fd: int | None = None) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        os.chmod(name, 0o777, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", open_to_all)

    with pytest.raises(TargetError, match="somebody else changes it"):
        DirectoryWriter(raw(tmp_path / "t"))


def test_it_ends_when_what_it_aborts_has_become_a_directory(tmp_path: Path) -> None:
    def restore() -> None:
        with DirectoryWriter(raw(tmp_path / "t")) as writer:
            out = writer.open_writer(file(b"f"))
            stage = next(tmp_path.glob(".aihub-restore-*"))
            (stage / "f").unlink()
            (stage / "f").mkdir()
            out.abort()

    with pytest.raises(TargetError, match="/t/f cannot be written: is a directory"):
        restore()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["os.link", "os.symlink", "os.mknod", "os.pwrite", "kernel.syncfs", "os.mkdir"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM, errno.EDQUOT])
def test_it_ends_with_the_cure_when_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    told: list[ItemError] = []

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    def restore() -> None:
        with DirectoryWriter(raw(tmp_path / "t"), privileges=True, report=told.append) as writer:
            monkeypatch.setattr(f"backups.engine.extract.{call}", fail)
            writer.make_directory(directory(b"d"))
            put(writer, b"f")
            writer.symlink(Entry(b"s", Kind.SYMLINK, target=b"x"))
            writer.link(Entry(b"s2", Kind.SYMLINK, nlink=2), b"s")
            writer.special(Entry(b"p", Kind.FIFO))

    if (call, number) == ("os.mknod", errno.EPERM):  # an account without the right to make devices: reported
        restore()
        assert [(item.path, item.severity) for item in told] == [(b"p", "error")]
        return
    with pytest.raises(TargetError, match=r"cannot be written: .*(Check it|Let this account|Raise it)"):
        restore()
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


@pytest.mark.timeout(60)
def test_it_stays_inside_while_directories_are_swapped_for_links(tmp_path: Path) -> None:
    """Somebody exchanges a directory with a link to the outside, again and again, while we write below it."""
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    (outside / "x" / "canary").write_text("x")
    before = trees.picture(outside)
    stop = threading.Event()
    swaps = [0]

    def swap(stage: Path) -> None:
        os.symlink(outside, stage / "a-link")
        while not stop.is_set():
            done = kernel._libc.renameat2(-100, raw(stage / "a"), -100, raw(stage / "a-link"), RENAME_EXCHANGE)
            swaps[0] += done == 0

    writer = DirectoryWriter(raw(tmp_path / "t"))
    writer.make_directory(directory(b"a"))
    attacker = threading.Thread(target=swap, args=(next(tmp_path.glob(".aihub-restore-*")),))
    attacker.start()
    noticed = wrote = 0
    until = time.monotonic() + 5
    number = 0
    while time.monotonic() < until:
        number += 1
        writer._tree.forget(b"a")  # as if it had been pushed out of the cache: the path is walked again each time
        for deed in (
            lambda n=number: writer.make_directory(directory(b"a/d%d" % n)),
            lambda n=number: put(writer, b"a/f%d" % n),
            lambda n=number: put(writer, b"a/x/f%d" % n),
            lambda n=number: writer.symlink(Entry(b"a/s%d" % n, Kind.SYMLINK, target=b"/")),
            lambda n=number: writer.link(file(b"a/l%d" % n), b"a/f%d" % n),
            lambda n=number: writer.special(Entry(b"a/p%d" % n, Kind.FIFO)),
        ):
            try:
                deed()
                wrote += 1
            except (TargetError, NotRestored):
                noticed += 1
    stop.set()
    attacker.join()
    writer.discard()

    assert trees.picture(outside) == before
    assert swaps[0] > 1000
    assert wrote > 100
    assert noticed > 100


# facts of a target


def test_it_knows_what_a_target_can_take(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "not" / "yet"):
        facts = probe_target(raw(place))

        assert facts.free_bytes > 1 << 20
        assert facts.file_system != ""
        assert (facts.folds_case, facts.folds_unicode) == (False, False)
    assert os.listdir(tmp_path) == []


def test_it_knows_when_two_names_are_one(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    fd = os.open(tmp_path, os.O_PATH)

    assert target_module._same(fd, b"d", b"a", b"a")  # no file system here folds names
    assert not target_module._same(fd, b"d", b"a", b"A")
    os.close(fd)


def test_it_says_that_a_tree_does_not_fit() -> None:
    facts = TargetFacts(3 << 20, 10, "ext4", False, False)

    facts.require(3 << 20, 10)
    with pytest.raises(TargetError, match=r"has room for 3 MiB and 1\.5 GiB are needed\. Free space"):
        facts.require(3 << 29, 1)
    with pytest.raises(TargetError, match="2 TiB are needed"):
        facts.require(2 << 40, 1)
    with pytest.raises(TargetError, match="10 more files and 11 are needed"):
        facts.require(1, 11)


def test_it_probes_only_what_could_be_a_target(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")

    with pytest.raises(TargetError, match="not empty"):
        probe_target(raw(tmp_path))
    with pytest.raises(TargetError, match="cannot be written"):
        probe_target(raw(tmp_path / "f" / "x"))


def test_it_renames_where_the_kernel_has_no_exclusive_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        import ctypes

        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(kernel, "_libc", type("Old", (), {"renameat2": staticmethod(refused), "syncfs": lambda _: 0}))

    with DirectoryWriter(raw(tmp_path / "t")) as writer:
        put(writer, b"f")
    assert (tmp_path / "t" / "f").exists()
    with pytest.raises(FileExistsError):
        fd = os.open(tmp_path, os.O_PATH)
        kernel.rename_noreplace(b"t", b"t", src_dir_fd=fd, dst_dir_fd=fd)
