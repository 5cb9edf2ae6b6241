"""Databases of a real server on their way into a repository in memory, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from backups import engine
from backups.engine.entry import ItemError
from backups.kinds import STRATEGIES
from backups.strategies.base import Finding
from backups.strategies.postgresql import PostgreSQL
from tests.engine import trees
from tests.engine.scenery import FORKED, new_repository
from tests.servers.postgresql import PostgreSQLServer

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id bigserial PRIMARY KEY, name text NOT NULL, price float8, born timestamptz);
INSERT INTO shop.customers (name, price, born)
    SELECT 'customer ' || n, n / 7.0, '2001-02-03 04:05:06.789+05'::timestamptz + n * interval '1 hour'
    FROM generate_series(1, 500) n;
CREATE TABLE shop.orders (id serial PRIMARY KEY, customer bigint REFERENCES shop.customers, note text, raw bytea);
INSERT INTO shop.orders (customer, note, raw) SELECT 1 + n % 500, repeat('note ', n % 50), int8send(n)
    FROM generate_series(1, 5000) n;
CREATE TABLE "Odd name" ("t" int, "x y" money);
INSERT INTO "Odd name" VALUES (1, 5), (1, 5), (NULL, NULL);
CREATE TABLE events (at date, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO events SELECT '2026-01-01'::date + n, 'event' FROM generate_series(1, 100) n;
CREATE TABLE nothing ();
CREATE VIEW shop.big AS SELECT * FROM shop.customers WHERE price > 10;
CREATE MATERIALIZED VIEW shop.stale AS SELECT count(*) FROM shop.orders;
INSERT INTO shop.orders (customer) VALUES (1)
"""
ROWS = 500 + 5001 + 3 + 100


class Kept(NamedTuple):
    """What a recovery point holds, restored into a directory."""

    directory: Path
    facts: dict[str, Any]
    reported: list[ItemError]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by table."""
        told = json.loads((self.directory / "~counts.json").read_bytes())
        return {f"{table['schema']}.{table['name']}": table["rows"] for table in told["tables"]}


def source(server: PostgreSQLServer, database: str, workdir: Path, **changes: Any) -> PostgreSQL:
    """The strategy of a database."""
    workdir.mkdir(mode=0o700, exist_ok=True)
    return PostgreSQL(STRATEGIES.options("postgresql", server.options(database, **changes)), workdir)


def kept(
    strategy: PostgreSQL,
    directory: Path,
    *,
    repository: engine.Repository | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Kept:
    """Captured, archived by the engine with worker processes, and restored into files. `meanwhile` happens at the end
    of the reading, before the commit."""
    repository, reported = repository or new_repository(), list[ItemError]()

    def facts() -> Mapping[str, Any]:
        meanwhile()
        return strategy.facts()

    archived = engine.archive(
        repository, strategy.capture(reported.append), snapshot_id="first", facts=facts, options=FORKED
    )
    engine.restore(repository, archived.snapshot, str(directory).encode(), report=trees.fail)
    return Kept(directory, json.loads(json.dumps(strategy.facts())), reported)


def brought_back(strategy: PostgreSQL, name: str, back: Kept, **more: Any) -> list[Finding]:
    """Judged, built, and named when all findings passed; what a recovery does."""
    working = f"aihub_{name}"[:63]
    strategy.judge(name, more.get("facts", back.facts), make_roles=more.get("make_roles", False))
    _, findings = strategy.build(
        working, str(back.directory), back.facts, make_roles=more.get("make_roles", False), tick=more.get("tick", int)
    )
    if failed(findings):
        strategy.discard(working)
    else:
        strategy.rename(working, name)
    return findings


def failed(findings: Any) -> dict[str, str]:
    """Sentences of what did not pass, by check."""
    return {finding["check"]: finding["detail"] for finding in findings if not finding["passed"]}
