"""Linux calls that Python 3.11 does not offer: openat2, renameat2, syncfs, inode flags; and the mount table."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x02, 0x04, 0x08
RENAME_NOREPLACE = 1
LOCKS = 0x30  # inode flags append-only and immutable: what bears them cannot be renamed, linked or removed
PATH_MAX = 4096  # bytes of one path argument, with its NUL

_OPENAT2 = 437  # the same number on every architecture
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # FS_IOC_…: declared with a long, carrying an int
_NO_FLAGS = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES})
_NOT_OFFERED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dir_fd: int, path: bytes, flags: int) -> int:
    """Open below dir_fd without following a symbolic link in any component and without ever leaving dir_fd."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    arguments = ctypes.c_int(dir_fd), ctypes.c_char_p(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
    while True:
        fd: int = _libc.syscall(ctypes.c_long(_OPENAT2), *arguments)
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed while it looked
            raise _failure(path)


@cache
def has_openat2() -> bool:
    """Whether the kernel has openat2 (Linux 5.6) and no sandbox hides it."""
    top = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(openat2(top, b".", os.O_PATH))
    except OSError:
        return False
    finally:
        os.close(top)
    return True


def rename_noreplace(src: bytes, dst: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Rename; FileExistsError when something has the new name already."""
    result = _libc.renameat2(src_dir_fd, ctypes.c_char_p(src), dst_dir_fd, ctypes.c_char_p(dst), RENAME_NOREPLACE)
    if result == 0:
        return
    if ctypes.get_errno() not in _NOT_OFFERED:
        raise _failure(dst)
    _rename_after_looking(src, dst, src_dir_fd, dst_dir_fd)


def _rename_after_looking(src: bytes, dst: bytes, src_dir_fd: int, dst_dir_fd: int) -> None:
    """For file systems without RENAME_NOREPLACE: a name that appears between the two calls would be replaced."""
    try:
        os.stat(dst, dir_fd=dst_dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), dst)


def syncfs(fd: int) -> None:
    """Make everything on fd's file system survive a power cut."""
    if _libc.syncfs(fd) != 0:
        raise _failure(b"")


def get_flags(fd: int) -> int:
    """The inode flags (FS_IOC_GETFLAGS) of a file or directory that is open for reading; 0 where there are none."""
    try:
        return int(struct.unpack("I", fcntl.ioctl(fd, _GETFLAGS, b"\0" * 8)[:4])[0])
    except OSError as error:
        if error.errno in _NO_FLAGS:
            return 0
        raise


def set_flags(fd: int, flags: int) -> None:
    """Set the inode flags (FS_IOC_SETFLAGS)."""
    fcntl.ioctl(fd, _SETFLAGS, struct.pack("II", flags, 0))


def unlock(fd: int) -> int:
    """Take the append-only and immutable flags off; the flags there were, 0 when neither was set."""
    flags = get_flags(fd)
    if not flags & LOCKS:
        return 0
    set_flags(fd, flags & ~LOCKS)
    return flags


@contextmanager
def unlocked(fd: int) -> Iterator[None]:
    """unlock() while a name of the inode is changed."""
    flags = unlock(fd)
    yield
    if flags:
        with suppress(OSError):  # it may have been unlinked
            set_flags(fd, flags)


def _failure(path: bytes) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


# mounts


def file_systems() -> dict[int, str]:
    """The type of every mounted file system by device number (st_dev)."""
    found = {}
    for fields, kind in _mounts():
        major, minor = fields[2].split(b":")
        found[os.makedev(int(major), int(minor))] = kind
    return found


def proc_devices() -> frozenset[int]:
    """The device numbers of the mounted proc file systems; a bind mount of something in one bears its number too."""
    return frozenset(device for device, kind in file_systems().items() if kind == "proc")


def file_system_of(path: bytes) -> str:
    """The type of the file system an absolute path without symbolic links lies on; "" unknown."""
    best, found = b"", ""
    for fields, kind in _mounts():
        point = fields[4].decode("unicode_escape").encode("latin-1")  # blanks stand there as \040
        inside = path == point or path.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= len(best):
            best, found = point, kind
    return found


def _mounts() -> list[tuple[list[bytes], str]]:
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            lines = table.read().splitlines()
    except OSError:  # no /proc: nothing is known about mounts
        return []
    halves = [line.partition(b" - ") for line in lines]
    return [(left.split(), right.split()[0].decode("ascii", "replace")) for left, _, right in halves]
