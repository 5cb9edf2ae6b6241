"""An SQLite database in use: what comes back opens, is intact and holds the rows it held."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from backups.models import BackupPart, Source
from backups.services import sources
from recovery.models import RecoveryState
from tests.recovery.stories import asked, backed_up, done, tree


@pytest.fixture
def live(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database that stays open, with rows that only its log holds."""
    (tmp_path / "db").mkdir()
    with closing(sqlite3.connect(tmp_path / "db" / "orders.sqlite3")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)")
        connection.executemany("INSERT INTO orders (what) VALUES (?)", [(f"thing {n}",) for n in range(5000)])
        connection.commit()
        yield connection


@pytest.fixture
def database(source: Source, live: sqlite3.Connection, tmp_path: Path, by: Actor) -> Source:
    """The database as a source."""
    return sources.create("orders", "sqlite", {"path": str(tmp_path / "db" / "orders.sqlite3")}, by=by)


def rows(path: Path) -> list[tuple[int, str]]:
    """Everything in it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT id, what FROM orders ORDER BY id").fetchall()


def test_it_recovers_a_database_in_use(database: Source, live: sqlite3.Connection, target: Path, by: Actor) -> None:
    backup = backed_up(by, database)
    live.execute("DELETE FROM orders")
    live.commit()

    recovery = done(asked(by, backup, target))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert rows(target / "orders.sqlite3") == [(n + 1, f"thing {n}") for n in range(5000)]
    checks = {finding["check"]: finding["passed"] for finding in recovery.findings}
    assert len(checks) > 1
    assert all(checks.values())


def test_it_recovers_a_set_of_files_and_database(
    source: Source, database: Source, data: Path, target: Path, by: Actor
) -> None:
    backup = backed_up(by, source, database)

    recovery = done(asked(by, backup, target))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert tree(target / "docs") == tree(data)
    assert len(rows(target / "orders" / "orders.sqlite3")) == 5000


def test_it_does_not_keep_a_database_that_holds_something_else(database: Source, target: Path, by: Actor) -> None:
    backup = backed_up(by, database)
    part = backup.parts.get()
    counted = {name: value for name, value in part.facts.items() if isinstance(value, dict) and "orders" in value}
    assert counted, part.facts
    lies = {name: {**value, "orders": 1} for name, value in counted.items()}
    BackupPart.objects.filter(pk=part.pk).update(facts={**part.facts, **lies})

    recovery = done(asked(by, backup, target))

    assert recovery.state == RecoveryState.FAILED
    assert "did not pass the validation" in recovery.error_message
    assert not target.exists()
