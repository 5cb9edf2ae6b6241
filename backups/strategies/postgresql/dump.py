"""One consistent moment of a database: pg_dump's stream, and beside it, in the same moment, what is in the tables."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psycopg

from backups.engine.errors import SourceError, SourceUnavailable
from backups.strategies.postgresql import client, contents
from backups.strategies.postgresql.client import Client, Desk
from backups.strategies.postgresql.connection import Connection, connect, translated
from backups.strategies.postgresql.contents import SequenceSpan, TableCount
from backups.strategies.postgresql.options import PostgreSQLOptions, Table, parsed, quoted

_PATIENCE = 10.0  # seconds until the counting has to have heard that it is not needed any more


class Dump(io.RawIOBase):
    """pg_dump's output. Its end is told only when the program ended well and the counting did too: SourceError else,
    so a snapshot can never hold a dump that broke off.

    tables, sequences, large_objects  what was counted, complete at the end of the stream
    warnings                          what pg_dump found odd
    """

    def __init__(self, options: PostgreSQLOptions, desk: Desk, tool: Client, workdir: Path) -> None:
        super().__init__()
        self.tables: list[TableCount] = []
        self.sequences: list[SequenceSpan] = []
        self.large_objects: int | None = None  # None: they are left out
        self.warnings: list[str] = []
        self._options, self._desk, self._words = options, desk, workdir / "pg_dump"
        self._late, self._ended, self._enough = False, False, threading.Event()
        self._failure: BaseException | None = None
        self._tables: list[Table] = []
        self._connection = connect(options, desk)
        self._connection.isolation_level, self._connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
        try:
            self._begin(tool)
        except BaseException:
            self._connection.close()
            raise

    def _begin(self, tool: Client) -> None:
        """Fix the moment, then let both look at it. The programs are started by the thread that reads them."""
        self._before = _sequences(self._connection, self._options)
        snapshot = _fixed(self._connection, self._options)
        command = [tool.program("pg_dump"), *arguments(self._options), f"--snapshot={snapshot}"]
        self._child = self._desk.start(command, self._options.database, self._words)
        self._output: IO[bytes] = self._child.stdout
        self._timer = threading.Timer(self._options.deadline_seconds, self._give_up)
        self._counting = threading.Thread(target=self._count, name="counting", daemon=True)
        self._timer.daemon = True
        self._timer.start()

    # reading

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """More of the dump; 0 at the end, when all is well."""
        got = self._output.readinto(buffer) if not self._ended else 0  # type: ignore[attr-defined]  # a pipe has it
        if got and self._counting.ident is None:
            self._begin_counting()
        if not got and not self._ended:
            self._finish()
        return int(got)

    def close(self) -> None:
        """However it came to that: nothing goes on."""
        if self.closed:
            return
        self._timer.cancel()
        self._child.kill_group(grace=0)
        self._stop_counting()
        self._output.close()
        if not self._counting.is_alive():  # else the line to the server hangs, and ends with this process
            self._connection.close()
        super().close()

    # the end

    def _finish(self) -> None:
        """The output has ended; did the program?"""
        code = self._child.wait()
        words = client.said(self._words)
        if code:
            self._stop_counting()
        elif self._counting.ident is not None:
            self._counting.join()
        self._timer.cancel()
        if self._late:
            raise SourceUnavailable(
                f"The dump of “{self._options.database}” took longer than {self._options.deadline_seconds} seconds. "
                "Raise the deadline, or back up when the server is less busy."
            )
        if code:
            raise self._broken(code, words)
        if self._failure is not None:
            raise self._failure
        after = _sequences(self._connection, self._options)
        self.sequences = contents.spans(self._before, after)
        self.warnings = list(client.warnings(words))
        self._ended = True

    def _broken(self, code: int, words: Sequence[str]) -> SourceError:
        why = client.last(words) or (f"it was ended by signal {-code}" if code < 0 else f"exit code {code}")
        if "LOCK TABLE" in " ".join(words):
            return SourceUnavailable(
                f"A table of “{self._options.database}” was locked for {self._options.lock_timeout_seconds} seconds: "
                f"{why}. Back up when nobody changes tables, or raise the patience with locks."
            )
        told = f"pg_dump of “{self._options.database}” at {self._options.where} broke off: {why}"
        return SourceUnavailable(f"{told.rstrip('.')}. Nothing of it was kept; look at the server's log.")

    def _give_up(self) -> None:
        self._late = True
        self._child.kill_group(grace=0)
        self._stop_counting()

    # counting

    def _begin_counting(self) -> None:
        """pg_dump speaks when it holds all its tables. So do we from here on: who waits to truncate or rewrite one
        would else have his turn when pg_dump is done with it, and we would find it empty. We do not queue behind him,
        because he waits for pg_dump, and everybody else behind him."""
        try:
            with translated(self._options):
                self._tables = contents.tables(self._connection, self._options)
                contents.hold(self._connection, self._tables)
        except SourceUnavailable as error:
            raise self._in_the_way(error) from None
        self._counting.start()

    def _in_the_way(self, error: SourceUnavailable) -> SourceUnavailable:
        if not isinstance(error.__context__, psycopg.errors.LockNotAvailable):
            return error
        why = (error.__context__.diag.message_primary or "").rstrip(".")
        return SourceUnavailable(
            f"Somebody waits to change a table of “{self._options.database}” ({why}), so its rows cannot be counted in "
            "the moment of the dump. Back up when nobody changes tables."
        )

    def _count(self) -> None:
        try:
            with translated(self._options):
                if self._options.whole:
                    self.large_objects = contents.large_objects(self._connection)
                for table in self._tables:
                    if not self._enough.is_set():
                        self.tables.append(contents.count(self._connection, table))
        except BaseException as error:  # told by the thread that reads
            self._failure = error

    def _stop_counting(self) -> None:
        """The cancel may fall between two queries, so it is said until it is heard."""
        self._enough.set()
        deadline = time.monotonic() + _PATIENCE
        while self._counting.is_alive() and time.monotonic() < deadline:
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_PATIENCE)
            self._counting.join(0.1)


def arguments(options: PostgreSQLOptions) -> list[str]:
    """What pg_dump is told beside whom to ask."""
    words = [
        "--format=custom", "--compress=0", "--no-password", "--strict-names", "--quote-all-identifiers",
        f"--lock-wait-timeout={options.lock_timeout_seconds * 1000}",
    ]  # fmt: skip
    words += [f"--schema={quoted(name)}" for name in options.schemas]
    words += [f"--exclude-schema={quoted(name)}" for name in options.exclude_schemas]
    words += [f"--table={parsed(text)}" for text in options.tables]
    return words + [f"--exclude-table={parsed(text)}" for text in options.exclude_tables]


def _sequences(connection: Connection, options: PostgreSQLOptions) -> dict[Table, int | None]:
    """Those that are surely in the dump, as they stand outside of the moment it shows."""
    with translated(options):
        connection.rollback()
        found = contents.sequences(connection)
        connection.rollback()
    return {} if options.tables else {table: value for table, value in found.items() if options.takes(table)}


def _fixed(connection: Connection, options: PostgreSQLOptions) -> str:
    """Fix the moment everything is read at; its name, good until the transaction ends."""
    with translated(options):
        row = connection.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])
