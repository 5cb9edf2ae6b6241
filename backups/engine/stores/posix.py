"""One object as one file of a mounted file system: written, compared and read through its folder's descriptor."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import suppress

from backups.engine.errors import (
    EngineError,
    StoreFull,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
)
from backups.engine.store import Data, span
from backups.engine.stores import uncached

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that somebody left under an object's name must not hang us.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COMPARED = 1 << 20  # bytes compared at once
_RENAME_NOREPLACE = 1
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_UNFIT = {errno.EFBIG, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL}


def lstat(name: str, parent: int) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.lstat(name, dir_fd=parent)
    return None


def open_regular(parent: int, leaf: str) -> int | None:
    try:
        file = os.open(leaf, _READ, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return None


def read(file: int, start: int, wanted: int, name: str) -> bytes:
    """Exactly that many bytes; ObjectDamaged when the file shrinks under our hands."""
    data = uncached.read(file, start, wanted) or os.pread(file, wanted, start)
    while len(data) < wanted:
        more = os.pread(file, wanted - len(data), start + len(data))
        if not more:
            span(name, start + len(data), start, wanted)
        data += more
    return data


def holds(parent: int, leaf: str, data: Data) -> bool | None:
    """Whether the file holds exactly these bytes; None when there is no such file."""
    file = open_regular(parent, leaf)
    if file is None:
        return None
    try:
        return os.fstat(file).st_size == len(data) and _same_bytes(file, data)
    except OSError:
        return False  # unreadable sectors are damage like any other
    finally:
        os.close(file)


def _same_bytes(file: int, data: Data) -> bool:
    places = range(0, len(data), _COMPARED)
    return all(os.pread(file, _COMPARED, at) == bytes(data[at : at + _COMPARED]) for at in places)


def write_synced(parent: int, temporary: str, data: Data) -> None:
    file = os.open(temporary, _NEW, 0o400, dir_fd=parent)
    try:
        left = memoryview(data)
        left = left[uncached.write(file, left) :]
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


def rename_new(parent: int, old: str, new: str) -> None:
    """Rename, FileExistsError when the new name is taken; by a hard link, which every file system but FAT knows."""
    try:
        os.link(old, new, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        os.unlink(old, dir_fd=parent)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_noreplace(parent, old, new)


def linked(parent: int, old: str, other: int, new: str) -> bool:
    """Give the file a second name, in another folder; False where the file system knows no such names."""
    try:
        os.link(old, new, src_dir_fd=parent, dst_dir_fd=other, follow_symlinks=False)
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def _rename_noreplace(parent: int, old: str, new: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(parent, os.fsencode(old), parent, os.fsencode(new), _RENAME_NOREPLACE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fsync_path(path: str) -> None:
    folder = os.open(path, FOLDER)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def translated(error: OSError, where: str, root: str) -> EngineError:
    """The sentence and the kind for what the kernel said; where names the directory and the deed."""
    said = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.ENOSPC:
        return StoreFull(
            f"No {_shortage(root)} left in {where}: free some, or enlarge it. What is stored stays readable."
        )
    if error.errno == errno.EDQUOT:
        return StoreFull(f"The disk quota is used up in {where}: raise it.")
    if error.errno == errno.EROFS:
        return StoreReadOnly(f"The file system is read-only: {where}. Remount it; after disk errors check it first.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StoreRefused(f"User {os.geteuid()} has no permission in {where}: give it read and write access.")
    if error.errno in _UNFIT:
        return StoreRefused(f"{said}: {where}. Choose another place, on a common Linux file system.")
    return StoreUnavailable(f"{said}: {where}. See that the disk is there and sound (dmesg tells), then try again.")


def _shortage(root: str) -> str:
    """The kernel has one number for both: what ran out."""
    facts = os.statvfs(root)
    return "inodes (room for more files) are" if facts.f_files and not facts.f_favail else "space is"
