"""Waiting for work that goes on in a worker."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aihub_backup.cli import output
from aihub_backup.cli.exits import CommandFailed, Exit

if TYPE_CHECKING:
    from argparse import ArgumentParser

POLL = 0.5  # seconds between looks at the database
PATIENCE = 5.0  # seconds that work may wait for a worker before we ask whether there is one
QUIET = 30.0  # seconds between lines where no terminal can redraw one


def add_options(parser: ArgumentParser) -> None:
    """--wait and --timeout."""
    parser.add_argument("--wait", action="store_true", help="wait for the end; Ctrl-C stops waiting, not the work")
    parser.add_argument("--timeout", type=float, default=86_400, metavar="SECONDS", help="stop waiting then (one day)")


def until_ended(what: str, look: Callable[[], tuple[bool, str, dict[str, Any]]], timeout: float) -> None:
    """Look again and again: (has it ended, its state, its progress). CommandFailed when the time is over."""
    begin = told = time.monotonic()
    end, idle = begin + timeout, False
    while True:
        ended, state, progress = look()
        if not idle and state in ("pending", "queued") and time.monotonic() - begin > PATIENCE:
            idle = _nobody_works(what)
        told = _tell(what, state, progress, told, ended)
        if ended:
            return
        if time.monotonic() > end:
            raise CommandFailed(f"{what} is still {state}; it goes on without us.", Exit.TIMEOUT)
        try:
            time.sleep(POLL)
        except KeyboardInterrupt:
            raise CommandFailed(f"not waiting any longer; {what} goes on.", Exit.INTERRUPTED) from None


def _nobody_works(what: str) -> bool:
    """Say so, once, when no worker has shown itself lately."""
    from aihub_backup.core.models import Node

    if any(node.alive for node in Node.objects.filter(enabled=True)):
        return False
    output.say(f"{what} waits: no worker serves this console now. Start it: ./aihub up")
    return True


def line(progress: dict[str, Any]) -> str:
    """How far it is, in a few words; empty when nothing is known yet."""
    done, total = progress.get("bytes_done"), progress.get("bytes_total")
    parts = [str(progress.get("phase") or "")]
    if done is not None:
        parts.append(f"{output.size(done)}/{output.size(total)}" if total else output.size(done))
    if done and total:
        parts.append(f"{100 * min(1.0, done / total):.0f} %")
    if progress.get("bytes_kept"):
        parts.append(f"({output.size(progress['bytes_kept'])} were there)")
    if progress.get("bytes_per_second"):
        parts.append(f"{output.size(progress['bytes_per_second'])}/s")
    return "  ".join(part for part in parts if part)


def _tell(what: str, state: str, progress: dict[str, Any], told: float, ended: bool) -> float:
    """Redraw on a terminal; elsewhere a line now and then."""
    text = f"{what}: {state}  {'' if ended else line(progress)}".rstrip()
    if sys.stderr.isatty():
        output.progress(text, done=ended)
    elif ended or time.monotonic() - told > QUIET:
        output.say(text)
        return time.monotonic()
    return told
