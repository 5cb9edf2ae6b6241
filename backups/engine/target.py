"""The place a restore goes to: is it fit, and how does it become the finished tree in one step.

Everything is written into a stage, a directory of ours that only we may enter, named .aihub-restore-<target>-<what>.
A target that does not exist gets its stage beside it and appears by one rename. A target that exists, empty (a mount
point often), gets its stage inside and takes over the stage's entries one by one. Whatever ends a restore early, no
name of the target ever shows a half-written file. The stage that was left is its journal: the same restore continues
in it and writes only what cannot be proved to be there, every other one removes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from backups.engine import kernel, remains
from backups.engine.disk import printable, reason
from backups.engine.errors import TargetError

PREFIX = b".aihub-restore-"
LOST_FOUND = b"lost+found"  # a fresh file system's own directory; it leaves a target empty

HANDLES = b"/proc/self/fd"  # a target below one of our own handles: its names lead nowhere else
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_CURES = {
    errno.ENOSPC: "no room is left there. Free space, or choose another target",
    errno.EDQUOT: "the quota is used up. Raise it, free space, or choose another target",
    errno.EROFS: "it is mounted read-only. Remount it writable, or choose another target",
    errno.EACCES: "permission denied. Let this account write there, or choose another target",
    errno.EPERM: "it is not permitted. Let this account write there, or choose another target",
    errno.EIO: "the disk reports an input/output error. Check it, or choose another target",
    errno.EMFILE: "too many files are open. Raise the limit (ulimit -n)",
}


def refusal(path: bytes, error: OSError) -> TargetError:
    """Why nothing can be written at path, and the cure."""
    cure = _CURES.get(error.errno or 0, reason(error))
    return TargetError(f"{printable(path)} cannot be written: {cure}.")


# facts


class TargetFacts(NamedTuple):
    """What a target can take."""

    free_bytes: int
    free_inodes: int | None  # None: no limit
    file_system: str  # its type; "" unknown
    folds_case: bool  # "a" and "A" are one name
    folds_unicode: bool  # composed and decomposed letters are one name

    def require(self, size: int, entries: int) -> None:
        """Raise TargetError unless so many bytes and entries fit."""
        if size > self.free_bytes:
            raise TargetError(
                f"The target has room for {_amount(self.free_bytes)} and {_amount(size)} are needed. "
                "Free space, choose another target, or restore less."
            )
        if self.free_inodes is not None and entries > self.free_inodes:
            raise TargetError(
                f"The target can take {self.free_inodes} more files and {entries} are needed. "
                "Choose another target, or restore less."
            )


def probe_target(target: bytes) -> TargetFacts:
    """The facts of a target that is empty or does not exist; TargetError with the cure when it cannot be one.

    What a killed restore has left there counts as free: it will be removed, or is a part of what is to come.
    """
    place = _resolved(target)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    try:
        fd = _open_empty(place) if place == _resolved(target) else _open_directory(place)
    except OSError as error:
        raise refusal(place, error) from None
    try:
        size, count = remains.measured(fd, PREFIX if place == _resolved(target) else PREFIX + _label(_resolved(target)))
        facts = _facts(fd, place)
        inodes = None if facts.free_inodes is None else facts.free_inodes + count
        return facts._replace(free_bytes=facts.free_bytes + size, free_inodes=inodes)
    except OSError as error:
        raise refusal(place, error) from None
    finally:
        os.close(fd)


def _facts(fd: int, place: bytes) -> TargetFacts:
    room = os.fstatvfs(fd)
    name = PREFIX + b"probe-" + secrets.token_hex(4).encode()
    os.mkdir(name, 0o700, dir_fd=fd)
    try:
        case, unicode = _same(fd, name, b"a", b"A"), _same(fd, name, "\u00e9".encode(), "e\u0301".encode())
    finally:
        os.rmdir(name, dir_fd=fd)
    inodes = room.f_favail if room.f_files else None
    return TargetFacts(room.f_bavail * room.f_frsize, inodes, kernel.file_system_of(place), case, unicode)


def _same(fd: int, directory: bytes, one: bytes, other: bytes) -> bool:
    """Whether the file system takes two names for one."""
    os.mkdir(directory + b"/" + one, dir_fd=fd)
    try:
        os.stat(directory + b"/" + other, dir_fd=fd)
    except OSError:
        return False
    finally:
        os.rmdir(directory + b"/" + one, dir_fd=fd)
    return True


def _amount(size: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024  # type: ignore[assignment]  # a float from here on
    return f"{size:.4g} TiB"


# the stage


class Stage:
    """The directory that is being filled. fd is open for reading and locked: a second restore sees that we live.

    what       identifies the restore: one that is exactly the same continues in the stage of one that was killed
    continued  whether it does: then the stage holds directories, and files that may be whole or not
    Raises TargetError when the target cannot be one, or another restore is filling it.
    """

    def __init__(self, target: bytes, what: bytes = b"") -> None:
        self.target = _resolved(target)
        self.continued = False
        self._made: list[bytes] = []  # directories above the target that did not exist
        try:
            self._inside = os.path.lexists(self.target)
            self._parent = _open_empty(self.target) if self._inside else self._open_parent()
            label = _label(self.target)
            self.name = PREFIX + label + b"-" + (what[:8].hex() or secrets.token_hex(8)).encode()
            remains.sweep(self._parent, PREFIX if self._inside else PREFIX + label, self.target, self.name)
            self._begin()
            self.fd = self._enter()
            if self.continued:
                remains.trim(self.fd)
        except OSError as error:
            self._unmake()
            raise refusal(self.target, error) from None

    def _unmake(self) -> None:
        for made in self._made:
            with suppress(OSError):
                os.rmdir(made)

    def _open_parent(self) -> int:
        parent = os.path.dirname(self.target)
        missing = parent
        while not os.path.lexists(missing):
            self._made.append(missing)
            missing = os.path.dirname(missing)
        if not os.path.isdir(missing):
            raise _no_directory(missing)
        os.makedirs(parent, exist_ok=True)
        return _open_directory(parent)

    def _begin(self) -> None:
        """Make the stage, or find it."""
        try:
            os.mkdir(self.name, 0o700, dir_fd=self._parent)
        except FileExistsError:
            self.continued = True

    def _enter(self) -> int:
        fd = os.open(self.name, _OPEN, dir_fd=self._parent)
        st = os.fstat(fd)
        if st.st_uid != os.geteuid() or stat.S_IMODE(st.st_mode) & 0o077:
            raise TargetError(f"{printable(self.target)}: somebody else changes it while we restore. Choose another.")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in _ACLS:  # inherited from above; our files would inherit them in turn
            with suppress(OSError):
                os.removexattr(fd, name)
        return fd

    def publish(self, crown: Callable[[int], None]) -> None:
        """Make the stage the target. What it holds must be durable; the change of names is when this returns.

        crown gives the target's own directory its attributes, on an open handle.
        """
        try:
            if self._inside:
                self._hand_over()
                crown(self._parent)
            else:
                crown(self.fd)
                with kernel.unlocked(self.fd):
                    self._rename()
            os.fsync(self._parent)
            for made in self._made:
                _sync_entry_of(made)
        except OSError as error:
            raise refusal(self.target, error) from None
        self._close()

    def _rename(self) -> None:
        name, parent = os.path.basename(self.target), self._parent
        kernel.rename_noreplace(self.name, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _hand_over(self) -> None:
        for name in os.listdir(b"/proc/self/fd/%d" % self.fd):
            try:
                remains.insist(self.fd, name, partial(self._hand_over_one, name))
            except FileExistsError:
                if name != LOST_FOUND:
                    raise
                os.rmdir(name, dir_fd=self.fd)  # the file system's own one stays; ENOTEMPTY when ours holds something
        os.rmdir(self.name, dir_fd=self._parent)

    def _hand_over_one(self, name: bytes) -> None:
        kernel.rename_noreplace(name, name, src_dir_fd=self.fd, dst_dir_fd=self._parent)

    def discard(self) -> None:
        """Remove the stage and the directories made for it; harmless after publish().

        What cannot be removed is left to the next restore.
        """
        if self.fd < 0:
            return
        with suppress(OSError):
            remains.remove(self._parent, self.name)
        self._unmake()
        self._close()

    def leave(self) -> None:
        """Let go of the stage as it is: the same restore goes on in it, any other removes it."""
        if self.fd >= 0:
            self._close()

    def _close(self) -> None:
        os.close(self.fd)
        os.close(self._parent)
        self.fd = -1


def _label(target: bytes) -> bytes:
    """Tells the stages of several targets in one directory apart. The number of a handle says nothing about one."""
    if target.startswith(HANDLES + b"/"):
        target = target[len(HANDLES) + 1 :].partition(b"/")[2]
    return hashlib.blake2b(target, digest_size=4).hexdigest().encode()


def _resolved(target: bytes) -> bytes:
    if not target or b"\0" in target:
        raise TargetError("There is nowhere to restore to: name a directory.")
    return target if target.startswith(HANDLES + b"/") else os.path.realpath(target)


def _open_directory(path: bytes) -> int:
    """Never through a link, except the kernel's own to a handle of ours."""
    return os.open(path + b"/." if os.path.dirname(path) == HANDLES else path, _OPEN)


def _open_empty(target: bytes) -> int:
    """A handle on a directory that holds nothing but remains of a restore; TargetError otherwise."""
    try:
        fd = os.open(target, _OPEN)
    except NotADirectoryError:
        raise _no_directory(target) from None
    names = os.listdir(b"/proc/self/fd/%d" % fd)
    kept = [name for name in names if not name.startswith(PREFIX) and name != LOST_FOUND]
    if not kept:
        return fd
    os.close(fd)
    raise TargetError(
        f"{printable(target)} is not empty: it holds {printable(min(kept))}"
        f"{f' and {len(kept) - 1} more' if len(kept) > 1 else ''}. Choose a new or empty directory."
    )


def _no_directory(path: bytes) -> TargetError:
    return TargetError(f"{printable(path)} is no directory. Choose a new or empty directory.")


def _sync_entry_of(path: bytes) -> None:
    """Make the name of a directory survive a power cut."""
    fd = _open_directory(os.path.dirname(path))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
