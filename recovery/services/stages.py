"""The directory in which a recovery is built up, beside its target, and the one step that gives it its name.

Only we may enter it. The tree grows inside of it under the name `tree`; beside that lies whatever a runner that was
killed could not remove.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from uuid import UUID

from aihub_backup.core.failures import Refused
from recovery.services import targets

TREE = "tree"
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def place(target: str, recovery_id: UUID, epoch: int) -> str:
    """Where to build up: in the nearest directory above the target that exists, so that one rename is enough and a
    recovery that fails leaves no empty directories behind. Each attempt (epoch of its lease) has a place of its own:
    one that lost its lease and does not know it yet removes nothing of its successor's."""
    above = os.path.dirname(target)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    return os.path.join(targets.real(above), f".aihub-recovery-{recovery_id}-{epoch}")


def make(stage: str, *, directories: bool) -> None:
    """An empty stage; what an attempt before this one has left there goes. With `directories` the tree is one of our
    own, for parts below it. Refused when nothing can be written there."""
    try:
        remove(stage)
        os.mkdir(stage, 0o700)
        if directories:
            os.mkdir(tree(stage), 0o755)
    except OSError as error:
        words = f"Nothing can be written beside the target, in {os.path.dirname(stage)}: {error.strerror}."
        raise Refused(words, code="target-incompatible") from None


def tree(stage: str, place: str = "") -> str:
    """Where a part grows."""
    return os.path.join(stage, TREE, place) if place else os.path.join(stage, TREE)


def publish(stage: str, target: str) -> None:
    """Give the finished tree its name. The kernel puts it only where nothing or an empty directory is.

    Both paths were judged with their links followed; a link that has come into one of them since is not followed.
    Refused (“target-busy”) when something is in the way. The name is on the disk when this returns.
    """
    parent, name = os.path.split(target)
    try:
        with _directory(stage) as source, _directory(parent, make=True) as destination:
            os.rename(TREE, name, src_dir_fd=source, dst_dir_fd=destination)
            os.fsync(destination)
    except OSError as error:
        words = f"{target} could not be made: {error.strerror}; something else may have come there."
        raise Refused(words, code="target-busy") from None


def identity(stage: str) -> str:
    """What the finished tree is known by under its new name too: a rename keeps the inode."""
    return str(os.lstat(tree(stage)).st_ino)


def published(tree_inode: str, target: str) -> bool:
    """Was the step done by somebody who then had no time to write it down? Another directory there is not ours."""
    try:
        return bool(tree_inode) and str(os.lstat(target).st_ino) == tree_inode
    except OSError:
        return False


def remove(stage: str) -> bool:
    """Remove what was built up so far, however deep; True when nothing is left of it."""
    if stage and os.path.lexists(stage):
        command = ["rm", "-rf", "--one-file-system", "--", stage]
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return not os.path.lexists(stage)


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
