"""The directory in which a recovery is built up, beside its target, and the one step that gives it its name.

Only we may enter it. The tree grows inside of it under the name `tree`; beside that lies what a runner that was killed
has left, for the next attempt to go on with. Whoever owns the directory above can rename the stage and put another one
in its place: that is why it is known by what it is (device and inode), not by its name alone, why no link is followed
on the way to it, and why a mark inside of it, where nobody else can lay one, says whose it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from aihub_backup.core.failures import Refused
from backups.runner.holding import locked
from recovery.services import targets

TREE = "tree"
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
    """An empty stage; what attempts before this one have left beside it goes. With `directories` the tree is one of
    our own, for parts below it. Refused when nothing can be written there."""
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
        os.close(os.open(_whose(stage), _MARK, 0o600, dir_fd=handle))
        return Stage(stage, made.st_dev, made.st_ino)
    finally:
        os.close(handle)


def take_over(stage: str) -> Stage | None:
    """What the attempt before has left, under the name of this one, so that nobody of that attempt finds it any more.

    None when there is nothing, when it is not of the same recovery, or when somebody of that attempt still works in it:
    no process can write there when this returns.
    """
    parent, name = os.path.split(stage)
    try:
        with _directory(parent) as above:
            left = max(_left(above, stage), key=_epoch, default="")
            handle = os.open(left, _STEP, dir_fd=above)
            try:
                return _taken(handle, stage) if _renamed(handle, above, left, name) else None
            finally:
                os.close(handle)
    except OSError:
        return None


def _renamed(handle: int, above: int, left: str, name: str) -> bool:
    if not (_ours(os.fstat(handle)) and _whose(left) in os.listdir(handle) and locked(handle)):
        return False
    os.rename(left, name, src_dir_fd=above, dst_dir_fd=above)
    return True


def _taken(handle: int, stage: str) -> Stage:
    found = os.fstat(handle)
    return Stage(stage, found.st_dev, found.st_ino)


def _whose(stage: str) -> str:
    """The name of a stage without the attempt; also that of the mark inside of it."""
    return os.path.basename(stage).rpartition("-")[0]


def _epoch(name: str) -> int:
    return int(name.rpartition("-")[2])


def _left(above: int, stage: str) -> list[str]:
    """The names of all stages of the same recovery in that directory."""
    whose = f"{_whose(stage)}-"
    return [name for name in os.listdir(above) if name.startswith(whose) and name[len(whose) :].isdecimal()]


def holds(stage: str, place: str) -> bool:
    """Does a part stand there already? Its runner gives it this name when it is whole and on the disk, not before."""
    return os.path.lexists(tree(stage, place))


def tidy(stage: Stage, places: Collection[str]) -> None:
    """Leave the parts alone in a tree of our own: what killed runners have left among them must not get its name."""
    with _opened(stage) as handle, _below(handle, TREE) as inside:
        for name in set(os.listdir(inside)) - set(places):
            _remove(inside, name)


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
            if not locked(source):
                raise _exchanged(stage.path)
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
    """Remove what the attempts of this recovery have built up beside the stage, and in it, however deep, following no
    link on the way; True when nothing is left."""
    with contextlib.suppress(OSError), _directory(os.path.dirname(stage)) as above:
        for name in _left(above, stage):
            if os.stat(name, dir_fd=above, follow_symlinks=False).st_uid == os.geteuid():
                _remove(above, name)
        return not _left(above, stage)
    return not os.path.lexists(stage)


def _remove(above: int, name: str) -> None:
    command = ["rm", "-rf", "--one-file-system", "--", f"/proc/self/fd/{above}/{name}"]
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(above,))


@contextlib.contextmanager
def _opened(stage: Stage) -> Iterator[int]:
    """The stage that we made; Refused when another directory stands in its place."""
    with _directory(stage.path) as handle:
        found = os.fstat(handle)
        if (found.st_dev, found.st_ino) != (stage.device, stage.inode):
            raise _exchanged(stage.path)
        yield handle


@contextlib.contextmanager
def _below(handle: int, name: str) -> Iterator[int]:
    inside = os.open(name, _STEP, dir_fd=handle)
    try:
        yield inside
    finally:
        os.close(inside)


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
