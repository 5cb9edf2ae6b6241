"""The facts about this machine without which no number means anything."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def facts(**places: Path) -> dict[str, str]:
    """Processor, memory, system, and the file system below each named place."""
    told = {
        "processor": f"{os.cpu_count()} × {_field('/proc/cpuinfo', 'model name') or platform.machine()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": f"{_release()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }
    return told | {name: file_system(path) for name, path in places.items()}


def file_system(path: Path) -> str:
    """The kind of file system below a path (ext4, tmpfs …); "" when the kernel does not tell."""
    return max(((len(where), kind) for where, kind in _mounts() if _is_below(path, where)), default=(0, ""))[1]


def _is_below(path: Path, where: str) -> bool:
    return path.resolve().is_relative_to(where)


def _mounts() -> Iterator[tuple[str, str]]:
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
            _, where, kind, *_ = line.split(" ")
            yield where.replace("\\040", " "), kind


def _release() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system()


def _field(path: str, name: str) -> str:
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""
