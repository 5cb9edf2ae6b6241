"""The worker's "please come to an end": one shared byte, set by the main process, seen by every forked child."""

from __future__ import annotations

import mmap

_flag = mmap.mmap(-1, 1)  # anonymous and shared: made before the pool forks, so all children look at the same byte


def begin() -> None:
    """Ask every job in hand to come back to the queue. Safe inside a signal handler."""
    _flag[0] = 1


def end() -> None:
    """Take jobs again."""
    _flag[0] = 0


def asked() -> bool:
    """Is the worker on its way out?"""
    return _flag[0] == 1
