"""What a killed restore has left: it is found, measured, removed, or made ready for the same restore to go on in it."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from backups.engine import kernel
from backups.engine.disk import DiskTree, printable
from backups.engine.errors import TargetError

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def sweep(parent: int, prefix: bytes, target: bytes, kept: bytes) -> None:
    """Remove what killed restores have left, except what is kept; TargetError when one is at work."""
    for name in os.listdir(b"/proc/self/fd/%d" % parent):
        if name.startswith(prefix):
            _sweep_one(parent, name, target, keep=name == kept)


def _sweep_one(parent: int, name: bytes, target: bytes, *, keep: bool) -> None:
    try:
        fd = os.open(name, _OPEN, dir_fd=parent)
    except OSError:  # no directory, gone, or not ours: no remains of a restore of this account
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        st = os.fstat(fd)
        closed = stat.S_IMODE(st.st_mode) == 0o700  # else others may have been inside: it had its attributes already
        if st.st_uid == os.geteuid() and not (keep and closed):
            remove(parent, name)
    except BlockingIOError:
        raise TargetError(
            f"Another restore is writing to {printable(target)}. Wait for its end, or choose another target."
        ) from None
    finally:
        os.close(fd)


def remove(parent: int, name: bytes) -> None:
    """Remove a directory with everything in it, however deep."""
    top = os.open(name, _OPEN, dir_fd=parent)
    tree = DiskTree(os.dup(top))
    pending = [b""]
    try:
        while pending:
            below = _empty(tree, pending[-1])
            pending += below
            if not below:
                _remove_directory(tree, pending.pop())
        with kernel.unlocked(top):
            os.rmdir(name, dir_fd=parent)
    finally:
        tree.close()
        os.close(top)


def trim(stage: int) -> None:
    """Leave of a stage what can be proved: directories, writable again, and files with one name, readable again."""
    tree = DiskTree(os.dup(stage))
    pending = [b""]
    try:
        while pending:
            path = pending.pop()
            fd = _writable(tree, path)
            prefix = path + b"/" if path else b""
            try:
                pending += [prefix + name for name in tree.names(path) if not _trimmed(fd, name)]
            finally:
                os.close(fd)
    finally:
        tree.close()


def _trimmed(fd: int, name: bytes) -> bool:
    """Keep a file, take everything else away; False for a directory."""
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISREG(st.st_mode) and st.st_nlink == 1 and _made_readable(fd, name):
        return True
    return _unlinked(fd, name)


def _made_readable(fd: int, name: bytes) -> bool:
    try:
        handle = os.open(name, _HANDLE, dir_fd=fd)
        try:
            os.chmod(b"/proc/self/fd/%d" % handle, 0o600)
        finally:
            os.close(handle)
    except OSError:  # locked by a flag, or given away: it is written anew
        return False
    return True


def measured(parent: int, prefix: bytes) -> tuple[int, int]:
    """(bytes on the disk, entries) of what killed restores have left."""
    size = count = 0
    names = list[bytes]()
    with suppress(PermissionError):
        names = os.listdir(b"/proc/self/fd/%d" % parent)
    for name in names:
        if name.startswith(prefix):
            for where, folders, files in os.walk(b"/proc/self/fd/%d/%s" % (parent, name)):
                count += len(folders) + len(files)
                for file in files:
                    with suppress(OSError):
                        size += os.lstat(os.path.join(where, file)).st_blocks * 512
    return size, count


def _empty(tree: DiskTree, path: bytes) -> list[bytes]:
    """Unlink everything but directories; the paths of those."""
    fd = _writable(tree, path)
    prefix = path + b"/" if path else b""
    try:
        names = tree.names(path)
        return [prefix + name for name in names if not _unlinked(fd, name)]
    finally:
        os.close(fd)


def _writable(tree: DiskTree, path: bytes) -> int:
    """The directory, opened; its attributes, which may have been given back already, no longer forbid to change it."""
    with suppress(PermissionError):
        os.chmod(b"/proc/self/fd/%d" % tree.open_directory(path), 0o700)
    fd = tree.open_listing(path)
    kernel.unlock(fd)
    return fd


def _unlinked(fd: int, name: bytes) -> bool:
    """Whether the name is gone; False for a directory."""
    if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
        return False
    insist(fd, name, lambda: os.unlink(name, dir_fd=fd))
    return True


def _remove_directory(tree: DiskTree, path: bytes) -> None:
    if path:
        tree.forget(path)
        parent, _, name = path.rpartition(b"/")
        os.rmdir(name, dir_fd=tree.open_directory(parent))


def insist(directory: int, name: bytes, deed: Callable[[], None]) -> None:
    """Rename or unlink a name of ours, also when its flags or a closed mode forbid it at first."""
    try:
        deed()
    except PermissionError:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            with kernel.unlocked(fd):
                os.fchmod(fd, mode | 0o700)  # a directory that changes its parent must be writable itself
                deed()
                os.fchmod(fd, mode)
        finally:
            os.close(fd)
