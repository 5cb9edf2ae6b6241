"""Are two trees the same? By directory descriptors only, so that paths of any length and depth are seen.

python -m benchmarks.compare EXPECTED FOUND      prints the differences; exit code 0 when there are none
"""

from __future__ import annotations

import os
import stat
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

CONTENT, MODE, OWNER, MTIME, XATTRS, HOLES, LINKS = "content", "mode", "owner", "mtime", "xattrs", "holes", "links"
EVERYTHING = frozenset((CONTENT, MODE, OWNER, MTIME, XATTRS, HOLES, LINKS))

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WINDOW = 1 << 20  # bytes compared at once
_SLACK = 64 << 10  # bytes a file system may allocate more than another for the same holes


class Difference(NamedTuple):
    """One way in which one path differs; expected and found are shown, not exact."""

    path: bytes
    aspect: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path[-120:]!r}: {self.aspect} is {self.found}, not {self.expected}"


def same_tree(
    expected: bytes, found: bytes, *, aspects: Iterable[str] = EVERYTHING, root: bool = True, limit: int = 100
) -> list[Difference]:
    """The differences between two directories, at most limit of them; none: the trees are the same.

    Kinds, names, link targets and device numbers are always compared; access times, inode numbers and the sizes of
    directories never. Expected sockets may be missing, since nothing can bring them back. A file's holes are the same
    when it takes no more room (within 64 KiB and 1/16).
    root: whether the two directories themselves are compared too.
    """
    comparison = _Comparison(frozenset(aspects), limit)
    comparison.run(expected, found, root=root)
    return comparison.differences[:limit]


