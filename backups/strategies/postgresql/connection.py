"""Speaking with the server ourselves: one connection, and its complaints as sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import sql

from aihub_backup.core.redaction import scrub
from backups.engine.errors import SourceError, SourceUnavailable
from backups.strategies.postgresql.client import CONNECT_SECONDS, Desk
from backups.strategies.postgresql.options import PostgreSQLOptions

OLDEST = 12  # major version of a server; hashtextextended() and pg_sequences are there since 11
_LOOK_AFTER_US = 5000  # milliseconds between two looks of the server at whether we are there

# What may differ between two servers, or between two people, and changes how values are written as text.
_PINNED = {
    "search_path": "", "datestyle": "ISO, YMD", "timezone": "UTC", "intervalstyle": "postgres",
    "extra_float_digits": "1", "bytea_output": "hex", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C",
    "xmlbinary": "base64", "row_security": "off", "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "client_min_messages": "error",
}  # fmt: skip

Connection = psycopg.Connection[tuple[Any, ...]]


def connect(options: PostgreSQLOptions, desk: Desk, database: str = "", *, autocommit: bool = False) -> Connection:
    """A connection in which nothing depends on who asks. SourceError, SourceUnavailable."""
    given: dict[str, Any] = {
        "host": options.host, "port": options.port, "user": options.user, "dbname": database or options.database,
        "password": options.password or None, "passfile": desk.passfile, "sslmode": options.sslmode,
        "sslrootcert": options.sslrootcert or None, "connect_timeout": CONNECT_SECONDS,
        "application_name": "aihub-backup", "client_encoding": "UTF8",
        "options": "-c default_transaction_read_only=off", "keepalives_idle": 60,
    }  # fmt: skip
    with _in_nobodys_name(), translated(options):
        connection = psycopg.connect(autocommit=autocommit, **given)
    connection.prepare_threshold = None
    with translated(options):
        for name, value in _PINNED.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        if connection.info.server_version >= 170000:
            connection.execute("SET transaction_timeout = 0")
        _let_it_notice_our_end(connection)
        if not autocommit:
            connection.commit()
    if connection.info.server_version < OLDEST * 10000:
        connection.close()
        raise SourceError(f"PostgreSQL at {options.where} is older than {OLDEST}; upgrade it first.")
    return connection


def _let_it_notice_our_end(connection: Connection) -> None:
    """A server that counts a large table hears nothing from us: killed, we would keep the dump's moment open for as
    long as it counts. Servers before 14 and on some systems cannot look."""
    with suppress(psycopg.Error), connection.transaction():
        connection.execute(f"SET client_connection_check_interval = {_LOOK_AFTER_US}".encode())


@contextmanager
def translated(options: PostgreSQLOptions) -> Iterator[None]:
    """What the server or the line to it complains about, as SourceError with a sentence."""
    try:
        yield
    except psycopg.Error as error:
        raise _told(error, options) from None


def _told(error: psycopg.Error, options: PostgreSQLOptions) -> SourceError:
    words = scrub(_words(error))
    who = f"PostgreSQL at {options.where}"
    if isinstance(error, (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)):
        return SourceUnavailable(f"{who} was asked to wait no longer: {words}. Try again when nobody locks the tables.")
    if error.sqlstate is not None and not isinstance(error, psycopg.OperationalError):
        return SourceError(f"{who} refuses the work: {words}.")
    if "FATAL:" in str(error):
        cure = "Check the database, the user “{}” and the password, and the server's pg_hba.conf."
        return SourceError(f"{who} does not let us in: {words}. {cure.format(options.user)}")
    return SourceUnavailable(f"{who} does not answer: {words}. Check host, port and TLS, and whether it runs.")


def _words(error: psycopg.Error) -> str:
    if error.diag.message_primary:
        return error.diag.message_primary.rstrip(".")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "FATAL:" in line), lines[0]).rpartition("FATAL:")[2].strip().rstrip(".")


@contextmanager
def _in_nobodys_name() -> Iterator[None]:
    """The library fills in what it finds in the environment (a service, options, certificates): none of that counts."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def identifier(*names: str) -> sql.Composed:
    """A name in SQL."""
    return sql.Composed([sql.Identifier(*names)])
