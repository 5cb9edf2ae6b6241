"""A bank's database: pgbench makes it and writes into it, and its own books tell whether a copy shows one moment."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql

from tests.components import needs
from tests.servers.postgresql import OWNER, PASSWORD, PostgreSQLServer

SCALE, CLIENTS = 10, 4  # a scale is 100,000 accounts
TABLES = {
    "pgbench_accounts": "aid", "pgbench_branches": "bid", "pgbench_tellers": "tid",
    "pgbench_history": "mtime, tid, bid, aid, delta, filler",
}  # fmt: skip  # what the rows are ordered by
_USUAL = "/usr/lib/postgresql/*/bin/pgbench"
# Every balance began at nothing and was only ever changed together with a line of the history.
_BOOKS = """
    SELECT count(*) FROM {table} FULL JOIN (SELECT {key}, sum(delta) AS booked FROM pgbench_history GROUP BY 1) h
    USING ({key}) WHERE {balance} IS DISTINCT FROM COALESCE(booked, 0)
"""
_PINNED = "-c search_path=public -c datestyle=ISO,YMD -c timezone=UTC -c extra_float_digits=1 -c bytea_output=hex"


def pgbench() -> str:
    """The program itself: what Debian puts into PATH asks its own files which version to start."""
    found = sorted(glob.glob(_USUAL))
    return found[-1] if found else needs("pgbench", "postgresql-contrib")


class Bank:
    """One database of a server; it ends with the context."""

    def __init__(self, server: PostgreSQLServer, seed: int) -> None:
        self.server, self.name, self._seed = server, server.database(), seed
        self._copies: list[str] = []
        self._environment = {
            "PATH": os.defpath, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": OWNER,
            "PGPASSWORD": PASSWORD, "PGDATABASE": self.name, "LC_ALL": "C",
        }  # fmt: skip
        self._run([pgbench(), "--initialize", "--init-steps=dtgvpf", f"--scale={SCALE}", "--quiet"])

    def __enter__(self) -> Bank:
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.name, *self._copies):
            self.server.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def new_copy(self) -> str:
        """The name of a database to be, which ends with this one."""
        self._copies.append(self.server.new_name())
        return self._copies[-1]

    @contextmanager
    def at_work(self) -> Iterator[subprocess.Popen[bytes]]:
        """Clients that transfer money all the time, as TPC-B has it."""
        words = [f"--client={CLIENTS}", "--jobs=2", "--time=3600", "--no-vacuum", f"--random-seed={self._seed}"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([pgbench(), *words], env=self._environment, **silent)  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)

    def transactions(self) -> int:
        """How many were committed."""
        return self.number("SELECT count(*) FROM pgbench_history")

    def number(self, query: str, database: str = "") -> int:
        """What one asks for."""
        return int(self.server.rows(query, database or self.name)[0][0])

    # what is compared

    def counted(self, database: str) -> dict[str, tuple[int, str]]:
        """Rows and the sum of their hashes, table by table, asked by a statement of our own."""
        told = {}
        with self.server.connect(database, options=_PINNED) as connection:
            for table in TABLES:
                query = sql.SQL("SELECT count(*), sum(hashtextextended(t::text, 0))::text FROM {} t")
                row = connection.execute(query.format(sql.Identifier(table))).fetchone()
                assert row is not None
                told[table] = (int(row[0]), str(row[1] or 0))
        return told

    def digests(self, database: str) -> dict[str, str]:
        """SHA-256 of each table's rows in the order of its key, as COPY writes them."""
        told = {}
        with self.server.connect(database, options=_PINNED) as connection:
            for table, key in TABLES.items():
                digest, query = hashlib.sha256(), f"COPY (SELECT * FROM {table} ORDER BY {key}) TO STDOUT"
                with connection.cursor().copy(query.encode()) as rows:
                    for piece in rows:
                        digest.update(piece)
                told[table] = digest.hexdigest()
        return told

    def sorted_dump(self, database: str) -> str:
        """SHA-256 of the sorted lines of the data as the server's own pg_dump tells them; its tokens left out."""
        command = [f"{self.server.bin_dir}/pg_dump", "--data-only", f"--dbname={database}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=self._environment) as dump:
            telling = [sys.executable, "-c", _SORTED]
            told = subprocess.run(telling, stdin=dump.stdout, capture_output=True, check=True).stdout.decode()
        assert dump.returncode == 0, f"pg_dump of {database} ended with code {dump.returncode}"
        return told

    def history(self, database: str) -> Counter[tuple[Any, ...]]:
        """All transactions."""
        return Counter(self.server.rows("SELECT tid, bid, aid, delta, mtime FROM pgbench_history", database))

    def broken_books(self, database: str) -> dict[str, int]:
        """Accounts, tellers and branches whose balance is not the sum of what the history says of them."""
        tables = [("pgbench_accounts", "aid", "abalance"), ("pgbench_tellers", "tid", "tbalance"),
                  ("pgbench_branches", "bid", "bbalance")]  # fmt: skip
        asked = {table: _BOOKS.format(table=table, key=key, balance=balance) for table, key, balance in tables}
        return {table: self.number(query, database) for table, query in asked.items()}

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self._environment)
        assert done.returncode == 0, done.stderr


def recorded(directory: Path) -> dict[str, tuple[int, str]]:
    """What the recovery point itself says of each table."""
    tables = json.loads((directory / "~counts.json").read_bytes())["tables"]
    return {table["name"]: (int(table["rows"]), str(table["sum"])) for table in tables}


_SORTED = """
import hashlib, sys
lines = sorted(l for l in sys.stdin.buffer if not l.startswith((b"--", b"\\\\restrict", b"\\\\unrestrict")))
print(hashlib.sha256(b"".join(lines)).hexdigest(), end="")
"""
