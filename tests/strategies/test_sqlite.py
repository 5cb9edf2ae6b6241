"""A database in use is captured at one moment, and judged when it is back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backups.engine import kernel
from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import SourceError
from backups.strategies import sqlite as module
from backups.strategies.sqlite import SQLite, SQLiteOptions
from tests.engine import trees

ROWS = 2000


@pytest.fixture(params=["delete", "wal"])
def journal(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, journal: str) -> Path:
    path = tmp_path / "data" / "shop.db"
    path.parent.mkdir()
    (tmp_path / "work").mkdir()
    with closing(connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute("CREATE TABLE shops (id INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, shop REFERENCES shops, note TEXT)")
        database.execute("INSERT INTO shops VALUES (1)")
        database.execute("BEGIN")
        database.executemany("INSERT INTO orders (shop, note) VALUES (1, ?)", [("n" * 200,)] * ROWS)
        database.execute("COMMIT")
    return path


def connect(path: Path | bytes) -> sqlite3.Connection:
    return sqlite3.connect(os.fsdecode(path), isolation_level=None, timeout=10)


def strategy(path: Path, deadline: int = 20) -> SQLite:
    work = next(parent / "work" for parent in path.parents if (parent / "work").is_dir())
    return SQLite(SQLiteOptions(str(path), deadline), work)


def capture(source: SQLite, report: Callable[[ItemError], None] = trees.fail) -> Entry:
    """The database's own entry."""
    [found] = [entry for entry in source.capture(report) if entry.kind is Kind.FILE]
    return found


def rows(entry: Entry) -> int:
    assert isinstance(entry.source, bytes)
    with closing(connect(entry.source)) as copy:
        return int(copy.execute("SELECT count(*) FROM orders").fetchone()[0])


