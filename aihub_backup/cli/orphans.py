"""Descendants whose parent died: adopt them, find them. Linux; elsewhere they go to process 1, which reaps them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Become the parent of every descendant whose own parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int | None = None) -> list[int]:
    """Process ids of the direct children of that process, or of this one, adopted ones included; none of a dead one."""
    return sorted(set(_listed("self" if pid is None else str(pid))))


def _listed(process: str) -> Iterator[int]:
    with contextlib.suppress(OSError):  # it has ended, or a thread of it
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children", "rb") as file:
                yield from map(int, file.read().split())


def end() -> None:
    """SIGKILL to every direct child, and wait for it: a signal that comes while one is started leaves it to nobody."""
    for pid in children():
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
