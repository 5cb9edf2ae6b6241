"""The way back: a dump into a new database, built up under another name and looked at before it gets its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from backups.engine.errors import SourceError, SourceUnavailable, TargetError, TargetUnavailable
from backups.strategies.base import Finding
from backups.strategies.postgresql import archive, contents
from backups.strategies.postgresql.client import Client, Desk
from backups.strategies.postgresql.connection import Connection, connect, translated
from backups.strategies.postgresql.contents import TableCount
from backups.strategies.postgresql.options import PostgreSQLOptions, Table, name_error

TOLD = 5  # differences in one sentence
_MAINTENANCE = ("postgres", "template1")  # where one may sign in to make other databases


class Plan(NamedTuple):
    """A dump's way back.

    name        of the new database
    directory   where the recovery point's files lie
    facts       what was told at the capture
    make_roles  make the roles that are missing, without the right to sign in
    build_as    its name while it is built; "" for one that nobody else has
    """

    name: str
    directory: str
    facts: Mapping[str, Any]
    make_roles: bool = False
    build_as: str = ""


def restore_into(
    options: PostgreSQLOptions, desk: Desk, plan: Plan, tick: Callable[[], None], agreed: Callable[[int], None]
) -> list[Finding]:
    """Make the database, restore into it, compare every table with what was counted, and only then give it its name.

    tick    called while pg_restore works; may raise to end the work
    agreed  called with the new database's oid before it gets its name; may raise to keep that from happening
    TargetError, with a sentence and the cure, for what stands in the way. Without a database of that name in the end
    (also when a finding did not pass) nothing stays: the half one and the roles that were made are dropped again.
    """
    with _maintenance(options, desk) as server, _as_target(options):
        return _Restore(options, desk, plan, server).everything(tick, agreed)


def discard(options: PostgreSQLOptions, desk: Desk, build_as: str) -> None:
    """Drop what an attempt that was killed has left under its working name."""
    with _maintenance(options, desk) as server, _as_target(options):
        _drop(server, build_as)


def name_of(options: PostgreSQLOptions, desk: Desk, oid: int) -> str:
    """What the database with this oid is called now; "" when there is none."""
    with _maintenance(options, desk) as server, _as_target(options):
        row = server.execute("SELECT datname FROM pg_catalog.pg_database WHERE oid = %s", (oid,)).fetchone()
    return str(row[0]) if row else ""


class _Restore:
    def __init__(self, options: PostgreSQLOptions, desk: Desk, plan: Plan, server: Connection) -> None:
        self._options, self._desk, self._plan, self._server = options, desk, plan, server
        self._working = plan.build_as or f"aihub_{secrets.token_hex(8)}"
        self._counts = archive.counts_in(plan.directory)
        self._made: list[str] = []
        self._notes: list[str] = []

    def everything(self, tick: Callable[[], None], agreed: Callable[[int], None]) -> list[Finding]:
        tool = archive.reader(self._plan.facts, self._options.bin_dir)
        self._must_be_possible()
        done = False
        try:
            self._make_roles()
            self._create()
            self._fill(tool, tick)
            findings = self._compare()
            self._resemble()
            if done := all(finding["passed"] for finding in findings):
                agreed(self._oid())
                self._name()
            return [*findings, self._told()]
        except BaseException:
            done = False
            raise
        finally:
            if not done:
                self._undo()

    # before

    def _must_be_possible(self) -> None:
        name, facts = self._plan.name, self._plan.facts
        if wrong := name_error(name) or ("" if name else "The name is empty."):
            raise TargetError(f"The new database cannot be called that. {wrong}")
        if self._exists("pg_database", "datname", name):
            raise TargetError(f"There is a database “{name}” already at {self._options.where}; choose another name.")
        here, needed = self._server.info.server_version // 10000, _oldest(facts)
        if here < needed:
            raise TargetError(
                f"The server at {self._options.where} is {here}; the dump comes back only into {needed} or newer."
            )
        self._must_have_extensions()
        self._must_be_allowed()
        self._must_have_roles()

    def _must_have_extensions(self) -> None:
        known = {name for (name,) in self._server.execute("SELECT name FROM pg_catalog.pg_available_extensions")}
        missing = [f"{name} {version}" for name, version in self._plan.facts["extensions"].items() if name not in known]
        if missing:
            cure = "Install their packages on the server."
            raise TargetError(f"The server at {self._options.where} lacks the extensions {', '.join(missing)}. {cure}")

    def _must_be_allowed(self) -> None:
        mine = "SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user"
        row = self._server.execute(mine).fetchone()
        if row is None or not row[0]:
            user = self._options.user
            raise TargetError(
                f"The user “{user}” may not make databases. ALTER ROLE {user} CREATEDB, or take another user."
            )

    def _must_have_roles(self) -> None:
        missing = self._missing_roles()
        if missing and not self._plan.make_roles:
            cure = "Make them (globals.sql of the recovery point has them), or let the recovery make them."
            raise TargetError(f"The server at {self._options.where} lacks the roles {', '.join(missing)}. {cure}")

    def _missing_roles(self) -> list[str]:
        known = {name for (name,) in self._server.execute("SELECT rolname FROM pg_catalog.pg_roles")}
        return [name for name in self._plan.facts["roles"] if name not in known]

    # building

    def _make_roles(self) -> None:
        for name in self._missing_roles():
            self._server.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            self._made.append(name)
        if self._made:
            self._notes.append(f"Roles that were made and may not sign in: {', '.join(self._made)}.")

    def _create(self) -> None:
        _drop(self._server, self._working)  # of an attempt before
        words = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(self._working))]
        for keyword, value in _locale(self._plan.facts["settings_of"], self._server.info.server_version):
            words.append(sql.SQL(keyword + " {}").format(sql.Literal(value)))
        self._server.execute(sql.SQL(" ").join(words))
        chosen = self._plan.facts.get("chosen", {})
        with self._inside() as inside:
            if chosen.get("tables"):  # the dump of a table does not make its schema
                for schema in sorted({table["schema"] for table in self._counts["tables"]}):
                    inside.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            if "public" in chosen.get("schemas", ()):  # while that of a named schema does, also of this one
                inside.execute("DROP SCHEMA public")

    def _fill(self, tool: Client, tick: Callable[[], None]) -> None:
        command = [tool.program("pg_restore"), "--exit-on-error", "--no-password", "--no-subscriptions"]
        path = archive.dump_in(self._plan.directory, self._plan.facts)
        ran = self._desk.run([*command, f"--dbname={self._working}", "--", path], self._working, tick)
        if ran.code:
            raise TargetError(f"pg_restore into “{self._plan.name}” at {self._options.where} broke off: {ran.why}.")

    def _compare(self) -> list[Finding]:
        told = self._counts["tables"]
        with self._inside() as inside:
            wrong = contents.differences(told, lambda table: _counted(inside, table))
            strays = contents.strays(self._counts["sequences"], contents.sequences(inside))
        rows = sum(table["rows"] for table in told)
        well = f"{len(told)} tables hold the {rows} rows that were counted at the capture, with the same checksums."
        values = f"{len(self._counts['sequences'])} sequences stand where they stood."
        return [_finding("tables", wrong, well), _finding("sequences", strays, values)]

    # what a dump leaves out

    def _resemble(self) -> None:
        """Settings, limit, grants and comment of the database itself, as far as this server has what they speak of."""
        facts = self._plan.facts["settings_of"]
        for role, setting in facts["settings"]:
            self._set(role, *setting.split("=", 1))
        database = sql.Identifier(self._working)
        if facts["connection_limit"] >= 0:
            self._do(
                sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, facts["connection_limit"]), "limit"
            )
        if facts["comment"]:
            self._do(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, facts["comment"]), "comment")
        if not facts["default_grants"]:
            self._do(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database), "grants")
        for role, privilege, grantable in facts["grants"] if not facts["default_grants"] else ():
            self._grant(role, privilege, grantable)

    def _set(self, role: str | None, name: str, value: str) -> None:
        """The value is set for one transaction and taken from there, so the server itself reads lists."""
        whose = sql.SQL("DATABASE {}").format(sql.Identifier(self._working))
        if role:
            whose = sql.SQL("ROLE {} IN {}").format(sql.Identifier(role), whose)
        words = sql.SQL("ALTER {} SET {} FROM CURRENT").format(whose, sql.Identifier(*name.split(".")))
        with self._noting(f"the setting {name}"), self._server.transaction():
            self._server.execute("SELECT set_config(%s, %s, true)", (name, value))
            self._server.execute(words)

    def _grant(self, role: str | None, privilege: str, grantable: bool) -> None:
        whom = sql.Identifier(role) if role else sql.SQL("PUBLIC")
        words = sql.SQL("GRANT {} ON DATABASE {} TO {}" + (" WITH GRANT OPTION" if grantable else ""))
        privileges = sql.SQL(privilege)
        self._do(words.format(privileges, sql.Identifier(self._working), whom), f"{privilege} for {role or 'PUBLIC'}")

    def _do(self, statement: sql.Composed, what: str) -> None:
        with self._noting(what):
            self._server.execute(statement)

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """What this server refuses here is told and does not stand in the way of the data."""
        try:
            yield
        except psycopg.Error as error:
            self._notes.append(f"Not taken over: {what} ({error.diag.message_primary or type(error).__name__}).")

    def _told(self) -> Finding:
        return Finding(
            check="database", passed=True, detail=" ".join(self._notes) or "Its own settings are as they were."
        )

    # the end

    def _oid(self) -> int:
        row = self._server.execute(
            "SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (self._working,)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _name(self) -> None:
        """The last step: one transaction of the server, in which nobody else can take the name."""
        words = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self._server.execute(words.format(sql.Identifier(self._working), sql.Identifier(self._plan.name)))

    def _undo(self) -> None:
        with suppress(psycopg.Error):
            _drop(self._server, self._working)
        for name in self._made:
            with suppress(psycopg.Error):
                self._server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    def _inside(self) -> Connection:
        return connect(self._options, self._desk, self._working, autocommit=True)

    def _exists(self, catalog: str, column: str, name: str) -> bool:
        words = sql.SQL("SELECT FROM pg_catalog.{} WHERE {} = %s").format(
            sql.Identifier(catalog), sql.Identifier(column)
        )
        return self._server.execute(words, (name,)).fetchone() is not None


# the server


def _maintenance(options: PostgreSQLOptions, desk: Desk) -> Connection:
    """A connection from which databases are made. TargetError."""
    failure: SourceError | None = None
    for database in (*_MAINTENANCE, options.database):
        try:
            return connect(options, desk, database, autocommit=True)
        except SourceError as error:
            failure = failure or error
    assert failure is not None
    raise _as_target_error(failure)


def _as_target_error(error: SourceError) -> TargetError:
    kind = TargetUnavailable if isinstance(error, SourceUnavailable) else TargetError
    return kind(str(error))


@contextmanager
def _as_target(options: PostgreSQLOptions) -> Iterator[None]:
    try:
        with translated(options):
            yield
    except SourceError as error:
        raise _as_target_error(error) from None


def _drop(server: Connection, name: str) -> None:
    words = "DROP DATABASE IF EXISTS {}" + (" WITH (FORCE)" if server.info.server_version >= 130000 else "")
    server.execute(sql.SQL(words).format(sql.Identifier(name)))


def _oldest(facts: Mapping[str, Any]) -> int:
    """A dump is promised to come back into servers as new as the one it is of, and as the program that wrote it."""
    return max(int(facts["server_version"]) // 10000, int(str(facts["tools"]["pg_dump"]).split(".")[0]))


def _locale(facts: Mapping[str, Any], version: int) -> Iterator[tuple[str, str]]:
    """The clauses of CREATE DATABASE that make text sort as it did."""
    yield "ENCODING", facts["encoding"]
    yield "LC_COLLATE", facts["collate"]
    yield "LC_CTYPE", facts["ctype"]
    if version < 150000:
        return
    provider = {"c": "libc", "i": "icu", "b": "builtin"}[facts["provider"]]
    yield "LOCALE_PROVIDER", provider
    if provider != "libc":
        yield ("ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE"), facts["locale"]
    if facts["icu_rules"] and version >= 160000:
        yield "ICU_RULES", facts["icu_rules"]


def _counted(inside: Connection, table: Table) -> TableCount | None:
    try:
        return contents.count(inside, table)
    except psycopg.errors.UndefinedTable:
        return None


def _finding(check: str, wrong: Sequence[str], well: str) -> Finding:
    if not wrong:
        return Finding(check=check, passed=True, detail=well)
    more = f" and {len(wrong) - TOLD} more" if len(wrong) > TOLD else ""
    return Finding(check=check, passed=False, detail=f"{'; '.join(wrong[:TOLD])}{more}.")
