"""A dump comes back into a new database that equals the old one, or nothing of it stays."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backups.engine.errors import Cancelled, SourceError, TargetError
from backups.kinds import STRATEGIES
from backups.strategies.postgresql import PostgreSQL, restoring
from tests.servers.postgresql import PASSWORD, PostgreSQLServer, started
from tests.strategies.databases import ROWS, SHOP, Kept, brought_back, failed, kept, source


@pytest.fixture
def server() -> PostgreSQLServer:
    return started(18)


@pytest.fixture
def database(server: PostgreSQLServer) -> Iterator[str]:
    name = server.database(SHOP)
    yield name
    server.drop(name)


@pytest.fixture
def strategy(server: PostgreSQLServer, database: str, tmp_path: Path) -> PostgreSQL:
    return source(server, database, tmp_path / "work")


@pytest.fixture
def back(strategy: PostgreSQL, tmp_path: Path) -> Kept:
    return kept(strategy, tmp_path / "back")


@pytest.fixture
def name(server: PostgreSQLServer) -> Iterator[str]:
    """Of a new database; gone afterwards."""
    name = server.new_name()
    yield name
    if name in databases(server):
        server.drop(name)


def databases(server: PostgreSQLServer) -> set[str]:
    return {row[0] for row in server.rows("SELECT datname FROM pg_database")}


def roles(server: PostgreSQLServer) -> set[str]:
    return {row[0] for row in server.rows("SELECT rolname FROM pg_roles")}


@pytest.mark.parametrize(("version", "needed"), [("16.4", 16), ("18beta2", 18), ("17devel", 17), ("15", 16)])
def test_it_knows_the_oldest_server_for_a_dump_of_any_build(version: str, needed: int) -> None:
    assert restoring._oldest({"server_version": 160004, "tools": {"pg_dump": version}}) == needed


def test_it_brings_every_row_back(
    server: PostgreSQLServer, database: str, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    query = "SELECT * FROM shop.customers ORDER BY id"

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {}
    assert f"5 tables hold the {ROWS} rows" in findings[0]["detail"]
    assert server.rows(query, name) == server.rows(query, database)
    assert server.rows("SELECT nextval('shop.orders_id_seq')", name) == [(5002,)]
    assert not {one for one in databases(server) if one.startswith("aihub_")}


def test_it_brings_back_what_a_dump_leaves_out(
    server: PostgreSQLServer, database: str, tmp_path: Path, name: str
) -> None:
    role = server.role()
    server.run(
        f"""ALTER DATABASE {database} SET search_path TO shop, "odd, name", public;
        ALTER DATABASE {database} SET work_mem TO '7MB';
        ALTER DATABASE {database} SET default_transaction_read_only TO on;
        ALTER ROLE {role} IN DATABASE {database} SET statement_timeout TO '5s';
        ALTER DATABASE {database} CONNECTION LIMIT 17;
        COMMENT ON DATABASE {database} IS 'the shop''s';
        REVOKE ALL ON DATABASE {database} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {database} TO {role} WITH GRANT OPTION"""
    )
    strategy = source(server, database, tmp_path / "work")
    back = kept(strategy, tmp_path / "back")

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {}
    assert findings[-1]["detail"] == "Its own settings are as they were."
    facts = "SELECT datconnlimit, datacl, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{}'"
    settings = """SELECT setrole, unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
                  WHERE datname = '{}' ORDER BY 1, 2"""
    for query in (facts, settings):
        assert server.rows(query.format(name)) == server.rows(query.format(database))


def test_it_says_that_rows_were_lost(server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str) -> None:
    counts = back.directory / "~counts.json"
    counts.write_text(counts.read_text().replace('"rows": 500,', '"rows": 501,').replace('"others"', '"x"'))

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {"tables": '"shop"."customers" had 501 rows and has 500.'}
    assert name not in databases(server)


def test_it_says_that_values_differ(server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str) -> None:
    counts = back.directory / "~counts.json"
    counts.write_text(counts.read_text().replace('"sum": "', '"sum": "1'))

    findings = brought_back(strategy, name, back)

    assert "other values in them" in failed(findings)["tables"]
    assert name not in databases(server)


def test_it_comes_back_into_a_newer_server(tmp_path: Path, server: PostgreSQLServer, name: str) -> None:
    old = started(16)
    database = old.database(SHOP)
    back = kept(source(old, database, tmp_path / "work"), tmp_path / "back")
    old.drop(database)

    findings = brought_back(source(server, "postgres", tmp_path / "work2"), name, back)

    assert failed(findings) == {}
    assert server.rows("SELECT count(*) FROM shop.orders", name) == [(5001,)]


def test_it_says_which_subscriptions_it_leaves_out(
    server: PostgreSQLServer, database: str, tmp_path: Path, name: str
) -> None:
    words = "CONNECTION 'dbname=elsewhere' PUBLICATION news WITH (connect = false, enabled = false, slot_name = NONE)"
    server.run(f"CREATE SUBSCRIPTION {database}_news {words}", database)
    strategy = source(server, database, tmp_path / "work")

    findings = brought_back(strategy, name, kept(strategy, tmp_path / "back"))

    server.run(f"DROP SUBSCRIPTION {database}_news", database)
    told = next(finding["detail"] for finding in findings if finding["check"] == "database")
    assert f"Subscriptions are left out: {database}_news." in told
    assert server.rows("SELECT count(*) FROM pg_subscription") == [(0,)]


def test_large_objects_come_back(server: PostgreSQLServer, database: str, tmp_path: Path, name: str) -> None:
    server.run("SELECT lo_from_bytea(4711, 'a large object')", database)
    strategy = source(server, database, tmp_path / "work")
    back = kept(strategy, tmp_path / "back")

    brought_back(strategy, name, back)

    assert server.rows("SELECT convert_from(lo_get(4711), 'UTF8')", name) == [("a large object",)]


def test_it_says_that_large_objects_were_lost(
    server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    counts = back.directory / "~counts.json"
    counts.write_text(counts.read_text().replace('"large_objects": 0', '"large_objects": 2'))

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {"large objects": "There were 2 large objects and there are 0."}
    assert name not in databases(server)


def test_an_owner_without_privileges_brings_its_own_back(server: PostgreSQLServer, tmp_path: Path, name: str) -> None:
    role, database = server.role("LOGIN CREATEDB"), server.new_name()
    server.run(f"CREATE DATABASE {database} OWNER {role}")
    with server.connect(database, user=role) as connection:
        for statement in SHOP.split(";\n"):
            connection.execute(statement.encode())
    strategy = source(server, database, tmp_path / "work", user=role)
    back = kept(strategy, tmp_path / "back")

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {}
    assert server.rows("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'shop'", name) == [(role,)]
    server.drop(database)


def test_who_may_not_own_what_was_anothers_gets_a_sentence(
    server: PostgreSQLServer, back: Kept, tmp_path: Path, name: str
) -> None:
    strategy = source(server, "postgres", tmp_path / "work2", user=server.role("LOGIN CREATEDB"))
    before = databases(server)

    with pytest.raises(
        TargetError, match=r"broke off: pg_restore: error: .*postgres.* name a superuser in restore_user"
    ):
        brought_back(strategy, name, back)

    assert databases(server) == before


def test_a_reader_backs_up_and_another_brings_back(
    server: PostgreSQLServer, database: str, tmp_path: Path, name: str
) -> None:
    owner, reader = server.role("NOLOGIN"), server.role()
    server.run(f"GRANT pg_read_all_data TO {reader}", database)
    server.run(f"ALTER TABLE shop.orders OWNER TO {owner}", database)
    usual = server.options(database)
    options = {"user": reader, "restore_user": usual["user"], "restore_password": usual["password"]}
    strategy = source(server, database, tmp_path / "work", **options, include_globals=False)

    findings = brought_back(strategy, name, kept(strategy, tmp_path / "back"))

    assert failed(findings) == {}
    assert server.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'", name) == [(owner,)]


def test_who_brings_back_is_tried_out_with_the_source_and_not_before_a_backup(
    server: PostgreSQLServer, database: str, tmp_path: Path
) -> None:
    usual, powerless = server.options(database), server.role()
    strategy = source(server, database, tmp_path / "work", restore_user=powerless, restore_password=usual["password"])

    with pytest.raises(SourceError, match=f"Nothing could be brought back as “{powerless}”. .* ALTER ROLE"):
        strategy.check_way_back()

    strategy.check()
    assert kept(strategy, tmp_path / "back").directory.exists()


def test_the_user_for_recoveries_can_be_taken_away_again(server: PostgreSQLServer, database: str) -> None:
    given = {**server.options(database), "restore_user": "", "restore_password": "of the one before"}

    options = STRATEGIES.options("postgresql", given)

    assert options.recovering() == options


def test_keys_to_tables_that_were_not_chosen_are_left_out_and_told(
    server: PostgreSQLServer, database: str, tmp_path: Path, name: str
) -> None:
    strategy = source(server, database, tmp_path / "work", tables=["shop.orders"])
    back = kept(strategy, tmp_path / "back")

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {}
    assert 'left out: orders_customer_fkey of "shop"."orders".' in findings[-1]["detail"]
    assert server.rows("SELECT count(*) FROM shop.orders", name) == [(5001,)]
    assert server.rows(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'shop.orders'::regclass AND contype IN ('f', 'p')", name
    ) == [("orders_pkey",)]


# roles


def test_it_makes_the_roles_that_are_missing(
    server: PostgreSQLServer, database: str, tmp_path: Path, name: str
) -> None:
    role = server.role()
    server.run(f"ALTER TABLE shop.orders OWNER TO {role}", database)
    strategy = source(server, database, tmp_path / "work")
    back = kept(strategy, tmp_path / "back")
    server.run(f"REASSIGN OWNED BY {role} TO postgres;\nDROP OWNED BY {role}", database)
    server.run(f"DROP ROLE {role}")

    with pytest.raises(TargetError, match=rf"lacks the roles {role}\. Make them"):
        brought_back(strategy, name, back)
    findings = brought_back(strategy, name, back, make_roles=True)

    assert f"may not sign in: {role}." in findings[-1]["detail"]
    assert server.rows(f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'") == [(False,)]
    assert server.rows("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'", name) == [(role,)]


# what is refused


def test_it_never_touches_a_database_that_is_there(
    server: PostgreSQLServer, database: str, strategy: PostgreSQL, back: Kept
) -> None:
    with pytest.raises(TargetError, match=f"There is a database “{database}” already"):
        brought_back(strategy, database, back)

    assert server.rows("SELECT count(*) FROM shop.orders", database) == [(5001,)]


@pytest.mark.parametrize("wrong", ["", "-d", "host=evil", "x" * 64])
def test_it_refuses_names_that_could_mean_something_else(strategy: PostgreSQL, back: Kept, wrong: str) -> None:
    with pytest.raises(TargetError, match="cannot be called that"):
        brought_back(strategy, wrong, back)


def test_it_names_the_extensions_that_are_missing(
    server: PostgreSQLServer, database: str, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    facts = {**back.facts, "extensions": {"plpgsql": "1.0", "postgis": "3.4"}}

    with pytest.raises(TargetError, match=r"lacks the extensions postgis 3\.4\. Install"):
        brought_back(strategy, name, back, facts=facts)


def test_it_refuses_an_older_server(back: Kept, tmp_path: Path, name: str) -> None:
    old = started(16)
    strategy = source(old, "postgres", tmp_path / "work16", bin_dir=started(18).bin_dir)

    with pytest.raises(TargetError, match="is 16; the dump comes back only into 18 or newer"):
        brought_back(strategy, name, back)

    assert name not in databases(old)


def test_it_refuses_who_may_not_make_databases(server: PostgreSQLServer, back: Kept, tmp_path: Path, name: str) -> None:
    strategy = source(server, "postgres", tmp_path / "work2", user=server.role(), password=PASSWORD)

    with pytest.raises(TargetError, match=r"may not make databases\. ALTER ROLE .* CREATEDB"):
        brought_back(strategy, name, back)


# nothing half done


def test_a_dump_that_was_cut_off_leaves_no_database(
    server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    path = back.directory / str(back.facts["dump"])
    os.truncate(path, path.stat().st_size - 20_000)
    before = databases(server)

    with pytest.raises(TargetError, match="broke off: "):
        brought_back(strategy, name, back)

    assert databases(server) == before


def test_a_restore_that_is_cancelled_leaves_no_database(
    server: PostgreSQLServer, database: str, tmp_path: Path, name: str
) -> None:
    server.run("CREATE TABLE heavy AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 200000) n", database)
    strategy = source(server, database, tmp_path / "work")
    back, before = kept(strategy, tmp_path / "back"), databases(server)

    def tick() -> None:
        raise Cancelled("no")

    with pytest.raises(Cancelled):
        brought_back(strategy, name, back, tick=tick)

    assert databases(server) == before


def test_a_database_that_the_server_still_makes_for_a_killed_builder_goes_too(
    server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    working, making = f"aihub_{name}", f"SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%{name}%'"
    builder = multiprocessing.get_context("fork").Process(
        target=strategy.build, args=(working, str(back.directory), back.facts), kwargs={"make_roles": False}
    )
    sweeper = threading.Thread(target=strategy.discard, args=(working,))
    with server.connect(autocommit=False) as jam:
        jam.execute("COMMENT ON DATABASE template0 IS 'nobody copies it now'")
        builder.start()
        assert becomes(lambda: bool(server.rows(f"{making} AND wait_event_type = 'Lock'")))
        builder.kill()
        builder.join()

        sweeper.start()
        sweeper.join(0.3)
        jam.rollback()
        sweeper.join()

    assert becomes(lambda: not server.rows(making))
    assert working not in databases(server)


def becomes(true: Callable[[], bool]) -> bool:
    """Within half a minute."""
    deadline = time.monotonic() + 30
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_a_name_that_was_taken_meanwhile_stays_with_its_owner(
    server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    known_as, _ = strategy.build(f"aihub_{name}", str(back.directory), back.facts, make_roles=False)
    server.run(f"CREATE DATABASE {name}")

    with pytest.raises(TargetError, match=r"already at .*; choose another name"):
        strategy.rename(f"aihub_{name}", name)

    assert strategy.name_of(known_as) == f"aihub_{name}"
    strategy.discard(f"aihub_{name}")
    assert strategy.name_of(known_as) == ""


def test_it_has_its_name_only_when_all_is_there(
    server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    seen: list[set[str]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if name in databases(server):
                seen.append({str(row[0]) for row in server.rows("SELECT count(*) FROM shop.orders", name)})
                return
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    brought_back(strategy, name, back)
    watcher.join(10)
    stop.set()

    assert seen == [{"5001"}]


def test_what_a_killed_attempt_left_is_taken_away(
    server: PostgreSQLServer, strategy: PostgreSQL, back: Kept, name: str
) -> None:
    working = f"aihub_{name}"
    server.run(f"CREATE DATABASE {working}")

    findings = brought_back(strategy, name, back)

    assert failed(findings) == {}
    assert working not in databases(server)
