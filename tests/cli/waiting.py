"""Waiting for what other processes do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path


def eventually(question: Callable[[], object], seconds: float = 60.0) -> None:
    """Ask again and again until the answer is true; fail loudly when it never is."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, f"{question} did not become true in {seconds} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False
