"""The directory in which a recovery is built up, beside its target, and the one step that gives it its name.

Only we may enter it. The tree grows inside of it under the name `tree`; beside that lies whatever a runner that was
killed could not remove. Whoever owns the directory above can rename the stage and put another one in its place: that is
why it is known by what it is (device and inode), not by its name alone, and why no link is followed on the way to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from aihub_backup.core.failures import Refused
from recovery.services import targets

TREE = "tree"
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that we made: where, and what it is known by."""

    path: str
    device: int
    inode: int

    def told(self) -> dict[str, Any]:
        """As the runner hears it."""
        return {**asdict(self), "path": os.fsencode(self.path)}


def place(target: str, recovery_id: UUID, epoch: int) -> str:
    """Where to build up: in the nearest directory above the target that exists, so that one rename is enough and a
    recovery that fails leaves no empty directories behind. Each attempt (epoch of its lease) has a place of its own:
    one that lost its lease and does not know it yet removes nothing of its successor's."""
    above = os.path.dirname(target)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    return os.path.join(targets.real(above), f".aihub-recovery-{recovery_id}-{epoch}")


def make(stage: str, *, directories: bool) -> Stage:
    """An empty stage; what an attempt before this one has left there goes. With `directories` the tree is one of our
    own, for parts below it. Refused when nothing can be written there."""
    parent, name = os.path.split(stage)
    try:
        remove(stage)
        with _directory(parent) as above:
            os.mkdir(name, 0o700, dir_fd=above)
            return _begin(stage, above, directories)
    except OSError as error:
        words = f"Nothing can be written beside the target, in {os.path.dirname(stage)}: {error.strerror}."
        raise Refused(words, code="target-incompatible") from None


def _begin(stage: str, above: int, directories: bool) -> Stage:
    handle = os.open(os.path.basename(stage), _STEP, dir_fd=above)
    try:
        made = os.fstat(handle)
        if not _ours(made) or os.listdir(handle):
            raise _exchanged(stage)
        if directories:
            os.mkdir(TREE, 0o755, dir_fd=handle)
        return Stage(stage, made.st_dev, made.st_ino)
    finally:
        os.close(handle)


def _ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _exchanged(stage: str) -> Refused:
    words = f"Somebody exchanged {stage} during the recovery. Choose a target in a directory that nobody else changes."
    return Refused(words, code="target-incompatible")


def tree(stage: str, place: str = "") -> str:
    """Where a part grows."""
    return os.path.join(stage, TREE, place) if place else os.path.join(stage, TREE)


def publish(stage: Stage, target: str) -> None:
    """Give the finished tree its name. The kernel puts it only where nothing or an empty directory is.

    Both paths were judged with their links followed; a link that has come into one of them since is not followed.
    Refused (“target-busy”) when something is in the way. The name is on the disk when this returns.
    """
    parent, name = os.path.split(target)
    try:
        with _opened(stage) as source, _directory(parent, make=True) as destination:
            os.rename(TREE, name, src_dir_fd=source, dst_dir_fd=destination)
            os.fsync(destination)
    except OSError as error:
        words = f"{target} could not be made: {error.strerror}; something else may have come there."
        raise Refused(words, code="target-busy") from None


def identity(stage: Stage) -> str:
    """What the finished tree is known by under its new name too: a rename keeps the inode. Refused when it is none."""
    with _opened(stage) as handle:
        found = os.stat(TREE, dir_fd=handle, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise _exchanged(stage.path)
    return str(found.st_ino)


def published(tree_inode: str, target: str) -> bool:
    """Was the step done by somebody who then had no time to write it down? Another directory there is not ours."""
    try:
        return bool(tree_inode) and str(os.lstat(target).st_ino) == tree_inode
    except OSError:
        return False


def remove(stage: str) -> bool:
    """Remove what was built up so far, however deep, following no link on the way; True when nothing is left."""
    parent, name = os.path.split(stage)
    with contextlib.suppress(OSError), _directory(parent) as above:
        command = ["rm", "-rf", "--one-file-system", "--", f"/proc/self/fd/{above}/{name}"]
        if os.stat(name, dir_fd=above, follow_symlinks=False).st_uid == os.geteuid():
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(above,))
    return not os.path.lexists(stage)


@contextlib.contextmanager
def _opened(stage: Stage) -> Iterator[int]:
    """The stage that we made; Refused when another directory stands in its place."""
    with _directory(stage.path) as handle:
        found = os.fstat(handle)
        if (found.st_dev, found.st_ino) != (stage.device, stage.inode):
            raise _exchanged(stage.path)
        yield handle


@contextlib.contextmanager
def _directory(path: str, *, make: bool = False) -> Iterator[int]:
    """The directory open for reading, reached from the root name by name without following any link; with `make`
    what is missing of it is made."""
    handle = os.open("/", _STEP)
    try:
        for name in path.strip("/").split("/"):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=handle)
                    os.fsync(handle)
            deeper = os.open(name, _STEP, dir_fd=handle)
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)