@contextmanager
def writing(path: Path, deed: Callable[[sqlite3.Connection], None]) -> Iterator[list[int]]:
    """Somebody else who writes all the time; the list counts."""
    stop, counts = threading.Event(), [0]

    def run() -> None:
        with closing(connect(path)) as database:
            while not stop.is_set():
                deed(database)
                counts[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    while not counts[0]:
        time.sleep(0.01)
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def test_it_describes_the_copy_as_the_database(path: Path) -> None:
    os.chmod(path, 0o640)
    os.setxattr(path, "user.owner", b"shop")
    os.utime(path, ns=(1, 1_500_000_000_123_456_789))

    entry = capture(strategy(path))

    assert entry.path == os.fsencode(path)[1:]
    assert (entry.mode, entry.mtime_ns, entry.nlink) == (0o640, 1_500_000_000_123_456_789, 1)
    assert entry.xattrs == ((b"user.owner", b"shop"),)
    assert entry.block == 65_536
    assert entry.notes == Notes.UNSURE  # the main file may stay as it is while the log beside it grows
    assert isinstance(entry.source, bytes)
    st = os.stat(entry.source)
    assert (entry.size, entry.inode, entry.mtime_ns, entry.ctime_ns) == (
        st.st_size, st.st_ino, st.st_mtime_ns, st.st_ctime_ns,
    )  # fmt: skip
    assert st.st_mode & 0o777 == 0o600


def test_it_takes_what_is_committed_and_nothing_else(path: Path) -> None:
    with closing(connect(path)) as committed, closing(connect(path)) as open_:
        committed.execute("INSERT INTO orders (note) VALUES ('committed')")  # in WAL mode only in the log
        open_.execute("BEGIN")
        if open_.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            open_.execute("INSERT INTO orders (note) VALUES ('not committed')")

        assert rows(capture(strategy(path))) == ROWS + 1


def test_it_keeps_pages_where_they_are(path: Path) -> None:
    first = strategy(path)
    before = Path(os.fsdecode(first._copy))
    capture(first)
    kept = before.read_bytes()
    with closing(connect(path)) as database:
        database.execute("UPDATE orders SET note = 'm' || substr(note, 2) WHERE id = 1000")

    after = capture(strategy(path))

    assert isinstance(after.source, bytes)
    data = Path(os.fsdecode(after.source)).read_bytes()
    changed = sum(data[at : at + 4096] != kept[at : at + 4096] for at in range(0, len(kept), 4096))
    assert len(data) == len(kept)
    assert changed <= 3  # the page of the row and the header


def test_it_copies_one_moment_under_a_busy_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP", 5)  # many steps, between which the writer gets its turn

    def add_a_pair(database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO orders (note) VALUES ('one')")
        database.execute("INSERT INTO orders (note) VALUES ('other')")
        database.execute("COMMIT")

    source = strategy(path)
    with writing(path, add_a_pair) as counts:
        entry = capture(source)

    assert (rows(entry) - ROWS) % 2 == 0
    assert rows(entry) <= ROWS + 2 * counts[0]
    assert source.facts()["integrity"] == "ok"


def test_it_leaves_no_file_beside_the_database(path: Path) -> None:
    before = path.read_bytes()

    strategy(path).check()
    capture(strategy(path))

    assert os.listdir(path.parent) == ["shop.db"]
    assert path.read_bytes() == before


def test_it_leaves_the_log_of_a_program_that_has_it_open(path: Path, journal: str) -> None:
    with closing(connect(path)) as program:
        program.execute("INSERT INTO orders (note) VALUES ('x')")
        before = {name: (path.parent / name).stat().st_size for name in os.listdir(path.parent)}

        capture(strategy(path))

        assert {name: (path.parent / name).stat().st_size for name in os.listdir(path.parent)} == before
        assert program.execute("SELECT count(*) FROM orders").fetchone() == (ROWS + 1,)


def test_it_reads_what_a_killed_program_left(path: Path) -> None:
    child = os.fork()
    if child == 0:
        database = connect(path)
        database.execute("PRAGMA cache_size=5")
        database.execute("INSERT INTO orders (note) VALUES ('committed')")
        database.execute("BEGIN")
        database.execute("UPDATE orders SET note = 'x' || note")  # spills to the file before it is committed
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(os.listdir(path.parent)) > 1

    entry = capture(strategy(path))

    assert rows(entry) == ROWS + 1
    assert isinstance(entry.source, bytes)
    with closing(connect(entry.source)) as copy:
        assert copy.execute("SELECT count(*) FROM orders WHERE note LIKE 'x%'").fetchone() == (0,)


def test_it_tells_what_a_restore_is_judged_by(path: Path, journal: str) -> None:
    source = strategy(path)
    capture(source)

    facts = source.facts()

    assert facts["tables"] == {"orders": ROWS, "shops": 1}
    assert (facts["integrity"], facts["foreign_key_violations"], facts["page_size"]) == ("ok", 0, 4096)
    assert facts["tools"] == {"sqlite": sqlite3.sqlite_version}
    assert facts["consistency"] == "application"
    assert facts["base"] == str(path.parent)


# what it refuses


def test_it_gives_up_on_a_database_that_stays_locked(path: Path) -> None:
    with closing(connect(path)) as program:
        program.execute("PRAGMA locking_mode=EXCLUSIVE")
        program.execute("BEGIN EXCLUSIVE")
        program.execute("INSERT INTO orders (note) VALUES ('x')")
        began = time.monotonic()

        for deed in (lambda: strategy(path, 1).check(), lambda: capture(strategy(path, 1))):
            with pytest.raises(SourceError, match=r"locked by another program for 1 seconds\. Back up when"):
                deed()

        assert time.monotonic() - began < 10


def test_it_waits_for_a_lock_that_passes(path: Path) -> None:
    program = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    program.execute("BEGIN EXCLUSIVE")
    program.execute("INSERT INTO orders (note) VALUES ('x')")
    release = threading.Timer(0.5, program.close)  # which rolls back
    release.start()

    entry = capture(strategy(path))

    release.join()
    assert rows(entry) == ROWS


def test_it_gives_up_when_a_copy_does_not_move(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = strategy(path, 1)
    watch = source._watch()
    watch(0, 100, 100)
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock + 5)

    watch(0, 99, 100)  # it moves: the clock begins again
    with pytest.raises(SourceError, match="locked by another program"):
        monkeypatch.setattr(time, "monotonic", lambda: clock + 10)
        watch(5, 99, 100)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_text("not a database at all " * 100), "is not an SQLite database, or it is encrypted"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: subprocess.run(f"rm {path}; mkdir {path}", shell=True, check=True), "is not a database"),
        (lambda path: subprocess.run(f"rm {path}; mkfifo {path}", shell=True, check=True), "is not a database"),
        (lambda path: path.write_bytes(module.MAGIC + b"\1" * 5000), "cannot be read as an SQLite database"),
    ],
)
def test_it_refuses_what_is_no_database(path: Path, make: Callable[[Path], object], sentence: str) -> None:
    make(path)

    with pytest.raises(SourceError, match=sentence):
        strategy(path).check()
    with pytest.raises(SourceError, match=sentence):
        capture(strategy(path))


