"""Are two trees, two databases the same? Written without the engine, so that it can bear witness."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path

SHOWN = 20  # differences that are spelled out


@dataclass(frozen=True)
class Item:
    """All that has to come back of one file, directory, link or pipe."""

    kind: str
    mode: int
    owner: tuple[int, int]
    modified_ns: int
    size: int
    content: str  # SHA-256 of a file, target of a link
    same_as: bytes  # the first path of its hard link group

    def differences(self, other: Item) -> list[str]:
        """Names of the members in which the two differ."""
        names = [field.name for field in dataclasses.fields(self)]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


Tree = dict[bytes, Item]


def read_tree(root: Path) -> Tree:
    """Every entry below the root (and the root itself, as b""), by its path in bytes; nothing where nothing is."""
    first: dict[tuple[int, int], bytes] = {}
    top = os.fsencode(root)
    names = [top, *_walk(top)] if os.path.lexists(top) else []
    return {name[len(top) :].lstrip(b"/"): _item(name, name[len(top) :].lstrip(b"/"), first) for name in names}


def compare_trees(expected: Tree, found: Tree) -> list[str]:
    """Sentences about what differs; empty when the trees are identical."""
    missing = [f"{os.fsdecode(path)!r} is missing" for path in sorted(expected.keys() - found.keys())]
    surplus = [f"{os.fsdecode(path)!r} should not be there" for path in sorted(found.keys() - expected.keys())]
    changed = [
        f"{os.fsdecode(path)!r} differs in {', '.join(names)}"
        for path in sorted(expected.keys() & found.keys())
        if (names := expected[path].differences(found[path]))
    ]
    return [*missing, *surplus, *changed]


def compare_databases(expected: Path, found: Path) -> list[str]:
    """Sentences about what differs: SQLite's own integrity check, the schema, and every row of every table."""
    if not found.is_file():
        return [f"there is no database at {found}"]
    with _opened(expected) as left, _opened(found) as right:
        verdict = right.execute("PRAGMA integrity_check").fetchone()[0]
        problems = [] if verdict == "ok" else [f"integrity check: {verdict}"]
        if _schema(left) != _schema(right):
            return [*problems, "the schema differs"]
        tables = [row[0] for row in left.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return problems + [text for table in tables if (text := _compare_rows(left, right, table))]


def count_rows(database: Path) -> int:
    """Rows of all tables."""
    with _opened(database) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        questions = [f'SELECT count(*) FROM "{table}"' for table in tables]  # noqa: S608  the names come from sqlite_master
        return sum(int(connection.execute(question).fetchone()[0]) for question in questions)


def _compare_rows(left: sqlite3.Connection, right: sqlite3.Connection, table: str) -> str:
    question = f'SELECT * FROM "{table}" ORDER BY 1'  # noqa: S608  the names come from sqlite_master
    pairs = itertools.zip_longest(left.execute(question), right.execute(question))
    for number, (expected, found) in enumerate(pairs):
        if expected != found or list(map(type, expected)) != list(map(type, found)):  # 1 is not 1.0
            return f"table {table}: row {number} differs"
    return ""


def _schema(connection: sqlite3.Connection) -> list[object]:
    objects = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    return [row for question in ("PRAGMA user_version", objects) for row in connection.execute(question)]


def _opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path))


def _walk(top: bytes) -> list[bytes]:
    found: list[bytes] = []
    for folder, folders, files in os.walk(top):
        folders.sort()
        found += [os.path.join(folder, name) for name in [*folders, *files]]
    return sorted(found)


def _item(path: bytes, name: bytes, first: dict[tuple[int, int], bytes]) -> Item:
    facts = os.lstat(path)
    kind = stat.filemode(facts.st_mode)[0]
    group = first.setdefault((facts.st_dev, facts.st_ino), name) if kind == "-" else name
    return Item(
        kind=kind,
        mode=stat.S_IMODE(facts.st_mode),
        owner=(facts.st_uid, facts.st_gid),
        modified_ns=facts.st_mtime_ns,
        size=facts.st_size if kind == "-" else 0,
        content=_content(path, kind),
        same_as=group,
    )


def _content(path: bytes, kind: str) -> str:
    if kind == "l":
        return os.fsdecode(os.readlink(path))
    if kind != "-":
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
