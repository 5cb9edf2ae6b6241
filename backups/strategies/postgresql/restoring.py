"""The way back: a dump into a new database, built up under a working name and looked at before it gets its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from backups.engine.errors import SourceError, SourceUnavailable, TargetError, TargetUnavailable
from backups.strategies.base import Finding
from backups.strategies.postgresql import archive, client, contents
from backups.strategies.postgresql.client import Client, Desk
from backups.strategies.postgresql.connection import Connection, connect, translated
from backups.strategies.postgresql.contents import TableCount
from backups.strategies.postgresql.options import PostgreSQLOptions, Table, name_error

TOLD = 5  # differences in one sentence
_FORBIDDEN = ("permission denied", "must be owner", "must be member", "must be able to SET ROLE", "must be superuser")
_LOCK_TIMEOUT = "60s"
_MAINTENANCE = ("postgres", "template1")  # where one may sign in to make other databases


class Plan(NamedTuple):
    """A dump's way back.

    build_as    what the new database is called while it is built
    directory   where the recovery point's files lie
    facts       what was told at the capture
    make_roles  make the roles that are missing, without the right to sign in
    """

    build_as: str
    directory: str
    facts: Mapping[str, Any]
    make_roles: bool


def judge(options: PostgreSQLOptions, desk: Desk, name: str, plan: Plan) -> None:
    """TargetError for what stands in the way; nothing is changed."""
    archive.reader(plan.facts, options.bin_dir)
    with _maintenance(options, desk) as server, _as_target(options):
        _Preview(options, plan, server).judge(name)


def must_be_allowed(options: PostgreSQLOptions, desk: Desk) -> None:
    """TargetError unless this user may sign in and make databases."""
    with _maintenance(options, desk) as server, _as_target(options):
        _refuse_powerless(options, server)


def build(options: PostgreSQLOptions, desk: Desk, plan: Plan, tick: Callable[[], None]) -> tuple[str, list[Finding]]:
    """Make the database under its working name, restore into it and compare every table with what was counted: its
    oid, and the findings. When this raises, the half database and the roles that were made are dropped again."""
    with _maintenance(options, desk) as server, _as_target(options):
        return _Restore(options, desk, plan, server).everything(tick)


def rename(options: PostgreSQLOptions, desk: Desk, build_as: str, name: str) -> None:
    """Give it its name. TargetError when that is taken by now."""
    words = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with _maintenance(options, desk) as server, _as_target(options), _alone(server, build_as):
        try:
            server.execute(words.format(sql.Identifier(build_as), sql.Identifier(name)))
        except psycopg.errors.DuplicateDatabase:
            raise _taken(options, name) from None


def discard(options: PostgreSQLOptions, desk: Desk, build_as: str) -> None:
    """Drop what stands under the working name."""
    with _maintenance(options, desk) as server, _as_target(options), _alone(server, build_as):
        _drop(server, build_as)


def name_of(options: PostgreSQLOptions, desk: Desk, oid: str) -> str:
    """What the database with this oid is called now; "" when there is none."""
    with _maintenance(options, desk) as server, _as_target(options):
        if not (name := _name_now(server, oid)):
            return ""
        with _alone(server, name):  # whoever was told to rename it has done so by now
            return _name_now(server, oid)


class _Preview:
    """Looks at a server before anything is done there."""

    def __init__(self, options: PostgreSQLOptions, plan: Plan, server: Connection) -> None:
        self._options, self._plan, self._server = options, plan, server

    def judge(self, name: str) -> None:
        """All that can be known beforehand."""
        if wrong := new_name_error(name):
            raise TargetError(f"The new database cannot be called that. {wrong}")
        if self._server.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone():
            raise _taken(self._options, name)
        here, needed = self._server.info.server_version // 10000, _oldest(self._plan.facts)
        if here < needed:
            words = f"The server at {self._options.where} is {here}; the dump comes back only into {needed} or newer."
            raise TargetError(words)
        self._must_have_extensions()
        _refuse_powerless(self._options, self._server)
        self._must_have_roles()

    def _must_have_extensions(self) -> None:
        known = {name for (name,) in self._server.execute("SELECT name FROM pg_catalog.pg_available_extensions")}
        missing = [f"{name} {version}" for name, version in self._plan.facts["extensions"].items() if name not in known]
        if missing:
            cure = "Install their packages on the server."
            raise TargetError(f"The server at {self._options.where} lacks the extensions {', '.join(missing)}. {cure}")

    def _must_have_roles(self) -> None:
        missing = self._missing_roles()
        if missing and not self._plan.make_roles:
            cure = "Make them (globals.sql of the recovery point has them), or let the recovery make them."
            raise TargetError(f"The server at {self._options.where} lacks the roles {', '.join(missing)}. {cure}")

    def _missing_roles(self) -> list[str]:
        known = {name for (name,) in self._server.execute("SELECT rolname FROM pg_catalog.pg_roles")}
        return [name for name in self._plan.facts["roles"] if name not in known]


class _Restore(_Preview):
    """Builds a database up."""

    def __init__(self, options: PostgreSQLOptions, desk: Desk, plan: Plan, server: Connection) -> None:
        super().__init__(options, plan, server)
        self._desk = desk
        self._counts = archive.counts_in(plan.directory)
        self._made: list[str] = []
        self._notes: list[str] = []

    def everything(self, tick: Callable[[], None]) -> tuple[str, list[Finding]]:
        """From nothing to a database that was compared."""
        tool = archive.reader(self._plan.facts, self._options.bin_dir)
        try:
            self._make_roles()
            self._create()
            self._fill(tool, tick)
            findings = self._compare()
            self._resemble()
            return self._oid(), [*findings, self._told()]
        except BaseException:
            self._undo()
            raise

    # building

    def _make_roles(self) -> None:
        for name in self._missing_roles():
            self._server.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            self._made.append(name)
        if self._made:
            self._notes.append(f"Roles that were made and may not sign in: {', '.join(self._made)}.")

    def _create(self) -> None:
        words = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(self._plan.build_as))]
        for keyword, value in _locale(self._plan.facts["settings_of"], self._server.info.server_version):
            words.append(sql.SQL(keyword + " {}").format(sql.Literal(value)))
        with _alone(self._server, self._plan.build_as):
            _drop(self._server, self._plan.build_as)  # of an attempt before
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
        if severed := self._plan.facts["severed"]:
            command.append(f"--use-list={self._list_without(tool, path, severed)}")
        if left_out := self._plan.facts.get("subscriptions"):  # two subscribers would fetch the same rows
            self._notes.append(f"Subscriptions are left out: {', '.join(left_out)}.")
        ran = self._desk.run([*command, f"--dbname={self._plan.build_as}", "--", path], self._plan.build_as, tick)
        if ran.code:
            told = f"pg_restore into “{self._plan.build_as}” at {self._options.where} broke off: {ran.why}."
            raise TargetError(f"{told}{self._cure(ran.why)}")

    def _cure(self, why: str) -> str:
        """What to do about rights that nobody can know beforehand: the server judges each object as it comes. One that
        speaks another language than English is heard without a cure."""
        if not any(words in why for words in _FORBIDDEN):
            return ""
        user = self._options.user
        return f" The user “{user}” may not make all of it: name a superuser in restore_user, or make {user} one."

    def _list_without(self, tool: Client, path: str, severed: Sequence[Sequence[str]]) -> str:
        """A file that tells pg_restore to leave out keys to tables that were not chosen."""
        listing = client.read([tool.program("pg_restore"), "--list", "--", path]).output.decode()
        told = ", ".join(f"{key[2]} of {Table(key[0], key[1])}" for key in severed[:TOLD])
        self._notes.append(f"Foreign keys to tables that were not chosen are left out: {told}.")
        return self._desk.lay_down("list", archive.list_without(listing, severed))

    def _compare(self) -> list[Finding]:
        told = self._counts["tables"]
        with self._inside() as inside:
            wrong = contents.differences(told, lambda table: _counted(inside, table))
            strays = contents.strays(self._counts["sequences"], contents.sequences(inside))
            objects = contents.large_objects(inside)
        rows = sum(table["rows"] for table in told)
        well = f"{len(told)} tables hold the {rows} rows that were counted at the capture, with the same checksums."
        values = f"{len(self._counts['sequences'])} sequences stand where they stood."
        then = self._counts["large_objects"] or 0
        lost = [] if objects == then else [f"There were {then} large objects and there are {objects}"]
        return [
            _finding("tables", wrong, well), _finding("sequences", strays, values),
            _finding("large objects", lost, f"There are {objects} large objects, as at the capture."),
        ]  # fmt: skip

    # what a dump leaves out

    def _resemble(self) -> None:
        """Settings, limit, grants and comment of the database itself, as far as this server has what they speak of."""
        facts = self._plan.facts["settings_of"]
        for role, setting in facts["settings"]:
            self._set(role, *setting.split("=", 1))
        database = sql.Identifier(self._plan.build_as)
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
        whose = sql.SQL("DATABASE {}").format(sql.Identifier(self._plan.build_as))
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
        self._do(
            words.format(privileges, sql.Identifier(self._plan.build_as), whom), f"{privilege} for {role or 'PUBLIC'}"
        )

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

    def _oid(self) -> str:
        found = self._server.execute(
            "SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (self._plan.build_as,)
        )
        row = found.fetchone()
        assert row is not None
        return str(row[0])

    def _undo(self) -> None:
        with suppress(psycopg.Error):
            _drop(self._server, self._plan.build_as)
        for name in self._made:
            with suppress(psycopg.Error):
                self._server.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    def _inside(self) -> Connection:
        return connect(self._options, self._desk, self._plan.build_as, autocommit=True)


def new_name_error(name: str) -> str:
    """Why a new database cannot be called that."""
    return name_error(name) or ("" if name else "Give it a name.")


def _taken(options: PostgreSQLOptions, name: str) -> TargetError:
    return TargetError(f"There is a database “{name}” already at {options.where}; choose another name.")


# the server


def _refuse_powerless(options: PostgreSQLOptions, server: Connection) -> None:
    mine = "SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user"
    row = server.execute(mine).fetchone()
    if row is None or not row[0]:
        user = options.user
        raise TargetError(
            f"The user “{user}” may not make databases. ALTER ROLE {user} CREATEDB, or name another one in"
            " restore_user."
        )


def _maintenance(options: PostgreSQLOptions, desk: Desk) -> Connection:
    """A connection from which databases are made. TargetError."""
    failure: SourceError | None = None
    for database in (*_MAINTENANCE, options.database):
        try:
            return connect(options, desk, database, autocommit=True)
        except SourceUnavailable as error:  # the next one might answer, but whose locks are another database's
            raise _as_target_error(error) from None
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


@contextmanager
def _alone(server: Connection, build_as: str) -> Iterator[None]:
    """Nobody else makes, renames or drops under this working name meanwhile.

    A server goes on with what it was told when whoever told it has been killed: a database could appear after its
    sweeper found nothing to drop. The lock belongs to the session, so the server's last deed for a killed one ends it;
    and to the database, so everybody has to come by the same one (see `_maintenance`).
    """
    words = "SELECT {}(pg_catalog.hashtextextended(%s, 0))"
    with server.transaction():
        server.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        server.execute(sql.SQL(words).format(sql.SQL("pg_advisory_lock")), (f"aihub-backup {build_as}",))
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # it goes with the connection anyway
            server.execute(sql.SQL(words).format(sql.SQL("pg_advisory_unlock")), (f"aihub-backup {build_as}",))


def _drop(server: Connection, name: str) -> None:
    words = "DROP DATABASE IF EXISTS {}" + (" WITH (FORCE)" if server.info.server_version >= 130000 else "")
    server.execute(sql.SQL(words).format(sql.Identifier(name)))


def _name_now(server: Connection, oid: str) -> str:
    row = server.execute("SELECT datname FROM pg_catalog.pg_database WHERE oid = %s::oid", (oid,)).fetchone()
    return str(row[0]) if row else ""


def _oldest(facts: Mapping[str, Any]) -> int:
    """A dump is promised to come back into servers as new as the one it is of, and as the program that wrote it."""
    return max(int(facts["server_version"]) // 10000, archive.major(facts))


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
