"""Files and directories, as they are found: every file by itself is consistent, the tree as a whole is not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aihub_backup.core.options import OptionsError, option
from backups.engine.disk import DiskTree, Report, printable
from backups.engine.entry import Entry
from backups.engine.errors import InvalidPattern, SourceError
from backups.engine.patterns import Excludes
from backups.engine.scan import examine, scan
from backups.strategies.base import Strategy, followed, is_same


@dataclass(frozen=True)
class FilesOptions:
    """Which paths, and what of them is left out."""

    paths: tuple[str, ...] = option(
        label="Paths", help="Absolute paths of directories and files, one a line.", minimum=1, multiline=True,
        placeholder="/etc",
    )  # fmt: skip
    exclude: tuple[str, ...] = option(
        (), label="Leave out", multiline=True,
        help="Patterns, one a line: *.tmp at any depth, /srv/cache this path only, build/ directories only, "
        "** any number of directories, !keep.tmp takes back.",
    )  # fmt: skip
    one_file_system: bool = option(
        False, label="Stay on one file system", help="Leave out what is mounted below the paths."
    )
    exclude_caches: bool = option(
        False,
        label="Leave out caches",
        help="Leave out directories that programs have marked with a CACHEDIR.TAG file.",
    )

    def __post_init__(self) -> None:
        errors = {"paths": _paths_error(self.paths), "exclude": _exclude_error(self.exclude)}
        if any(errors.values()):
            raise OptionsError({name: sentence for name, sentence in errors.items() if sentence})


def _paths_error(paths: Sequence[str]) -> str:
    if not paths:
        return "Name at least one path."
    for path in paths:
        if not path.startswith("/") or "\0" in path:
            return f"{path!r} is not an absolute path; begin with the slash of the root."
        if not is_text(os.fsencode(path)):
            return f"{path!r} is not UTF-8; name the directory above it."
    return ""


def _exclude_error(patterns: Sequence[str]) -> str:
    try:
        Excludes(patterns)
    except InvalidPattern as error:
        return str(error)
    return ""


def is_text(path: bytes) -> bool:
    """Whether a path can be told in JSON. What lies below it may have any name; that is never told there."""
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


class Files(Strategy[FilesOptions]):
    """Directories and files with all their attributes, walked once."""

    kind: ClassVar[str] = "files"
    family: ClassVar[str] = "files"
    Options: ClassVar[type[Any]] = FilesOptions

    def __init__(self, options: FilesOptions, workdir: Path) -> None:
        super().__init__(options, workdir)
        self._found: list[bytes] = []  # the roots as the snapshot has them: links above them resolved
        self._base = b""

    def check(self) -> None:
        self._find()

    def capture(self, report: Report) -> Iterator[Entry]:
        self._find()
        return scan(
            self._paths,
            excludes=self.options.exclude,
            one_file_system=self.options.one_file_system,
            exclude_caches=self.options.exclude_caches,
            reserved=self.reserved,
            report=report,
        )

    def facts(self) -> dict[str, Any]:
        return {
            "roots": [f"/{root.decode()}" for root in self._found] or list(self.options.paths),
            "base": f"/{self._base.decode()}",
            "exclude": list(self.options.exclude),
            "consistency": "fuzzy",
            "tools": {},
        }

    @classmethod
    def roots(cls, options: FilesOptions) -> Sequence[Path]:
        return [Path(path) for path in options.paths]

    @classmethod
    def covers(cls, options: FilesOptions, place: Path, *, directory: bool = True) -> bool:
        excludes, found = Excludes(options.exclude), followed(place)
        return any(_comes_to(root, found, directory, excludes) for root in cls.roots(options))

    @property
    def _paths(self) -> list[bytes]:
        return [os.fsencode(path) for path in self.options.paths]

    def _find(self) -> None:
        """Look at the roots; SourceError when one cannot be read. What is odd about them is told by the scan."""
        self._found = examine(self._paths, lambda _: None, reserved=self.reserved)
        for root in self._found:
            if not is_text(root):
                raise SourceError(f"/{printable(root)} is not UTF-8: name the directory above it.")
        self._base = _base(self._found)


def _comes_to(root: Path, place: Path, directory: bool, excludes: Excludes) -> bool:
    """Would a walk from this root come to the place? Patterns bear on what is below a root, never on the root.

    A root may be the place, or a directory above it, under another name (a bind mount, a hard link).
    """
    top = followed(root)
    above = next((one for one in (place, *place.parents) if is_same(one, top)), None)
    if above is None:
        return False
    names = place.relative_to(above).parts
    ways = [os.fsencode(top.joinpath(*names[:end])).strip(b"/") for end in range(1, len(names) + 1)]
    return not any(excludes.match(way, directory or way != ways[-1]) for way in ways)


def _base(roots: Sequence[bytes]) -> bytes:
    """What the roots share; a root that is no directory stands under its own name in the directory above it."""
    disk = DiskTree(b"/")
    try:
        places = [root if stat.S_ISDIR(disk.lstat(root).st_mode) else os.path.dirname(root) for root in roots]
    finally:
        disk.close()
    return os.path.commonpath([b"/" + place for place in places]).strip(b"/")
