"""A row of what a golden repository holds, as a disk tells it after a restore."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

FORMATS = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFLNK: 3, stat.S_IFIFO: 4, stat.S_IFCHR: 5, stat.S_IFBLK: 6}
DEVICES = (5, 6)


def is_there(target: Path, row: list[Any]) -> bool:
    """Containers may not make devices, not even as root."""
    return os.path.lexists(os.path.join(bytes(target), bytes.fromhex(row[0])))


def found(target: bytes, row: list[Any]) -> list[Any]:
    """The row as the disk tells it, in the form of the golden file."""
    path = os.path.join(target, bytes.fromhex(row[0]))
    st = os.lstat(path)
    kind, size = FORMATS[stat.S_IFMT(st.st_mode)], st.st_size if stat.S_ISREG(st.st_mode) else 0
    attributes = [[os.fsencode(name).hex(), os.getxattr(path, name, follow_symlinks=False).hex()]
                  for name in sorted(os.listxattr(path, follow_symlinks=False))]  # fmt: skip
    link = os.readlink(path).hex() if kind == 3 else ""
    content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() if kind == 1 else ""
    others = [name for name in row[11] if os.path.samefile(os.path.join(target, bytes.fromhex(name)), path)]
    return [row[0], kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns, size, link, attributes,
            st.st_rdev if kind in DEVICES else 0, content, others]  # fmt: skip


def assert_came_back(target: Path, rows: list[list[Any]]) -> int:
    """Everything but the root itself is there as it was, devices where they may be made; how many of those may not."""
    absent = [row for row in rows if row[1] in DEVICES and not is_there(target, row)]
    expected = [row for row in rows if row[0] and row not in absent]
    assert [found(bytes(target), row) for row in expected] == expected
    return len(absent)