class _Side(NamedTuple):
    """A directory of one of the trees, and a name in it."""

    folder: int
    name: bytes

    def facts(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def target(self) -> bytes:
        return os.readlink(self.name, dir_fd=self.folder)

    def open(self) -> int:
        return os.open(self.name, _FILE, dir_fd=self.folder)

    def xattrs(self) -> dict[str, bytes]:
        # There is no getxattrat(): the folder's descriptor stands in for a path that may be too long.
        path = b"/proc/self/fd/%d/%s" % (self.folder, self.name)
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


class _Comparison:
    def __init__(self, aspects: frozenset[str], limit: int) -> None:
        self.differences: list[Difference] = []
        self._aspects = aspects
        self._limit = limit
        self._groups: tuple[dict[tuple[int, int], set[bytes]], ...] = (defaultdict(set), defaultdict(set))

    def run(self, expected: bytes, found: bytes, *, root: bool) -> None:
        """Walk both trees in step, down by name and up by "..", with two descriptors at any depth."""
        here = [os.open(path, _FOLDER & ~os.O_NOFOLLOW) for path in (expected, found)]
        path: list[bytes] = []
        try:
            if root:
                self._item(b"", *(_Side(folder, b".") for folder in here))
            pending = [self._folder(path, *here)]
            while pending and len(self.differences) < self._limit:
                name = next(pending[-1], None)
                if name is None:
                    pending.pop()
                    here = _moved(here, b"..") if pending else here
                    del path[-1:]
                else:
                    here = _moved(here, name)
                    path.append(name)
                    pending.append(self._folder(path, *here))
        finally:
            for folder in here:
                os.close(folder)
        self._compare_groups()

    def _folder(self, path: list[bytes], expected: int, found: int) -> Iterator[bytes]:
        """Compare everything in a pair of folders; the names of the folders that both have."""
        wanted, seen = (set(map(os.fsencode, os.listdir(folder))) for folder in (expected, found))
        for name in sorted(wanted ^ seen):
            if name in wanted and stat.S_ISSOCK(_Side(expected, name).facts().st_mode):
                continue
            states = ("there", "missing") if name in wanted else ("missing", "there")
            self._differ(b"/".join([*path, name]), "it", *states)
        both = sorted(wanted & seen)
        inside = [name for name in both if self._pair(path, _Side(expected, name), _Side(found, name))]
        return iter(inside)

    def _pair(self, path: list[bytes], expected: _Side, found: _Side) -> bool:
        return self._item(b"/".join([*path, expected.name]), expected, found)

    def _item(self, path: bytes, expected: _Side, found: _Side) -> bool:
        """Compare one pair; True when both are directories."""
        a, b = expected.facts(), found.facts()
        kind = stat.S_IFMT(a.st_mode)
        if not self._same(path, "kind", _kind(a), _kind(b)):
            return False
        self._attributes(path, a, b)
        if XATTRS in self._aspects:
            self._same(path, XATTRS, expected.xattrs(), found.xattrs())
        if kind == stat.S_IFLNK:
            self._same(path, "target", expected.target(), found.target())
        if kind == stat.S_IFREG:
            self._content(path, expected, found, a, b)
        return kind == stat.S_IFDIR

    def _attributes(self, path: bytes, a: os.stat_result, b: os.stat_result) -> None:
        if MODE in self._aspects:
            self._same(path, MODE, oct(stat.S_IMODE(a.st_mode)), oct(stat.S_IMODE(b.st_mode)))
        if OWNER in self._aspects:
            self._same(path, OWNER, (a.st_uid, a.st_gid), (b.st_uid, b.st_gid))
        if MTIME in self._aspects:
            self._same(path, MTIME, a.st_mtime_ns, b.st_mtime_ns)
        if stat.S_ISCHR(a.st_mode) or stat.S_ISBLK(a.st_mode):
            self._same(path, "device", a.st_rdev, b.st_rdev)
        if LINKS in self._aspects and not stat.S_ISDIR(a.st_mode):
            self._note_links(path, a, b)

    def _note_links(self, path: bytes, a: os.stat_result, b: os.stat_result) -> None:
        for groups, facts in zip(self._groups, (a, b), strict=True):
            if facts.st_nlink > 1:
                groups[facts.st_dev, facts.st_ino].add(path)

    def _content(self, path: bytes, expected: _Side, found: _Side, a: os.stat_result, b: os.stat_result) -> None:
        if CONTENT in self._aspects and self._same(path, "size", a.st_size, b.st_size):
            place = _first_difference(expected, found)
            self._same(path, CONTENT, "the same", "the same" if place is None else f"different at byte {place}")
        room = a.st_blocks * 512
        if HOLES in self._aspects and b.st_blocks * 512 > room + max(_SLACK, room // 16):
            self._differ(path, "room on disk", room, b.st_blocks * 512)

    def _compare_groups(self) -> None:
        """Hard links: the same names must share one file on both sides."""
        wanted, seen = ({frozenset(group) for group in groups.values()} for groups in self._groups)
        for group in sorted(wanted ^ seen, key=min):
            is_wanted = group in wanted
            shown = b", ".join(sorted(group)[:3])
            self._differ(
                min(group), "hard links", str(shown) if is_wanted else "others", "others" if is_wanted else shown
            )

    def _same(self, path: bytes, aspect: str, expected: object, found: object) -> bool:
        if expected != found:
            self._differ(path, aspect, expected, found)
        return expected == found

    def _differ(self, path: bytes, aspect: str, expected: object, found: object) -> None:
        self.differences.append(Difference(path, aspect, str(expected)[:200], str(found)[:200]))


def _moved(folders: list[int], name: bytes) -> list[int]:
    moved = [os.open(name, _FOLDER, dir_fd=folder) for folder in folders]
    for folder in folders:
        os.close(folder)
    return moved


def _kind(facts: os.stat_result) -> str:
    return stat.filemode(facts.st_mode)[0]


def _first_difference(expected: _Side, found: _Side) -> int | None:
    files = [side.open() for side in (expected, found)]
    try:
        return next(_differing(*files), None)
    finally:
        for file in files:
            os.close(file)


def _differing(a: int, b: int) -> Iterator[int]:
    """Where windows differ; only those are read in which one of the files has data."""
    done = 0
    for start, end in sorted([*_data(a), *_data(b)]):
        for place in range(max(start, done), end, _WINDOW):
            length = min(_WINDOW, end - place)
            left, right = os.pread(a, length, place), os.pread(b, length, place)
            if left != right:
                yield place + next((i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), len(left))
        done = max(done, end)


def _data(file: int) -> Iterator[tuple[int, int]]:
    """The ranges of a file that are not holes."""
    end = 0
    with suppress(OSError):  # ENXIO: no data after this place
        while True:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
            yield start, end


def main(expected: str, found: str) -> int:
    """Print the differences; how many there are (at most 1 as an exit code)."""
    differences = same_tree(os.fsencode(expected), os.fsencode(found))
    print(*differences, f"{len(differences) or 'No'} differences.", sep="\n")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
