"""A tree with everything that breaks backup tools, made through directory descriptors.

python -m benchmarks.trees DIR [--files 1000000] [--large BYTES] [--sparse BYTES]
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

ACL_ACCESS, ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
# Tags of an ACL entry as the kernel stores it (include/uapi/linux/posix_acl.h).
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY_IN_PARTICULAR = 0xFFFFFFFF

STRANGE_NAMES = (
    b"with space",
    b"new\nline",
    b"tab\tand\rreturn",
    b"-leading-dash",
    b"--help",
    b"~tilde",
    b"back\\slash",
    b"quote'and\"quote",
    b"$(touch pwned)",
    b"*?[glob]",
    b"\xff\xfe not utf-8",
    b"latin-1 \xe9",
    b"\x01\x7f control",
    "nfc é".encode(),
    "nfd é".encode(),
    "中文 \N{PERSON WITH BALL}".encode(),
    "right-to-left \u202e gpj".encode(),
    b"CASE",
    b"case",
    b"trailing dot.",
    b"n" * 255,
)


@dataclass(frozen=True)
class Hardships:
    """How much of everything. files: small ones; large, sparse: sizes in bytes; path: length of the longest path."""

    files: int = 40_000
    large: int = 1 << 30
    sparse: int = 100 << 30
    path: int = 8000
    links: int = 300
    seed: int = 1


def grow(root: bytes, hardships: Hardships = Hardships()) -> list[str]:
    """Make the tree below root, which must not exist. What this machine or user does not allow is left out and
    returned, a sentence each: device nodes and foreign owners without root, xattrs or ACLs without file system support.
    """
    os.mkdir(root)
    with _opened(root) as top:
        grower = _Grower(top, hardships)
        grower.grow()
    return grower.left_out


class _Grower:
    def __init__(self, top: int, hardships: Hardships) -> None:
        self.left_out: list[str] = []
        self._top = top
        self._wanted = hardships
        self._random = random.Random(hardships.seed)

    def grow(self) -> None:
        deeds: tuple[tuple[bytes, Callable[[int], None]], ...] = (
            (b"small", self._small_files),
            (b"large", self._large_files),
            (b"links", self._links),
            (b"special", self._special_files),
            (b"names", self._strange_names),
            (b"attributes", self._attributes),
            (b"times", self._times),
            (b"deep", self._deep_path),
            (b"empty", lambda folder: None),
        )
        for name, deed in deeds:
            with _made(self._top, name) as folder:
                deed(folder)

    def _small_files(self, here: int) -> None:
        for first in range(0, self._wanted.files, 500):
            with _made(here, b"%06d" % first) as folder:
                for number in range(first, min(first + 500, self._wanted.files)):
                    _write(folder, b"f%07d" % number, self._small(number))

    def _small(self, number: int) -> bytes:
        """Empty, a few bytes, or some KB, part of it shared with other files."""
        size = self._random.choice((0, 1, 40, 700, 4096, 9000))
        return (b"file %d " % number + b"common text of all these files " * 300)[:size]

    def _large_files(self, here: int) -> None:
        with _created(here, b"large") as file:
            for start in range(0, self._wanted.large, 8 << 20):
                _write_all(file, self._random.randbytes(min(8 << 20, self._wanted.large - start)))
        with _created(here, b"sparse") as file:
            os.ftruncate(file, self._wanted.sparse)
            for place in (0, self._wanted.sparse // 3, self._wanted.sparse - 70_000):
                os.pwrite(file, self._random.randbytes(60_000), max(place, 0))
        with _created(here, b"only-a-hole") as file:
            os.ftruncate(file, min(self._wanted.sparse, 1 << 30))
        _write(here, b"zeros", bytes(min(self._wanted.large, 3 << 20)))

    def _links(self, here: int) -> None:
        _write(here, b"first", b"one file with many names")
        with _made(here, b"folder") as folder:
            for number in range(self._wanted.links):
                os.link(b"first", b"%04d" % number, src_dir_fd=here, dst_dir_fd=folder)
        targets = (
            b"first",
            b"folder",
            b"dangling/no/where",
            b"/absolute/no/where",
            b"/",
            b"..",
            b"loop",
            b"\xff\xfe",
            b"t" * 4000,
        )
        for number, target in enumerate(targets):
            os.symlink(target, b"symlink-%d" % number, dir_fd=here)
        os.symlink(b"loop", b"loop", dir_fd=here)
        os.link(b"symlink-2", b"symlink-hard", src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)

    def _special_files(self, here: int) -> None:
        os.mkfifo(b"fifo", 0o640, dir_fd=here)
        with socket.socket(socket.AF_UNIX) as server:  # a backup skips and reports it: a socket cannot be restored
            server.bind(f"/proc/self/fd/{here}/socket")
        self._where_allowed("device nodes", lambda: os.mknod(b"null", 0o020666, os.makedev(1, 3), dir_fd=here))
        self._where_allowed("device nodes", lambda: os.mknod(b"loop", 0o060660, os.makedev(7, 200), dir_fd=here))

    def _strange_names(self, here: int) -> None:
        for number, name in enumerate(STRANGE_NAMES):
            _write(here, name, b"%d" % number)
        with _made(here, b"\xff folder \n") as folder:
            _write(folder, b"\xfe", b"inside")

    def _attributes(self, here: int) -> None:
        for mode in (0o000, 0o400, 0o777, 0o4755, 0o2755, 0o1644):
            _write(here, b"mode-%04o" % mode, b"x", mode)
        for mode in (0o1777, 0o2750, 0o500):
            os.mkdir(b"folder-%04o" % mode, dir_fd=here)
            os.chmod(b"folder-%04o" % mode, mode, dir_fd=here)
        for name in (b"owned", b"user-xattr", b"acl"):
            _write(here, name, name)
        os.mkdir(b"default-acl", dir_fd=here)
        path = f"/proc/self/fd/{here}"
        self._where_allowed("foreign owners", lambda: os.chown(b"owned", 12345, 54321, dir_fd=here))
        self._where_allowed("user xattrs", lambda: os.setxattr(f"{path}/user-xattr", "user.note", b"\x00\xff" * 50))
        self._where_allowed("user xattrs", lambda: os.setxattr(f"{path}/default-acl", "user.empty", b""))
        self._where_allowed("ACLs", lambda: os.setxattr(f"{path}/acl", ACL_ACCESS, acl()))
        self._where_allowed("ACLs", lambda: os.setxattr(f"{path}/default-acl", ACL_DEFAULT, acl()))

    def _times(self, here: int) -> None:
        moments = {b"epoch": 0, b"before": -315_619_200_123_456_789, b"precise": 1_234_567_890_123_456_789}
        for name, moment in (moments | {b"far": 4_102_444_800 * 10**9 + 1}).items():
            _write(here, name, name)
            self._where_allowed("old times", partial(_touch, here, name, moment))
        os.symlink(b"epoch", b"old-link", dir_fd=here)
        _touch(here, b"old-link", 1_000_000_000_000_000_001)
        os.mkdir(b"old-folder", dir_fd=here)
        _touch(here, b"old-folder", 1_000_000_000_000_000_002)

    def _deep_path(self, here: int) -> None:
        """A chain of folders with long names, one of short ones, and a file at the end of each."""
        for part, length in ((b"d" * 200, self._wanted.path), (b"e", 1000)):
            below, done = os.dup(here), 0
            while done < length:
                os.mkdir(part, dir_fd=below)
                below, above = os.open(part, os.O_RDONLY | os.O_DIRECTORY, dir_fd=below), below
                os.close(above)
                done += len(part) + 1
            _write(below, b"bottom", b"as deep as it gets")
            os.close(below)

    def _where_allowed(self, what: str, deed: Callable[[], None]) -> None:
        try:
            deed()
        except OSError as error:
            self.left_out.append(f"No {what} here: {error.strerror}.")


def acl(user: int = 12345, group: int = 54321) -> bytes:
    """A POSIX ACL as the kernel stores it: user and group may read, others nothing."""
    rows = (
        (_OWNER, 6, _NOBODY_IN_PARTICULAR),
        (_USER, 4, user),
        (_GROUP, 4, _NOBODY_IN_PARTICULAR),
        (_NAMED_GROUP, 4, group),
        (_MASK, 4, _NOBODY_IN_PARTICULAR),
        (_OTHER, 0, _NOBODY_IN_PARTICULAR),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


def _touch(here: int, name: bytes, moment: int) -> None:
    os.utime(name, ns=(moment, moment), dir_fd=here, follow_symlinks=False)


@contextmanager
def _opened(path: bytes, parent: int | None = None) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _made(parent: int, name: bytes) -> Iterator[int]:
    os.mkdir(name, dir_fd=parent)
    with _opened(name, parent) as folder:
        yield folder


@contextmanager
def _created(parent: int, name: bytes, mode: int = 0o640) -> Iterator[int]:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        yield file
        os.fchmod(file, mode)
    finally:
        os.close(file)


def _write(parent: int, name: bytes, data: bytes, mode: int = 0o640) -> None:
    with _created(parent, name, mode) as file:
        _write_all(file, data)


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def main() -> None:
    defaults = Hardships()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    for name in ("files", "large", "sparse", "path", "links", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    given = vars(parser.parse_args())
    root = os.fsencode(given.pop("root"))
    print(*grow(root, Hardships(**given)), sep="\n")


if __name__ == "__main__":
    main()
