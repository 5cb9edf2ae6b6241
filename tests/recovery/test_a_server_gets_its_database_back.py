"""A PostgreSQL database in use, backed up by the console, comes back into a new database of its server, or as files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aihub_backup.core import jobs, processes
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.models import AuditEvent
from backups.models import Backup, Repository, Source
from backups.services import backups, sources
from recovery.models import Recovery, RecoveryState, TargetKind
from recovery.services import databases, recoveries
from recovery.services.recoveries import Target
from tests.backups.stories import hurry
from tests.backups.test_a_run_is_interrupted import kill, kill_one_of, later, put_off, started
from tests.recovery.stories import asked, backed_up, done
from tests.servers import postgresql
from tests.servers.postgresql import PASSWORD, PostgreSQLServer
from tests.strategies.databases import SHOP

__all__ = ["started"]

TABLES = ("shop.customers", "shop.orders", '"Odd name"', "events")


@pytest.fixture
def server() -> PostgreSQLServer:
    return postgresql.started(18)


@pytest.fixture
def live(server: PostgreSQLServer) -> Iterator[str]:
    """The database's name."""
    name = server.database(SHOP)
    yield name
    server.drop(name)


@pytest.fixture
def shop(repository: Repository, server: PostgreSQLServer, live: str, by: Actor) -> Source:
    """The database as a source."""
    return sources.create("shop", "postgresql", server.options(live), by=by)


@pytest.fixture
def backup(shop: Source, by: Actor) -> Backup:
    """One of it."""
    return backed_up(by, shop)


@pytest.fixture
def name(server: PostgreSQLServer) -> Iterator[str]:
    """Of the new database; gone afterwards."""
    name = server.new_name()
    yield name
    if name in known(server):
        server.drop(name)


def wanted(by: Actor, backup: Backup, name: str, kind: str = "full", **more: Any) -> Recovery:
    """A recovery into a new database."""
    target = Target(TargetKind.NEW_DATABASE, database=name, make_roles=more.pop("make_roles", False))
    return recoveries.request(kind, by=by, backup=backup, target=target, reason="INC-2", **more)


def known(server: PostgreSQLServer) -> set[str]:
    """Every database of the server."""
    return {row[0] for row in server.rows("SELECT datname FROM pg_database")}


def counts(server: PostgreSQLServer, database: str) -> list[int]:
    """Rows of the tables."""
    return [server.rows(f"SELECT count(*) FROM {table}", database)[0][0] for table in TABLES]


def left(server: PostgreSQLServer, home: Path) -> list[str]:
    """Working databases, and files."""
    return [*(one for one in known(server) if one.startswith("aihub_")), *os.listdir(home / "work")]


def test_it_comes_back_beside_the_one_in_use(
    server: PostgreSQLServer, live: str, backup: Backup, name: str, home: Path, by: Actor
) -> None:
    before = counts(server, live)
    server.run("DELETE FROM shop.orders", live)

    recovery = done(wanted(by, backup, name))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert counts(server, name) == before
    assert counts(server, live)[1] == 0
    assert recovery.target_path == f"postgresql://127.0.0.1:{server.port}/{name}"
    told = [finding["check"] for finding in recovery.findings]
    assert told == ["read back", "dump", "contents", "tables", "sequences", "large objects", "database"]
    assert all(finding["passed"] for finding in recovery.findings)
    assert left(server, home) == []


def test_a_killed_runner_takes_its_dump_along_and_the_next_attempt_succeeds(
    server: PostgreSQLServer, live: str, shop: Source, by: Actor, started: list[processes.Child], impatient: object
) -> None:
    server.run("CREATE TABLE heavy AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 60000) n", live)
    busy = f"SELECT pid FROM pg_stat_activity WHERE datname = '{live}' AND application_name = 'aihub-backup'"
    reading = f"{busy} AND query LIKE 'COPY%heavy%'"
    backup = backups.request("full", by=by, sources=[shop])
    part = backup.parts.get()
    assert part.job is not None
    killer = threading.Thread(target=_kill_while, args=(server, reading, started))
    killer.start()

    jobs.run(part.job.pk)
    killer.join()

    part.refresh_from_db()
    assert (part.state, part.error_code) == ("queued", "runner-died")
    assert soon(lambda: not server.rows(busy))
    hurry()
    jobs.run(part.job.pk)
    part.refresh_from_db()
    assert (part.state, part.facts["tables"]) == ("completed", 6)


def _kill_while(server: PostgreSQLServer, reading: str, started: list[processes.Child]) -> None:
    """The runner, as soon as its pg_dump reads the table."""
    if soon(lambda: bool(server.rows(reading))):
        os.kill(started[-1].pid, signal.SIGKILL)


def soon(true: Callable[[], bool]) -> bool:
    """Does it become true?"""
    deadline = time.monotonic() + 30
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return found


