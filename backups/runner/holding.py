"""The place a restore goes to, held by a handle: its names may change while we write, what we opened does not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backups.engine.disk import printable
from backups.engine.errors import TargetError

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def target(job: Mapping[str, Any]) -> Iterator[bytes]:
    """The job's target. With a "stage" ({"path", "device", "inode"}: a directory that only we may enter, the target
    lies in it) the path leads through an open handle, so that nobody who owns a directory above can lead us astray.

    Raises TargetError when the stage is another directory than it was.
    """
    stage = job.get("stage")
    if not stage:
        yield job["target"]
        return
    handle = _open(stage)
    held = b"/proc/self/fd/%d" % handle
    try:
        yield held + job["target"][len(stage["path"]) :]
    except TargetError as error:
        raise TargetError(str(error).replace(os.fsdecode(held), printable(stage["path"]))) from None
    finally:
        os.close(handle)


def _open(stage: Mapping[str, Any]) -> int:
    try:
        handle = os.open(stage["path"], _OPEN)
    except OSError:
        raise _exchanged(stage) from None
    found = os.fstat(handle)
    if (found.st_dev, found.st_ino) == (stage["device"], stage["inode"]):
        return handle
    os.close(handle)
    raise _exchanged(stage)


def _exchanged(stage: Mapping[str, Any]) -> TargetError:
    return TargetError(
        f"Somebody exchanged {printable(stage['path'])} while we restore. Choose a target in a directory that nobody"
        " else changes."
    )
