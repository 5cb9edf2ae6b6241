"""The place a restore goes to, held by a handle: its names may change while we write, what we opened does not.

The handle is locked as well. Who takes the place over from an attempt that was lost waits for the lock, and so knows
that nobody of that attempt, of whom the database cannot tell, still writes there.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backups.engine.disk import printable
from backups.engine.errors import TargetError

LOCK_PATIENCE = 5.0  # seconds: what was killed needs a moment to be gone, more of one when it was writing

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def target(job: Mapping[str, Any]) -> Iterator[bytes]:
    """The job's target. With a "stage" ({"path", "device", "inode"}: a directory that only we may enter, the target
    lies in it) the path leads through an open handle, so that nobody who owns a directory above can lead us astray.

    Raises TargetError when the stage is another directory than it was, or somebody else works in it.
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


def locked(handle: int) -> bool:
    """Lock an open directory for as long as it, or its copy in a forked process, is open. False: somebody else has it
    and keeps it for LOCK_PATIENCE."""
    end = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        else:
            return True


def _open(stage: Mapping[str, Any]) -> int:
    """Its name is looked at again under the lock: it may have been taken over in the moment before."""
    try:
        handle = os.open(stage["path"], _OPEN)
    except OSError:
        raise _exchanged(stage) from None
    if _leads_to(handle, stage) and locked(handle) and _leads_to(stage["path"], stage):
        return handle
    os.close(handle)
    raise _exchanged(stage)


def _leads_to(place: int | bytes, stage: Mapping[str, Any]) -> bool:
    try:
        found = os.stat(place) if isinstance(place, int) else os.lstat(place)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (stage["device"], stage["inode"])


def _exchanged(stage: Mapping[str, Any]) -> TargetError:
    return TargetError(
        f"Somebody exchanged {printable(stage['path'])} while we restore. Choose a target in a directory that nobody"
        " else changes."
    )
