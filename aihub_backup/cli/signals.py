"""Signals as something to wait for. The handlers only take note, so a started program inherits nothing unusual."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WATCHED = (*STOPS, signal.SIGCHLD)


class Mailbox:
    """Collects the watched signals of this process. To be made in the main thread; once."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Python writes each signal's number here at once, so one that comes just before the wait still ends the wait.
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in WATCHED:
            if number == signal.SIGCHLD or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _take_note)  # what the caller ignores stays ignored: nohup means it

    def wait(self, patience: float) -> set[signal.Signals]:
        """The signals since the last call; empty after `patience` seconds without one."""
        select.select([self._reader], [], [], max(0.0, patience))
        try:
            return {signal.Signals(number) for number in os.read(self._reader, 4096)}
        except BlockingIOError:
            return set()


def _take_note(number: int, frame: FrameType | None) -> None:
    """The wake-up pipe has the number already."""
