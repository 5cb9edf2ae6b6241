"""Directories whose paths are longer than the kernel takes in one piece."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def dig(top: Path, length: int = 8000, name: bytes = b"d" * 99) -> tuple[bytes, int]:
    """(relative path of about `length` bytes, open handle) of a new directory deep below top. Close the handle."""
    fd = os.open(top, os.O_PATH)
    names: list[bytes] = []
    while len(names) * (len(name) + 1) <= length:
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = deeper
        names.append(name)
    return b"/".join(names), fd


def dug(top: Path, fill: Callable[[int], None], length: int = 8000) -> bytes:
    """dig(), fill the deepest directory by its handle, close it; its relative path."""
    path, fd = dig(top, length)
    try:
        fill(fd)
    finally:
        os.close(fd)
    return path


def write(fd: int, name: bytes, data: bytes) -> None:
    """A file in the directory fd."""
    file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
    os.write(file, data)
    os.close(file)