def test_it_comes_back_as_files(backup: Backup, live: str, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert {path.name for path in target.iterdir()} == {f"{live}.dump", "globals.sql", "~counts.json"}
    assert [finding["check"] for finding in recovery.findings] == ["read back", "dump", "contents"]


def test_the_password_stays_inside(backup: Backup, shop: Source, name: str, by: Actor) -> None:
    recovery = done(wanted(by, backup, name))

    shop.refresh_from_db()
    told = f"{shop.options} {backup.parts.get().facts} {recovery.findings} {list(AuditEvent.objects.values())}"
    assert PASSWORD not in told


def test_it_refuses_a_name_that_is_taken(
    server: PostgreSQLServer, live: str, backup: Backup, home: Path, by: Actor
) -> None:
    before = counts(server, live)

    recovery = done(wanted(by, backup, live))

    assert recovery.state == RecoveryState.FAILED
    assert f"There is a database “{live}” already" in recovery.error_message
    assert counts(server, live) == before
    assert left(server, home) == []


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("dbname=x", {}, "looks like connection settings"),
        ("", {}, "Give it a name"),
        ("x", {"kind": "selective", "include": ["*.sql"]}, "comes back whole"),
    ],
)
def test_it_refuses_at_once_what_can_never_be(
    backup: Backup, by: Actor, name: str, more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((Invalid, Refused), match=sentence):
        wanted(by, backup, name, **more)

    assert not Recovery.objects.exists()


def test_it_refuses_a_source_without_a_server(source: Source, by: Actor) -> None:
    with pytest.raises(Refused, match="has no server to make a new database on") as refusal:
        wanted(by, backed_up(by, source), "x")

    assert refusal.value.code == "target-incompatible"


def test_it_refuses_several_parts(shop: Source, source: Source, name: str, by: Actor) -> None:
    both = backed_up(by, shop, source)

    with pytest.raises(Invalid, match="made of one part"):
        wanted(by, both, name)

    assert done(wanted(by, both, name, kind="partial", parts=["shop"])).state == RecoveryState.COMPLETED


def test_a_second_recovery_to_the_same_name_waits(backup: Backup, name: str, by: Actor) -> None:
    wanted(by, backup, name)

    with pytest.raises(Refused) as refusal:
        wanted(by, backup, name)

    assert refusal.value.code == "target-busy"


def test_it_is_cancelled_and_leaves_nothing(
    server: PostgreSQLServer, backup: Backup, name: str, home: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = wanted(by, backup, name)
    restore = databases.DatabaseRun.restore

    def then_cancel(run: databases.DatabaseRun) -> None:
        restore(run)
        recoveries.cancel(recoveries.get(recovery.pk), by=by)
        run.lease._cancel_requested = True  # what the next heartbeat finds out

    monkeypatch.setattr(databases.DatabaseRun, "restore", then_cancel)

    found = done(recovery)

    assert found.state == RecoveryState.CANCELLED
    assert name not in known(server)
    assert left(server, home) == []


def test_a_step_that_nobody_wrote_down_is_found_again(
    server: PostgreSQLServer, backup: Backup, name: str, home: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = wanted(by, backup, name)

    def lost(_: databases.DatabaseRun) -> None:
        raise Failure("The database of the console was away.", permanent=False)

    monkeypatch.setattr(databases.DatabaseRun, "close", lost)

    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert name in known(server)
    assert left(server, home) == []


def test_killed_runners_leave_nothing_and_the_next_attempt_succeeds(
    server: PostgreSQLServer, live: str, backup: Backup, home: Path, by: Actor, started: list[processes.Child],
    impatient: object,
) -> None:  # fmt: skip
    random, hit, before, begun = Random(7), 0, counts(server, live), time.monotonic()
    names = [server.new_name() for _ in range(5)]
    assert done(wanted(by, backup, names[0])).state == RecoveryState.COMPLETED
    usual = time.monotonic() - begun
    for name in names[1:]:
        recovery = wanted(by, backup, name)
        killer = later(random.uniform(0.0, usual), partial(kill_one_of, started, len(started), random))

        found = done(recovery)
        put_off(killer)
        if found.state == RecoveryState.QUEUED:
            hit += 1
            assert name not in known(server)
            hurry()
            found = done(recovery)

        assert found.state == RecoveryState.COMPLETED, found.error
        assert counts(server, name) == before
        assert left(server, home) == []
    assert hit, "every kill came too late to prove anything"
    for name in names:
        server.drop(name)


def test_a_killed_worker_leaves_a_working_database_that_the_next_attempt_drops(
    server: PostgreSQLServer, live: str, backup: Backup, name: str, home: Path, by: Actor, elsewhere: dict[str, str],
    impatient: object,
) -> None:  # fmt: skip
    recovery = wanted(by, backup, name)
    assert recovery.job is not None
    code = f"import django; django.setup()\nfrom aihub_backup.core import jobs\njobs.run('{recovery.job.pk}')"
    worker = subprocess.Popen([sys.executable, "-c", code], env=elsewhere, process_group=0)
    while not {one for one in known(server) if one.startswith("aihub_")}:
        assert worker.poll() is None
    kill([worker.pid])
    worker.wait()

    jobs.watchdog()
    assert recoveries.get(recovery.pk).state == RecoveryState.QUEUED
    hurry()
    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert counts(server, name) == counts(server, live)
    assert left(server, home) == []
