"""A PostgreSQL database in use is dumped in one moment; what would make the dump a lie is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aihub_backup.core import redaction
from aihub_backup.core.options import OptionsError
from backups.engine.errors import SourceError, SourceUnavailable
from backups.kinds import STRATEGIES
from backups.strategies.postgresql import PostgreSQL, contents
from backups.strategies.postgresql.client import Desk
from backups.strategies.postgresql.connection import Connection, connect
from backups.strategies.postgresql.options import Table
from tests.engine import trees
from tests.engine.scenery import new_repository
from tests.servers.postgresql import PASSWORD, PostgreSQLServer, started
from tests.strategies.databases import ROWS, SHOP, brought_back, failed, kept, source


@pytest.fixture
def server() -> PostgreSQLServer:
    return started(18)


@pytest.fixture
def database(server: PostgreSQLServer) -> Iterator[str]:
    name = server.database(SHOP)
    yield name
    server.drop(name)


@contextmanager
def writing(server: PostgreSQLServer, database: str) -> Iterator[list[int]]:
    """Somebody who adds two rows at a time; the list counts."""
    stop, counts = threading.Event(), [0]

    def run() -> None:
        with server.connect(database, autocommit=False) as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO shop.orders (customer, note) VALUES (1, 'a'), (2, 'b')")
                connection.commit()
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


# what is captured


def test_it_keeps_the_dump_the_roles_and_the_counts(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    strategy = source(server, database, tmp_path / "work")

    back = kept(strategy, tmp_path / "back")

    assert sorted(os.listdir(back.directory)) == sorted(["globals.sql", f"{database}.dump", "~counts.json"])
    assert back.reported == []
    assert back.counts["shop.orders"] == 5001
    assert back.counts["public.nothing"] == 0
    assert "public.events" not in back.counts  # its partitions hold the rows
    assert back.facts["rows"] == ROWS
    assert back.facts["tools"] == {"pg_dump": "18.4"}
    assert back.facts["server_version"] // 10000 == 18
    assert back.facts["consistency"] == "application"
    assert (back.facts["settings_of"]["encoding"], back.facts["roles"]) == ("UTF8", [])
    assert failed(strategy.validate(str(back.directory), back.facts)) == {}


def test_it_shows_one_moment_while_others_write(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    strategy = source(server, database, tmp_path / "work")

    with writing(server, database) as counts:
        back = kept(strategy, tmp_path / "back")

    assert (back.counts["shop.orders"] - 5001) % 2 == 0
    assert back.counts["shop.orders"] <= 5001 + 2 * counts[0]
    assert failed(brought_back(strategy, f"{database}_b", back)) == {}
    server.drop(f"{database}_b")


@pytest.mark.parametrize(
    ("chosen", "tables"),
    [
        ({"schemas": ["shop"]}, {"shop.customers", "shop.orders"}),
        ({"schemas": ["public"]}, {"public.Odd name", "public.events_2026", "public.nothing"}),
        ({"exclude_schemas": ["shop"]}, {"public.Odd name", "public.events_2026", "public.nothing"}),
        ({"tables": ["shop.customers", 'public."Odd name"']}, {"shop.customers", "public.Odd name"}),
        ({"schemas": ["shop"], "exclude_tables": ["shop.orders"]}, {"shop.customers"}),
    ],
)
def test_it_takes_only_what_was_chosen(
    server: PostgreSQLServer, database: str, tmp_path: Path, chosen: dict[str, Any], tables: set[str]
) -> None:
    server.run("DROP MATERIALIZED VIEW shop.stale", database)
    strategy = source(server, database, tmp_path / "work", **chosen)

    back = kept(strategy, tmp_path / "back")

    assert set(back.counts) == tables
    assert failed(strategy.validate(str(back.directory), back.facts)) == {}
    assert failed(brought_back(strategy, f"{database}_b", back)) == {}
    server.drop(f"{database}_b")


def test_it_stores_almost_nothing_of_a_database_that_did_not_change(
    server: PostgreSQLServer, database: str, tmp_path: Path
) -> None:
    server.run("CREATE TABLE heavy AS SELECT n, md5(n::text) FROM generate_series(1, 100000) n", database)
    repository = new_repository()
    kept(source(server, database, tmp_path / "work"), tmp_path / "one", repository=repository)
    before = sum(info.size for info in repository.store.list("packs/"))

    kept(source(server, database, tmp_path / "work2"), tmp_path / "two", repository=repository)

    assert sum(info.size for info in repository.store.list("packs/")) - before < before / 3


def test_it_says_what_no_dump_holds_yet(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    with server.connect(database, autocommit=False) as other:
        other.execute("INSERT INTO shop.customers (name) VALUES ('prepared')")
        other.execute(f"PREPARE TRANSACTION '{database}'".encode())

        back = kept(source(server, database, tmp_path / "work"), tmp_path / "back")

    server.run(f"ROLLBACK PREPARED '{database}'", database)
    assert ["1 prepared transactions wait" in item.message for item in back.reported] == [True]
    assert back.counts["shop.customers"] == 500


def test_it_keeps_the_roles_without_their_passwords(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    role = server.role()
    server.run(f"GRANT SELECT ON shop.orders TO {role}", database)

    back = kept(source(server, database, tmp_path / "work"), tmp_path / "back")

    told = (back.directory / "globals.sql").read_text()
    assert f"CREATE ROLE {role};" in told
    assert "SCRAM" not in told
    assert back.facts["roles"] == [role]


# whom it asks


def test_it_takes_the_programs_of_the_servers_version(tmp_path: Path) -> None:
    old, new = started(16), started(18)
    database = old.database(SHOP)

    back = kept(source(old, database, tmp_path / "work", bin_dir=new.bin_dir), tmp_path / "back")

    assert back.facts["tools"] == {"pg_dump": "18.4"}
    assert ["comes back only into servers 18 or newer" in item.message for item in back.reported] == [True]
    assert failed(PostgreSQL.validate(str(back.directory), back.facts)) == {}


def test_it_refuses_programs_older_than_the_server(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    strategy = source(server, database, tmp_path / "work", bin_dir=started(16).bin_dir)

    with pytest.raises(
        SourceError, match=r"newest pg_dump in .* is 16, and the server is 18\. Install postgresql-client-18"
    ):
        strategy.check()


def test_it_says_that_there_are_no_programs(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no pg_dump in .*Install postgresql-client-18"):
        source(server, database, tmp_path / "work", bin_dir=str(tmp_path)).check()


@pytest.mark.parametrize("linked", [False, True])
def test_no_program_is_started_from_where_anybody_may_write(
    server: PostgreSQLServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    monkeypatch.setenv("AIHUB_TOOL_DIRS", str(tmp_path / "allowed"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "elsewhere")
    place = tmp_path / "allowed" / "link" if linked else tmp_path / "elsewhere"

    with pytest.raises(OptionsError, match="AIHUB_TOOL_DIRS"):
        source(server, database, tmp_path / "work", bin_dir=str(place))


def test_nothing_of_our_own_environment_counts(
    server: PostgreSQLServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"PGOPTIONS": "--no-such", "PGSERVICE": "x", "PGUSER": "x", "PGPASSWORD": "x", "PGSSLMODE": "require"}
    strategy = source(server, database, tmp_path / "work")

    with monkeypatch.context() as patched:
        for name, value in wrong.items():
            patched.setenv(name, value)
        entries = list(paths(strategy))
        left = {name: os.environ.get(name) for name in wrong}

    assert len(entries) == 4
    assert left == wrong


# secrets


def test_nobody_learns_the_password(
    server: PostgreSQLServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redaction.remember([PASSWORD])
    strategy = source(server, database, tmp_path / "work")
    strategy.check()
    opened: list[Any] = []
    entry = strategy._dump(opened)
    assert callable(entry.source)

    with entry.source() as stream:
        stream.read(1)
        child = opened[0]._child
        seen = [Path(f"/proc/{child.pid}/{what}").read_bytes() for what in ("cmdline", "environ")]
        stream.read()

    assert [PASSWORD.encode() in text for text in seen] == [False, False]
    assert b"PGPASSFILE=" in seen[1]
    assert (tmp_path / "work" / "pgpass").stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in json.dumps(strategy.facts())
    assert PASSWORD not in repr(strategy.options)


def test_it_says_that_the_password_is_wrong(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    strategy = source(server, database, tmp_path / "work", password="another-secret-word")

    with pytest.raises(
        SourceError, match=r"does not let us in: password authentication failed.*Check the database"
    ) as caught:
        strategy.check()

    assert caught.value.permanent
    assert "another-secret-word" not in str(caught.value)


def test_a_server_that_does_not_answer_is_asked_again_later(
    server: PostgreSQLServer, database: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceUnavailable, match="does not answer"):
        source(server, database, tmp_path / "work", port=1).check()


def test_it_never_does_without_tls_that_was_asked_for(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"does not support SSL.*Check host, port and TLS"):
        source(server, database, tmp_path / "work", sslmode="require").check()


# what we may not read


def reader(server: PostgreSQLServer, database: str, grants: str = "") -> dict[str, str]:
    """Options of somebody who may sign in, and to whom this was granted."""
    role = server.role()
    server.run(grants.format(role=role), database)
    return {"user": role, "password": PASSWORD}


def test_it_names_the_tables_it_may_not_read(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    who = reader(server, database, "GRANT USAGE ON SCHEMA shop TO {role};\nGRANT SELECT ON shop.orders TO {role}")

    with pytest.raises(SourceError, match=r'may not read .*"shop"\."customers".* GRANT SELECT ON'):
        source(server, database, tmp_path / "work", **who).check()


def test_it_names_the_schemas_it_may_not_look_into(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"may not look into the schemas shop\. GRANT USAGE ON SCHEMA"):
        source(server, database, tmp_path / "work", **reader(server, database)).check()


def test_it_reads_with_no_more_than_the_right_to_read(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    who = reader(server, database, "GRANT pg_read_all_data TO {role}")

    back = kept(source(server, database, tmp_path / "work", **who), tmp_path / "back")

    assert sum(back.counts.values()) == ROWS
    assert (back.directory / "globals.sql").exists()


def test_it_refuses_rows_that_a_policy_would_hide(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    server.run("ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY", database)
    who = reader(server, database, "GRANT pg_read_all_data TO {role}")

    with pytest.raises(SourceError, match=r'would hide rows of "shop"\."orders" from .* BYPASSRLS'):
        source(server, database, tmp_path / "work", **who).check()


def test_it_refuses_large_objects_it_may_not_read(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    server.run("SELECT lo_from_bytea(0, 'abc')", database)
    who = reader(server, database, "GRANT pg_read_all_data TO {role}")

    with pytest.raises(SourceError, match=r"may not read 1 large objects\. Take a superuser"):
        source(server, database, tmp_path / "work", **who).check()
    source(server, database, tmp_path / "work", schemas=["shop"], **who).check()


@pytest.mark.parametrize("chosen", [{"schemas": ["moon"]}, {"tables": ["shop.moon"]}])
def test_it_names_what_was_chosen_and_is_not_there(
    server: PostgreSQLServer, database: str, tmp_path: Path, chosen: dict[str, list[str]]
) -> None:
    with pytest.raises(SourceError, match=r"moon.* does not exist in"):
        source(server, database, tmp_path / "work", **chosen).check()


# what breaks off


@pytest.mark.parametrize("end", ["pg_dump", "connection"])
def test_a_dump_that_breaks_off_leaves_no_snapshot(
    server: PostgreSQLServer, database: str, tmp_path: Path, end: str
) -> None:
    server.run("CREATE TABLE heavy AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 60000) n", database)
    strategy, repository = source(server, database, tmp_path / "work"), new_repository()
    killer = threading.Thread(target=_kill_dump, args=(server, database, end))
    killer.start()

    with pytest.raises(SourceUnavailable, match=r"broke off: .*Nothing of it was kept"):
        kept(strategy, tmp_path / "back", repository=repository)

    killer.join()
    assert repository.snapshots == []
    assert _children("pg_dump") == []


def _kill_dump(server: PostgreSQLServer, database: str, end: str) -> None:
    """As soon as it is reading the table."""
    with server.connect() as connection:
        query = b"SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY%%heavy%%'"
        deadline = time.monotonic() + 20
        while not (row := connection.execute(query, (database,)).fetchone()) and time.monotonic() < deadline:
            time.sleep(0.001)
        if end == "connection":
            connection.execute("SELECT pg_terminate_backend(%s)", row)
        for pid in _children("pg_dump") if end == "pg_dump" else ():
            os.kill(pid, signal.SIGKILL)


def _children(name: str) -> list[int]:
    """Processes below us that run this program."""
    told = subprocess.run(["ps", "-eo", "pid,ppid,comm"], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in told.splitlines()[1:]]
    return [int(pid) for pid, parent, program in rows if program == name and int(parent) == os.getpid()]


def test_it_gives_up_on_a_table_that_stays_locked(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    with server.connect(database, autocommit=False) as other:
        other.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(SourceUnavailable, match=r"was locked for 1 seconds: .*raise the patience"):
            kept(source(server, database, tmp_path / "work", lock_timeout_seconds=1), tmp_path / "back")


def test_it_gives_up_at_its_deadline(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    with server.connect(database, autocommit=False) as other:
        other.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()

        with pytest.raises(SourceUnavailable, match=r"took longer than 1 seconds\. Raise the deadline"):
            kept(source(server, database, tmp_path / "work", deadline_seconds=1), tmp_path / "back")

    assert time.monotonic() - began < 20


def test_a_capture_that_is_given_up_leaves_nobody_behind(
    server: PostgreSQLServer, database: str, tmp_path: Path
) -> None:
    strategy = source(server, database, tmp_path / "work")
    strategy.check()
    opened: list[Any] = []
    entry = strategy._dump(opened)
    assert callable(entry.source)

    with suppress(KeyError), entry.source():
        raise KeyError

    assert _children("pg_dump") == []
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'aihub%%' AND datname = %s"
    assert _soon(lambda: _one(server, left, database) == 0)


def test_a_server_ends_what_it_does_for_somebody_who_is_gone(
    server: PostgreSQLServer, database: str, tmp_path: Path
) -> None:
    strategy, sleeping = source(server, database, tmp_path / "work"), "query = 'SELECT pg_sleep(250)'"
    connection = connect(strategy.options, Desk(strategy.options, tmp_path / "work"))
    query = threading.Thread(target=_asked, args=(connection, "SELECT pg_sleep(250)"))
    query.start()
    asleep = f"SELECT count(*) FROM pg_stat_activity WHERE {sleeping}"
    assert _soon(lambda: _one(server, asleep) == 1)

    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)

    query.join()
    assert any(_soon(lambda: _one(server, asleep) == 0) for _ in range(3))


def _asked(connection: Connection, query: str) -> None:
    with suppress(psycopg.OperationalError):
        connection.execute(query.encode())


def _one(server: PostgreSQLServer, query: str, *values: object, database: str = "postgres") -> int:
    with server.connect(database) as connection:
        row = connection.execute(query.encode(), values).fetchone()
        assert row is not None
        return int(row[0])


def _soon(true: Callable[[], bool]) -> bool:
    for _ in range(200):
        if true():
            return True
        time.sleep(0.05)
    return False


HEAVY = "CREATE TABLE heavy AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 60000) n"
HELD = "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = 'shop.orders'::regclass AND granted = %s"


def test_whoever_waits_to_change_a_table_has_no_turn_between_the_dump_and_the_counting(
    server: PostgreSQLServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, tried, count = source(server, database, tmp_path / "work"), threading.Event(), contents.count

    def late(connection: Connection, table: Table) -> contents.TableCount:
        assert tried.wait(30)
        return count(connection, table)

    monkeypatch.setattr(contents, "count", late)
    other = threading.Thread(target=_empty_it, args=(server, database, 2, tried))
    other.start()

    back = kept(strategy, tmp_path / "back")

    other.join()
    assert back.counts["shop.orders"] == 5001
    assert failed(brought_back(strategy, f"{database}_b", back)) == {}
    server.drop(f"{database}_b")


def test_it_gives_way_to_whoever_waits_already_to_change_a_table(
    server: PostgreSQLServer, database: str, tmp_path: Path
) -> None:
    strategy, tried = source(server, database, tmp_path / "work"), threading.Event()
    server.run(HEAVY, database)
    strategy.check()
    entry = strategy._dump([])
    assert callable(entry.source)
    other = threading.Thread(target=_empty_it, args=(server, database, 1, tried, "1min"))

    stream = entry.source()
    other.start()
    assert _soon(lambda: _one(server, HELD, False, database=database) == 1)
    with pytest.raises(SourceUnavailable, match=r"Somebody waits to change a table .*lock on relation") as caught:
        stream.read()
    stream.close()

    other.join()
    assert not caught.value.permanent
    assert server.rows("SELECT count(*) FROM shop.orders", database) == [(0,)]


def _empty_it(server: PostgreSQLServer, database: str, held: int, tried: threading.Event, patience: str = "2s") -> None:
    """When so many read the table; not for longer than the patience."""
    _soon(lambda: _one(server, HELD, True, database=database) >= held)
    with suppress(psycopg.errors.LockNotAvailable), server.connect(database) as connection:
        connection.execute(f"SET lock_timeout = '{patience}'".encode())
        connection.execute("TRUNCATE shop.orders")
    tried.set()


# judging


def test_a_dump_that_was_cut_off_does_not_pass(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    back = kept(source(server, database, tmp_path / "work"), tmp_path / "back")
    path = back.directory / f"{database}.dump"
    os.truncate(path, path.stat().st_size - 20_000)

    found = failed(PostgreSQL.validate(str(back.directory), back.facts))

    assert found["dump"].startswith("pg_restore cannot read the dump:")


def test_a_dump_without_a_table_does_not_pass(server: PostgreSQLServer, database: str, tmp_path: Path) -> None:
    back = kept(source(server, database, tmp_path / "work"), tmp_path / "back")
    counts = back.directory / "~counts.json"
    counts.write_text(counts.read_text().replace('"orders"', '"others"'))

    found = failed(PostgreSQL.validate(str(back.directory), back.facts))

    assert found == {"contents": "1 of the 5 tables that were counted are not in the dump: shop others …"}


def test_a_host_without_programs_says_that_it_did_not_look(
    server: PostgreSQLServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = kept(source(server, database, tmp_path / "work"), tmp_path / "back")
    elsewhere = {**back.facts, "tools": {"pg_dump": "99.1"}}

    found = PostgreSQL.validate(str(back.directory), elsewhere)

    assert failed(found) == {}
    assert "nothing looked into the dump" in found[0]["detail"]


# options


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("database", "postgresql://h/d", "looks like connection settings"),
        ("database", "-d", "looks like an option"),
        ("database", "x" * 64, "at most 63 bytes"),
        ("user", "host=evil", "looks like connection settings"),
        ("host", "one,two", "neither one host's name"),
        ("host", "-h", "neither one host's name"),
        ("tables", ["a.b.c"], "is not written as schema.table"),
        ("exclude_tables", ["a.b=c"], "looks like connection settings"),
        ("sslrootcert", "ca.pem", "is not an absolute path"),
    ],
)
def test_it_refuses_names_that_could_mean_something_else(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(OptionsError) as caught:
        STRATEGIES.options("postgresql", {"host": "h", "database": "d", "user": "u", field: value})

    assert list(caught.value.errors) == [field]
    assert sentence in caught.value.errors[field]


def test_a_name_is_no_path(server: PostgreSQLServer, tmp_path: Path) -> None:
    name = f"~a/b {server.new_name()}"
    with server.connect() as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    strategy = source(server, name, tmp_path / "work")
    entries = list(paths(strategy))

    server.drop(name)
    assert entries[1].startswith(b"%7Ea%2Fb t_")
    assert entries[-1] == b"~counts.json"


def paths(strategy: PostgreSQL) -> Iterator[bytes]:
    """Paths, with the streams read."""
    for entry in strategy.capture(trees.fail):
        if callable(entry.source):
            with entry.source() as stream:
                stream.read()
        yield entry.path
