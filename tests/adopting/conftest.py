"""Console one has made backups and is lost; what it knew is remembered here, to be compared with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from backups.models import Repository, Source, Storage
from backups.services import backups, policies, sources
from tests.adopting.stories import FirstConsole, remembered
from tests.backups import stories
from tests.backups.conftest import by, data, elsewhere, heavy, storage
from tests.recovery.conftest import target
from tests.recovery.stories import backed_up, tree

__all__ = ["by", "data", "elsewhere", "heavy", "storage", "target"]


@pytest.fixture
def repository(storage: Storage, by: Actor) -> Repository:
    """Ready for backups; its code is in `code`."""
    kit = stories.ready("main", storage, by=by, codec="gzip", level=6)
    vars(kit.repository)["code"] = kit.code
    return kit.repository


@pytest.fixture
def source(repository: Repository, data: Path, by: Actor) -> Source:
    """The directory with the data, with a promise."""
    policy = policies.create("gold", by=by, keep_daily=7, immutable_days=3, rpo_target_minutes=90)
    return sources.create(
        "docs", "files", {"paths": [str(data)]}, by=by, tags={"team": "search"}, policy=policy, repository=repository
    )


@pytest.fixture
def database(repository: Repository, tmp_path: Path, by: Actor) -> Source:
    """A database of SQLite."""
    path = tmp_path / "orders.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL)")
        connection.executemany("INSERT INTO orders (total) VALUES (?)", [(n / 3,) for n in range(500)])
    return sources.create("orders", "sqlite", {"path": str(path)}, by=by, repository=repository)


@pytest.fixture
def first(repository: Repository, source: Source, database: Source, data: Path, by: Actor) -> FirstConsole:
    """A console with a set, an incremental one that is held, a released one and a forgotten one."""
    whole = backed_up(by, source, database)
    trees = {str(whole.pk): tree(data)}
    gone = backed_up(by, database)
    (data / "new.txt").write_text("new\n")
    held = backed_up(by, source, kind="incremental")
    trees[str(held.pk)] = tree(data)
    released = backed_up(by, database)
    backups.hold(held, until=timezone.now() + timedelta(days=30), by=by, reason="the auditors ask")
    backups.hold(released, until=timezone.now() + timedelta(days=30), by=by, reason="a mistake")
    stories.work()
    backups.release(released, by=by, reason="it was one")
    backups.delete(gone, by=by, reason="no longer wanted")
    stories.work()
    return FirstConsole(repository.code, remembered(), trees, str(gone.pk))  # type: ignore[attr-defined]


@pytest.fixture
def lone(repository: Repository, source: Source, data: Path, by: Actor) -> FirstConsole:
    """A console with one backup."""
    backup = backed_up(by, source)
    return FirstConsole(repository.code, remembered(), {str(backup.pk): tree(data)}, "")  # type: ignore[attr-defined]