def test_it_takes_an_empty_file_for_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "empty.db").touch()
    source = strategy(tmp_path / "empty.db")

    capture(source)

    assert source.facts()["tables"] == {}


def test_it_follows_a_link_to_the_file_beside_which_the_log_lies(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)

    entry = capture(strategy(tmp_path / "link.db"))

    assert entry.path == os.fsencode(path)[1:]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_it_says_that_there_is_no_room_for_the_copy(path: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path / "work"], check=True)
    try:
        with pytest.raises(SourceError, match=r"The copy of .* needs \d+ bytes and .* has \d+\. Free space there"):
            capture(strategy(path))
    finally:
        subprocess.run(["umount", tmp_path / "work"], check=True)


def test_it_warns_of_a_network_file_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "file_system_of", lambda _: "nfs4")
    told: list[ItemError] = []

    capture(strategy(path), told.append)

    assert [(item.severity, "locks are not reliable" in item.message) for item in told] == [("warning", True)]


def test_it_stores_a_damaged_database_and_says_so(path: Path) -> None:
    _damage(path)
    told: list[ItemError] = []

    source = strategy(path)
    capture(source, told.append)

    assert [(item.path, item.severity) for item in told] == [(os.fsencode(path)[1:], "error")]
    assert "is damaged" in told[0].message
    assert source.facts()["integrity"] != "ok"


def _damage(path: Path) -> None:
    """Break an index-free page in the middle."""
    with closing(connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096 * 20 + 8)
        file.write(b"\xff" * 100)


# judging


def restored(source: SQLite, target: Path) -> Path:
    entry = capture(source)
    assert isinstance(entry.source, bytes)
    target.mkdir()
    shutil.copy(os.fsdecode(entry.source), target / os.fsdecode(entry.path.rpartition(b"/")[2]))
    return target / "shop.db"


def failed(source: SQLite, target: Path) -> dict[str, str]:
    found = source.validate(str(target), source.facts())
    return {finding["check"]: finding["detail"] for finding in found if not finding["passed"]}


def test_it_passes_what_is_as_it_was(path: Path, tmp_path: Path) -> None:
    source = strategy(path)
    back = restored(source, tmp_path / "target")
    before = back.read_bytes()

    findings = source.validate(str(back.parent), source.facts())

    assert [finding["check"] for finding in findings] == ["integrity", "foreign_key_violations", "page_size", "tables"]
    assert all(finding["passed"] for finding in findings)
    assert f"{ROWS + 1} in 2" in findings[-1]["detail"]
    assert os.listdir(back.parent) == ["shop.db"]
    assert back.read_bytes() == before


def test_it_fails_what_has_lost_rows_or_references(path: Path, tmp_path: Path) -> None:
    source = strategy(path)
    with closing(connect(restored(source, tmp_path / "target"))) as database:
        database.execute("DELETE FROM orders WHERE id = 1")
        database.execute("DELETE FROM shops")

    found = failed(source, tmp_path / "target")

    assert found["tables"] == f"Tables differ: orders had {ROWS} and has {ROWS - 1}, shops had 1 and has 0."
    assert found["foreign_key_violations"] == f"foreign key violations was 0 and is {ROWS - 1}."


def test_it_fails_what_is_damaged_truncated_or_missing(path: Path, tmp_path: Path) -> None:
    source = strategy(path)
    back = restored(source, tmp_path / "target")
    _damage(back)
    assert "integrity" in failed(source, tmp_path / "target")

    os.truncate(back, 50_000)
    assert failed(source, tmp_path / "target")

    back.unlink()
    assert "open" in failed(source, tmp_path / "target")


def test_it_passes_what_was_broken_before(path: Path, tmp_path: Path) -> None:
    with closing(connect(path)) as database:
        database.execute("DELETE FROM shops")
    source = strategy(path)

    restored(source, tmp_path / "target")

    assert source.facts()["foreign_key_violations"] == ROWS
    assert failed(source, tmp_path / "target") == {}


def test_it_does_without_what_is_not_installed_here(path: Path, tmp_path: Path) -> None:
    with closing(connect(path)) as database:
        database.create_collation("HOUSE", lambda a, b: (a > b) - (a < b))
        database.execute("CREATE INDEX notes ON orders (note COLLATE HOUSE)")
    told: list[ItemError] = []
    source = strategy(path)

    capture(source, told.append)

    assert [item.severity for item in told] == ["warning"]
    assert "cannot check it here: no such collation sequence: HOUSE" in told[0].message
