"""An SQLite database, copied through SQLite itself: one consistent moment, whatever is being written meanwhile.

The file alone is never copied: what has been committed may still lie in the write-ahead log beside it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from aihub_backup.core.options import OptionsError, option
from backups.engine import kernel
from backups.engine.disk import DiskTree, Report, printable, reason
from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import SourceError
from backups.engine.scan import examine, scan
from backups.strategies.base import Finding, Strategy, followed, is_same
from backups.strategies.files import is_text

BLOCK = 65_536  # pages are rewritten in place, so equal blocks stay equal
STEP = 4096  # pages copied between two looks at the clock
MAGIC = b"SQLite format 3\0"
UNKNOWN = "unknown: "
NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs"))


@dataclass(frozen=True)
class SQLiteOptions:
    """Where the database is, and how patient to be with those who use it."""

    path: str = option(label="Database file", help="Absolute path of the database.", minimum=1)
    deadline_seconds: int = option(
        60, label="Deadline", minimum=1, maximum=86_400,
        help="How many seconds to wait while another program keeps the database locked.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or "\0" in self.path:
            raise OptionsError({"path": f"{self.path!r} is not an absolute path; begin with the slash of the root."})
        if not is_text(os.fsencode(self.path)):
            raise OptionsError({"path": f"{self.path!r} is not UTF-8; rename the database or a directory above it."})


class SQLite(Strategy[SQLiteOptions]):
    """One database file, copied in one consistent moment and stored in blocks."""

    kind: ClassVar[str] = "sqlite"
    family: ClassVar[str] = "database"
    Options: ClassVar[type[Any]] = SQLiteOptions

    def __init__(self, options: SQLiteOptions, workdir: Path) -> None:
        super().__init__(options, workdir)
        self._path = os.fsencode(followed(options.path))  # the log lies beside the file, not beside a link
        self._copy = os.fsencode(workdir) + b"/copy.sqlite3"
        self._seen: dict[str, Any] = {}

    def check(self) -> None:
        self._look()
        with self._frozen():
            pass

    def capture(self, report: Report) -> Iterator[Entry]:
        self._look()
        self._warn(report)
        for entry in scan([self._path], reserved=self.reserved, report=report):
            if entry.kind is not Kind.FILE:
                yield entry
                continue
            self._take_copy()
            self._seen = examined(self._copy)
            self._tell_damage(entry, report)
            yield self._described(entry)

    def facts(self) -> dict[str, Any]:
        path = self._path.decode("utf-8", "backslashreplace")
        return {
            "roots": [path],
            "base": os.path.dirname(path),
            "consistency": "application",
            "tools": {"sqlite": sqlite3.sqlite_version},
            **self._seen,
        }

    @classmethod
    def roots(cls, options: SQLiteOptions) -> Sequence[Path]:
        return [Path(options.path)]

    @classmethod
    def covers(cls, options: SQLiteOptions, place: Path, *, directory: bool = True) -> bool:
        return is_same(followed(options.path), followed(place))

    @classmethod
    def validate(cls, target: str, facts: Mapping[str, Any]) -> Sequence[Finding]:
        """Open the restored database, without changing it, and compare what it holds with what was captured."""
        path = os.path.join(os.fsencode(target), os.path.basename(str(facts["roots"][0]).encode()))
        try:
            found = examined(path)
        except (SourceError, OSError) as error:
            return [Finding(check="open", passed=False, detail=str(error))]
        return [_compared(name, sentence, facts.get(name), found[name]) for name, sentence in _CHECKS.items()]

    # what there is

    def _look(self) -> None:
        """A regular file that begins like a database, or SourceError."""
        shown = printable(self._path)
        root = examine([self._path], lambda _: None, reserved=self.reserved)[0]
        if not is_text(root):
            raise SourceError(f"{shown} is not UTF-8: rename the database or a directory above it.")
        disk = DiskTree(b"/")
        try:
            fd, st = disk.open_file(root)
        except OSError as error:
            raise SourceError(f"{shown} is not a database: {reason(error)}. Name the database file.") from None
        finally:
            disk.close()
        with os.fdopen(fd, "rb") as file:
            if st.st_size and file.read(len(MAGIC)) != MAGIC:
                raise SourceError(f"{shown} is not an SQLite database, or it is encrypted. Name another file.")

    def _warn(self, report: Report) -> None:
        system = kernel.file_system_of(self._path)
        if system in NETWORK:
            sentence = f"It lies on {system}, where SQLite's locks are not reliable; the copy may be inconsistent."
            report(ItemError(self._path[1:], "read", sentence, "warning"))

    def _described(self, entry: Entry) -> Entry:
        """The database's own name, owner, mode and time; content and identity of the copy, which is new each time."""
        disk = DiskTree(b"/")
        try:
            entry.xattrs = disk.xattrs_of(entry.path)
            with disk.opened(entry.path) as fd:
                entry.flags = disk.flags(fd)
        except OSError as error:
            raise SourceError(f"{printable(self._path)} cannot be read: {reason(error)}.") from None
        finally:
            disk.close()
        os.utime(self._copy, ns=(entry.mtime_ns, entry.mtime_ns))
        st = os.stat(self._copy)
        entry.device, entry.inode, entry.nlink = st.st_dev, st.st_ino, 1
        entry.size, entry.ctime_ns = st.st_size, st.st_ctime_ns
        entry.source, entry.block, entry.notes = self._copy, BLOCK, Notes.UNSURE
        return entry

    # the copy

    @contextmanager
    def _frozen(self) -> Iterator[sqlite3.Connection]:
        """One moment of the database: while its transaction is open, a stepwise copy never starts again.

        The connection can only read, so it neither checkpoints the log nor removes it. Only what an interrupted
        program has left half done is rolled back first, as everybody who opens the database must do.
        """
        alone = not os.path.lexists(self._path + b"-wal")
        try:
            try:
                source = self._begin("mode=ro")
            except sqlite3.Error as error:
                if _name(error) != "SQLITE_READONLY_ROLLBACK":
                    raise
                source = self._begin("mode=rw")
            with closing(source):
                yield source
            if alone:
                self._tidy()
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _begin(self, how: str) -> sqlite3.Connection:
        source = _connect(self._path, how, self.options.deadline_seconds)
        try:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            source.close()
            raise
        return source

    def _tidy(self) -> None:
        """Reading has made an empty log beside a database nobody has open; SQLite takes it away if that is still so."""
        if os.path.lexists(self._path + b"-wal"):
            with suppress(sqlite3.Error), closing(_connect(self._path, "mode=rw", 0)) as last:
                last.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def _take_copy(self) -> None:
        with self._frozen() as source:
            self._make_room(source)
            with suppress(FileNotFoundError):  # of an attempt before
                os.unlink(self._copy)
            os.close(os.open(self._copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            with closing(_connect(self._copy, "mode=rw", 1)) as copy:
                copy.execute("PRAGMA synchronous=OFF")  # a copy that a power cut breaks is made again
                copy.execute("PRAGMA journal_mode=OFF")
                source.backup(copy, pages=STEP, progress=self._watch(), sleep=0.1)

    def _make_room(self, source: sqlite3.Connection) -> None:
        pages, size = (source.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        free = shutil.disk_usage(self.workdir).free
        if pages * size > free:
            raise SourceError(
                f"The copy of {printable(self._path)} needs {pages * size} bytes and {self.workdir} has {free}. "
                "Free space there, or put the work directory on a larger file system."
            )

    def _watch(self) -> Callable[[int, int, int], None]:
        """A progress callback that gives up when nothing moves: backup() itself would wait for ever."""
        least, since = sys.maxsize, time.monotonic()

        def watch(_: int, remaining: int, __: int) -> None:
            nonlocal least, since
            if remaining < least:
                least, since = remaining, time.monotonic()
            elif time.monotonic() - since > self.options.deadline_seconds:
                raise self._locked()

        return watch

    # what can go wrong

    def _tell_damage(self, entry: Entry, report: Report) -> None:
        found = self._seen["integrity"]
        if found == "ok":
            return
        if found.startswith(UNKNOWN):
            report(ItemError(entry.path, "check", f"SQLite cannot check it here: {found[len(UNKNOWN) :]}.", "warning"))
            return
        sentence = f"The database itself is damaged: {found}. It is stored as it is; repair it with its program."
        report(ItemError(entry.path, "check", sentence, "error"))

    def _locked(self) -> SourceError:
        return SourceError(
            f"{printable(self._path)} was locked by another program for {self.options.deadline_seconds} seconds. "
            "Back up when it is less busy, or raise the deadline."
        )

    def _failed(self, error: sqlite3.Error) -> SourceError:
        shown, words = printable(self._path), str(error)
        name = _name(error)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return self._locked()
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return SourceError(
                f"{shown} cannot be read ({words}): SQLite has to write its log or roll back beside it. "
                "Let this account write in its directory."
            )
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return SourceError(f"The copy of {shown} cannot be made: {words}. Look at the disks of both.")
        return SourceError(f"{shown} cannot be read as an SQLite database: {words}.")


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")  # the module's own errors have none


# looking at a database


def examined(path: bytes) -> dict[str, Any]:
    """What is in a database nobody else has open; it is read, never changed. SourceError when it cannot be opened."""
    try:
        with closing(_connect(path, "mode=ro&immutable=1", 0)) as database:
            names = ("page_count", "page_size", "user_version", "encoding")
            pages, size, version, encoding = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
            return {
                "pages": pages, "page_size": size, "user_version": version, "encoding": encoding,
                "integrity": _integrity(database), "foreign_key_violations": _violations(database),
                "tables": {name: _count(database, name) for name in _tables(database)},
            }  # fmt: skip
    except sqlite3.Error as error:
        raise SourceError(f"{printable(path)} cannot be read as an SQLite database: {error}.") from None


def _integrity(database: sqlite3.Connection) -> str:
    """ "ok", the first complaints, or why nobody can tell: an extension or a collation that is not here."""
    try:
        return "; ".join(row[0] for row in database.execute("PRAGMA integrity_check(5)"))
    except sqlite3.OperationalError as error:
        return f"{UNKNOWN}{error}"
    except sqlite3.DatabaseError as error:  # too damaged to be walked through
        return str(error)


def _violations(database: sqlite3.Connection) -> int | None:
    try:
        return sum(1 for _ in database.execute("PRAGMA foreign_key_check"))
    except sqlite3.DatabaseError:
        return None


def _tables(database: sqlite3.Connection) -> list[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return sorted(name for (name,) in rows if not name.startswith("sqlite_"))


def _count(database: sqlite3.Connection, table: str) -> int | None:
    """The number of rows; None where nobody can tell: damage, or a virtual table whose extension is not here."""
    quoted = table.replace('"', '""')
    try:
        return int(database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0])  # noqa: S608  # a quoted name
    except sqlite3.DatabaseError:
        return None


def _connect(path: bytes, how: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=timeout, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    return connection


# comparing


_CHECKS = {
    "integrity": "SQLite's integrity check says the same as at the capture",
    "foreign_key_violations": "As many rows break a foreign key as at the capture",
    "page_size": "The pages have the same size",
    "tables": "Every table has as many rows as at the capture",
}


def _compared(check: str, sentence: str, then: Any, now: Any) -> Finding:
    if then == now:
        return Finding(check=check, passed=True, detail=f"{sentence}{_told(now)}.")
    if isinstance(then, dict) and isinstance(now, dict):
        names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        parts = (f"{name} had {then.get(name)} and has {now.get(name)}" for name in names[:5])
        return Finding(check=check, passed=False, detail=f"Tables differ: {', '.join(parts)}.")
    return Finding(check=check, passed=False, detail=f"{check.replace('_', ' ')} was {then} and is {now}.")


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return f": {sum(count or 0 for count in value.values())} in {len(value)}"
    return f": {value}"
