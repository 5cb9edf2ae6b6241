"""Odd file trees, exact pictures of them, and a copy through scan and extract alone, without a repository."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from backups.engine.disk import DiskTree
from backups.engine.entry import Entry, ItemError, Kind
from backups.engine.extract import DirectoryWriter
from backups.engine.scan import scan
from tests.engine.deep import dug, write

ROOT = os.geteuid() == 0


def plant_oddities(top: Path) -> None:
    """Everything a file tree may hold; devices and foreign owners only where we are root."""
    top.mkdir()
    (top / "file").write_text("hello")
    os.chmod(top / "file", 0o640)
    (top / "empty").touch(0o600)
    (top / "locked").mkdir()
    (top / "locked" / "readonly").write_text("x")
    os.chmod(top / "locked" / "readonly", 0o400)
    os.link(top / "file", top / "locked" / "second name")
    os.link(top / "file", top / "third name")
    with (top / "sparse").open("wb") as file:
        os.pwrite(file.fileno(), b"begin", 0)
        os.pwrite(file.fileno(), b"middle", 50 << 30)
        file.truncate(100 << 30)
    (top / "dangling").symlink_to("no/where")
    (top / "absolute").symlink_to("/etc/passwd")
    os.symlink(b"caf\xe9", os.fsencode(top) + b"/li\xffnk")
    (top / os.fsdecode(b"caf\xe9\n\xff")).write_text("x")
    (top / ("n" * 255)).write_text("x")
    os.mkfifo(top / "pipe", 0o620)
    os.link(top / "pipe", top / "pipe's second name")
    os.link(top / "dangling", top / "dangling's second name", follow_symlinks=False)
    dug(top, lambda fd: write(fd, b"leaf", b"deep"))
    _attributes(top)
    if ROOT:
        _only_root(top)
    for path in [*top.glob("locked/*"), *top.iterdir()]:
        os.utime(path, ns=(1, 1_500_000_000_123_456_789), follow_symlinks=False)
    os.chmod(top / "locked", 0o2500)
    os.utime(top, ns=(1, 1_400_000_000_000_000_001))


def _attributes(top: Path) -> None:
    os.setxattr(top / "file", "user.comment", b"\0\xff")
    os.chmod(top / "locked" / "readonly", 0o600)
    os.setxattr(top / "locked" / "readonly", "user.comment", b"written when it was writable")
    os.chmod(top / "locked" / "readonly", 0o400)
    os.setxattr(top / "locked", "user.comment", b"a directory's")
    subprocess.run(["setfacl", "-m", "u:7:rw,g:8:r", top / "file"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:7:rwx", top / "locked"], check=True)


def _only_root(top: Path) -> None:
    os.chown(top / "empty", 12345, 54321)
    os.chown(top / "dangling", 12345, 54321, follow_symlinks=False)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (top / "tool").write_text("#!")
    os.chown(top / "tool", 12345, 0)
    os.chmod(top / "tool", 0o6755)
    (top / "capable").write_text("#!")
    os.setxattr(top / "capable", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(top / "capable", "trusted.t", b"1")
    subprocess.run(["chattr", "+d", top / "tool", top / "locked"], check=False, capture_output=True)


def picture(top: Path) -> dict[bytes, Any]:
    """Path below top → everything that a restore must bring back."""
    disk, base = DiskTree(b"/"), os.fsencode(top).lstrip(b"/")
    groups: dict[int, bytes] = {}
    found = {}
    for entry in entries(top):
        path = entry.path[len(base) + 1 :]
        same_as = groups.setdefault(entry.inode, path) if entry.nlink > 1 else path
        read(disk, entry)
        found[path] = (
            entry.kind.name, oct(entry.mode), entry.uid, entry.gid, entry.mtime_ns, entry.target, entry.rdev,
            entry.xattrs, entry.flags, entry.size, _runs(disk, entry),
            same_as if entry.kind is not Kind.DIRECTORY else None,
        )  # fmt: skip
    disk.close()
    return found


def entries(top: Path) -> list[Entry]:
    """The entries from top on, without those above it."""
    base = os.fsencode(top).lstrip(b"/")
    return [entry for entry in scan([os.fsencode(top)], report=fail) if (entry.path + b"/").startswith(base + b"/")]


def fail(item: ItemError) -> None:
    raise AssertionError(item)


def read(disk: DiskTree, entry: Entry) -> None:
    """Fill in attributes and flags."""
    entry.xattrs = disk.xattrs_of(entry.path)
    if entry.kind is Kind.DIRECTORY:
        entry.flags = disk.flags_of(entry.path)
    elif entry.kind is Kind.FILE:
        with disk.opened(entry.path) as fd:
            entry.flags = disk.flags(fd)


def _runs(disk: DiskTree, entry: Entry) -> list[tuple[int, bytes]]:
    """(offset, bytes) of the data, without zeros around it: file systems differ in the size of their blocks."""
    if entry.kind is not Kind.FILE:
        return []
    with disk.opened(entry.path) as fd:
        return [
            (offset, os.pread(fd, length, offset).strip(b"\0")) for offset, length in disk.data_runs(fd, entry.size)
        ]


def copy(source: Path, writer: DirectoryWriter) -> None:
    """What a restore does: directories and files first, then further names, links and special files."""
    disk = DiskTree(b"/")
    later: list[tuple[Entry, bytes | None]] = []
    first: dict[int, bytes] = {}
    for entry in entries(source):
        read(disk, entry)
        if entry.kind is Kind.DIRECTORY:
            writer.make_directory(entry)
        elif entry.nlink > 1 and entry.inode in first:
            later.append((entry, first[entry.inode]))
        else:
            first[entry.inode] = entry.path
            if entry.kind is Kind.FILE:
                _copy_file(disk, writer, entry)
            else:
                later.append((entry, None))
    for entry, name in later:
        if name is not None:
            writer.link(entry, name)
        elif entry.kind is Kind.SYMLINK:
            writer.symlink(entry)
        else:
            writer.special(entry)
    disk.close()


def _copy_file(disk: DiskTree, writer: DirectoryWriter, entry: Entry) -> None:
    with disk.opened(entry.path) as fd, writer.open_writer(entry) as file:
        for offset, length in disk.data_runs(fd, entry.size):
            file.write_at(offset, os.pread(fd, length, offset))


def remove(top: Path) -> None:
    """rm -rf: shutil.rmtree gives up below a thousand directories."""
    subprocess.run(["chmod", "-Rf", "u+rwx", top], check=False)  # not only root runs tests
    subprocess.run(["rm", "-rf", top], check=True)
