"""A tree on disk, reached by directory handles."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.engine import disk as disk_module
from backups.engine import kernel
from backups.engine.disk import DiskTree, NotRegular, Owners, from_printable, printable
from backups.engine.entry import ItemError
from tests.engine.deep import dig, dug, write

GiB = 1 << 30


@pytest.fixture(params=["openat2", "one component at a time"])
def tree(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskTree]:
    if request.param != "openat2":
        monkeypatch.setattr(kernel, "has_openat2", lambda: False)
    elif not kernel.has_openat2():
        pytest.skip("this kernel has no openat2")
    tree = DiskTree(os.fsencode(tmp_path))
    yield tree
    tree.close()


def content(tree: DiskTree, path: bytes) -> bytes:
    with tree.opened(path) as fd:
        return os.read(fd, 1 << 20)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_it_reads_what_lies_below_eight_thousand_bytes_of_path(tree: DiskTree, tmp_path: Path) -> None:
    def fill(fd: int) -> None:
        write(fd, b"leaf", b"deep")
        os.symlink(b"nowhere", b"link", dir_fd=fd)

    path = dug(tmp_path, fill)

    assert len(path) > 8000
    assert content(tree, path + b"/leaf") == b"deep"
    assert tree.lstat(path + b"/leaf").st_size == 4
    assert tree.readlink(path + b"/link") == b"nowhere"
    assert sorted(tree.names(path)) == [b"leaf", b"link"]


def test_it_keeps_names_that_are_no_text(tree: DiskTree, tmp_path: Path) -> None:
    name = b"caf\xe9\n\xff"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")

    assert tree.names(b"") == [name]
    assert content(tree, name) == b"x"


def test_it_never_opens_what_is_no_regular_file(tree: DiskTree, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening one for reading would wait for a writer
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")

    for name in (b"fifo", b"directory"):
        with pytest.raises(NotRegular):
            tree.open_file(name)
    with pytest.raises(OSError) as caught:
        tree.open_file(b"link")
    assert caught.value.errno == errno.ELOOP


def test_it_follows_no_link_that_was_put_in_place_of_a_directory(tree: DiskTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "b"
    outside.mkdir(parents=True)
    (outside / "secret").write_text("x")
    (tmp_path / "a").symlink_to(outside.parent)

    for path in (b"a/b/secret", b"a/b", b"a"):
        with pytest.raises(OSError) as caught:
            tree.open_directory(path)
        assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)


def test_it_never_leaves_its_root(tree: DiskTree, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    for path in (b"..", b"../..", b"a/../..", b"a/../../etc"):
        with pytest.raises(OSError):
            tree.open_directory(path)


def test_it_keeps_a_bounded_number_of_handles(tmp_path: Path) -> None:
    path, fd = dig(tmp_path, 4000, b"x")
    os.close(fd)
    before = open_descriptors()
    names = path.split(b"/")
    with_limit = DiskTree(os.fsencode(tmp_path), directories=5)

    for depth in [*range(1, len(names), 7), *range(len(names), 1, -7)]:
        with_limit.open_directory(b"/".join(names[:depth]))

    assert open_descriptors() - before <= 6
    with_limit.close()
    assert open_descriptors() == before


def test_it_leaks_no_handle_when_something_is_missing(tree: DiskTree, tmp_path: Path) -> None:
    path, fd = dig(tmp_path)
    os.close(fd)

    def look() -> int:
        with pytest.raises(FileNotFoundError):
            tree.open_directory(path + b"/missing/" + b"x" * 200)
        return open_descriptors()

    first = look()  # keeps a handle on the way, for the next look

    assert [look() for _ in range(3)] == [first] * 3


def test_it_refuses_a_name_longer_than_the_kernel_takes(tree: DiskTree) -> None:
    with pytest.raises(OSError) as caught:
        tree.open_directory(b"x" * 9000)

    assert caught.value.errno == errno.ENAMETOOLONG


def test_it_reads_attributes_and_acls_of_everything(tree: DiskTree, tmp_path: Path) -> None:
    def fill(fd: int) -> None:
        write(fd, b"leaf", b"")
        os.setxattr(f"/proc/self/fd/{fd}/leaf", "user.deep", b"\0\xff")

    deep = dug(tmp_path, fill)
    file = tmp_path / "file"
    file.write_text("x")
    os.setxattr(file, "user.b", b"2")
    os.setxattr(file, "user.a", b"1")
    subprocess.run(["setfacl", "-m", "u:1:rw", file], check=True)
    subprocess.run(["setfacl", "-d", "-m", "g:2:rx", tmp_path], check=True)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")

    with tree.opened(b"file") as fd:
        by_handle = tree.xattrs(fd)

    assert [name for name, _ in by_handle] == [b"system.posix_acl_access", b"user.a", b"user.b"]
    assert tree.xattrs_of(b"file") == by_handle
    assert tree.xattrs_of(deep + b"/leaf") == ((b"user.deep", b"\0\xff"),)
    assert [name for name, _ in tree.xattrs_of(b"")] == [b"system.posix_acl_default"]
    assert tree.xattrs_of(b"link") == ()
    assert all(name.startswith(b"system.") for name, _ in tree.xattrs_of(b"fifo"))


def test_it_reports_an_attribute_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    os.setxattr(tmp_path / "file", "user.a", b"1")
    os.setxattr(tmp_path / "file", "user.b", b"2")
    monkeypatch.setattr(os, "getxattr", _denied_for_a)
    told: list[ItemError] = []

    pairs = DiskTree(os.fsencode(tmp_path), report=told.append).xattrs_of(b"file")

    assert pairs == ((b"user.b", b"2"),)
    assert told == [ItemError(b"file", "read", "Its attribute user.a cannot be read: permission denied.", "warning")]
    with pytest.raises(PermissionError):
        DiskTree(os.fsencode(tmp_path)).xattrs_of(b"file")


def _denied_for_a(where: int | bytes, name: str, *, follow_symlinks: bool = True) -> bytes:
    if name == "user.a":
        raise PermissionError(errno.EACCES, "Permission denied")
    return b"2"


def test_it_passes_attributes_that_are_gone_or_unknown_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    os.setxattr(tmp_path / "file", "user.a", b"1")
    tree = DiskTree(os.fsencode(tmp_path))

    monkeypatch.setattr(os, "getxattr", _failing(errno.ENODATA))
    assert tree.xattrs_of(b"file") == ()
    monkeypatch.setattr(os, "listxattr", _failing(errno.EOPNOTSUPP))
    assert tree.xattrs_of(b"file") == ()
    monkeypatch.setattr(os, "listxattr", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        tree.xattrs_of(b"file")


def _failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_it_reads_files_whose_system_knows_no_holes() -> None:
    tree = DiskTree(b"/proc")
    with tree.opened(b"version") as fd:
        assert list(tree.data_runs(fd, 100)) == [(0, 100)]


def test_it_passes_on_that_a_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    tree = DiskTree(os.fsencode(tmp_path))
    with tree.opened(b"sparse") as fd:
        monkeypatch.setattr(disk_module, "_knows_holes", lambda _: True)
        monkeypatch.setattr(os, "lseek", _failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            list(tree.data_runs(fd, 1 << 20))


def test_it_keeps_names_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "gbk")

    assert DiskTree(os.fsencode(tmp_path)).names(b"") == [b"\xff\xfe"]


def test_it_does_without_what_a_sandbox_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "openat2", _failing(errno.EPERM))
    kernel.has_openat2.cache_clear()
    assert not kernel.has_openat2()
    kernel.has_openat2.cache_clear()


def test_it_reads_the_flags_a_person_has_set(tree: DiskTree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    if subprocess.run(["chattr", "+d", tmp_path / "file"], capture_output=True, check=False).returncode:
        pytest.skip("this file system keeps no inode flags")

    (tmp_path / "directory").mkdir()
    subprocess.run(["chattr", "+d", tmp_path / "directory"], check=True)

    with tree.opened(b"file") as fd:
        flags = tree.flags(fd)

    assert (flags, tree.flags_of(b"directory"), tree.flags_of(b"")) == (0x40, 0x40, 0)
    with Path("/dev/null").open("rb") as null:
        assert tree.flags(null.fileno()) == 0


def test_it_finds_the_data_of_a_file_of_holes(tree: DiskTree, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * GiB)
        os.pwrite(file.fileno(), b"x" * 4096, 0)
        os.pwrite(file.fileno(), b"y" * 70_000, 50 * GiB)

    with tree.opened(b"sparse") as fd:
        runs = list(tree.data_runs(fd, 100 * GiB))

    assert runs == [(0, 4096), (50 * GiB, 73_728)]


def test_it_takes_a_file_without_holes_in_one_piece(tree: DiskTree, tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"x" * 10_000)
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 20)

    def runs(name: bytes, size: int) -> list[tuple[int, int]]:
        with tree.opened(name) as fd:
            return list(tree.data_runs(fd, size))

    assert runs(b"full", 10_000) == [(0, 10_000)]
    assert runs(b"empty", 0) == []
    assert runs(b"hole", 1 << 20) == []
    assert runs(b"full", 1 << 20) == [(0, 10_000)]  # shorter than announced: the data there is


def test_it_leaves_the_access_time_alone(tree: DiskTree, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    os.utime(file, ns=(1, 2))  # an access time before the change is what relatime would move

    content(tree, b"file")

    assert file.stat().st_atime_ns == 1


def test_it_goes_on_after_a_fork(tree: DiskTree, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    assert content(tree, b"a/x") == b"x"

    child = os.fork()
    if child == 0:
        tree.forget(b"a")
        os._exit(0 if content(tree, b"a/x") == b"x" else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert content(tree, b"a/x") == b"x"


def test_it_forgets_a_directory_that_is_moved_away(tree: DiskTree, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    tree.open_directory(b"a/b")
    os.rename(tmp_path / "a", tmp_path / "c")

    tree.forget(b"a")

    with pytest.raises(FileNotFoundError):
        tree.open_directory(b"a/b")


def test_it_knows_owners_by_name() -> None:
    owners = Owners()

    assert (owners.users[0], owners.groups[0]) == ("root", "root")
    assert (owners.users[4_000_000_000], owners.groups[4_000_000_000]) == ("", "")


@given(st.binary(max_size=40))
def test_it_shows_any_path_as_text_that_tells_it_exactly(path: bytes) -> None:
    text = printable(path)

    assert text.isprintable() or not text
    assert from_printable(text) == path


def test_it_shows_an_ordinary_path_as_it_is() -> None:
    assert printable("srv/données/文件.txt".encode()) == "srv/données/文件.txt"
    assert printable(b"a\xff\n") == r"a\xff\x0a"


def test_it_knows_what_is_mounted_where() -> None:
    assert kernel.file_system_of(b"/proc/self") == "proc"
    assert kernel.file_systems()[os.stat("/proc").st_dev] == "proc"


def test_it_renames_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    fd = os.open(tmp_path, os.O_PATH)

    with pytest.raises(FileExistsError):
        kernel.rename_noreplace(b"a", b"b", src_dir_fd=fd, dst_dir_fd=fd)
    kernel.rename_noreplace(b"a", b"c", src_dir_fd=fd, dst_dir_fd=fd)

    os.close(fd)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    assert (tmp_path / "b").read_text() == "b"
