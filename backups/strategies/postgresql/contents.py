"""What is in a database: its tables with counts and checksums, its sequences, and what else a restore has to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

from psycopg import sql

from backups.strategies.postgresql.connection import Connection
from backups.strategies.postgresql.options import PostgreSQLOptions, Table

FORMAT = 1
_AT_ONCE = 1000  # tables in one statement


class TableCount(TypedDict):
    """A table's rows, and the sum of a 64-bit hash of each of them: the order of the rows does not matter."""

    schema: str
    name: str
    rows: int
    sum: str


class SequenceSpan(TypedDict):
    """A sequence's last value before and after the dump: sequences move on inside of any transaction."""

    schema: str
    name: str
    before: int | None
    after: int | None


# Ordinary tables with rows of their own: partitions, but not what only gathers them; nothing that an extension brings
# along, because the dump leaves that to the extension. Materialized views are computed anew by a restore.
_TABLES = """
    SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1, 2
"""
_SEQUENCES = """
    SELECT n.nspname, c.relname, pg_catalog.pg_sequence_last_value(c.oid) FROM pg_catalog.pg_sequence s
    JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT s.seqcycle AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
    AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1, 2
"""
# Every column by itself, so that no column's name can be mistaken for the table; compared byte by byte.
_COUNT = """
    SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum(
        pg_catalog.hashtextextended(ROW(t.*)::pg_catalog.text COLLATE pg_catalog."C", 0)), 0)::pg_catalog.text
    FROM ONLY {} AS t
"""


def tables(connection: Connection, options: PostgreSQLOptions) -> list[Table]:
    """The tables that are meant."""
    found = (Table(schema, name) for schema, name in connection.execute(_TABLES))
    return [table for table in found if options.takes(table)]


def hold(connection: Connection, chosen: Sequence[Table]) -> None:
    """Nobody empties or rewrites them until the transaction ends; a lock that is not free at once is an error."""
    for first in range(0, len(chosen), _AT_ONCE):
        names = [sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in chosen[first : first + _AT_ONCE]]
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(sql.SQL(", ").join(names)))


def large_objects(connection: Connection) -> int:
    """How many there are."""
    row = connection.execute("SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata").fetchone()
    assert row is not None
    return int(row[0])


def count(connection: Connection, table: Table) -> TableCount:
    """One table, read whole."""
    row = connection.execute(sql.SQL(_COUNT).format(sql.Identifier(*table))).fetchone()
    assert row is not None
    return TableCount(schema=table.schema, name=table.name, rows=row[0], sum=row[1])


def sequences(connection: Connection) -> dict[Table, int | None]:
    """The last values of all sequences; None: not used yet."""
    return {Table(schema, name): value for schema, name, value in connection.execute(_SEQUENCES)}


def spans(before: Mapping[Table, int | None], after: Mapping[Table, int | None]) -> list[SequenceSpan]:
    """Between which values the dump has found each sequence that was there all the time."""
    return [
        SequenceSpan(schema=table.schema, name=table.name, before=value, after=after[table])
        for table, value in before.items()
        if table in after
    ]


# the database itself


_DATABASE = """
    SELECT pg_catalog.to_jsonb(d) || pg_catalog.jsonb_build_object(
        'encoding', pg_catalog.pg_encoding_to_char(d.encoding),
        'owner', pg_catalog.pg_get_userbyid(d.datdba),
        'comment', pg_catalog.shobj_description(d.oid, 'pg_database'),
        'size', pg_catalog.pg_database_size(d.oid))
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""
_SETTINGS = """
    SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END, pg_catalog.unnest(s.setconfig)
    FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
    WHERE d.datname = pg_catalog.current_database() ORDER BY 1 NULLS FIRST, 2
"""
_GRANTS = """
    SELECT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
    FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
    WHERE d.datname = pg_catalog.current_database() ORDER BY 1 NULLS FIRST, 2
"""
_EXTENSIONS = "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1"
_SUBSCRIPTIONS = """
    SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
    WHERE d.datname = pg_catalog.current_database() ORDER BY 1
"""
# Foreign keys with the tables they belong to and point at.
_KEYS = """
    SELECT n.nspname, c.relname, k.conname, m.nspname, f.relname FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace m ON m.oid = f.relnamespace
    WHERE k.contype = 'f' ORDER BY 1, 2, 3
"""
# Whoever owns something in this database, was granted something or is named in a policy.
_ROLES = """
    SELECT DISTINCT pg_catalog.pg_get_userbyid(s.refobjid) FROM pg_catalog.pg_shdepend s
    JOIN pg_catalog.pg_database d ON d.oid = s.dbid
    WHERE d.datname = pg_catalog.current_database() AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    ORDER BY 1
"""


def described(connection: Connection) -> dict[str, Any]:
    """What a new database needs to be like this one, as plain JSON values without secrets."""
    row = connection.execute(_DATABASE).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0]
    return {
        "encoding": found["encoding"], "collate": found["datcollate"], "ctype": found["datctype"],
        "provider": found.get("datlocprovider", "c"),
        "locale": found.get("datlocale") or found.get("daticulocale"), "icu_rules": found.get("daticurules"),
        "connection_limit": found["datconnlimit"], "owner": found["owner"], "comment": found["comment"],
        "size": found["size"], "default_grants": found["datacl"] is None,
        "grants": [list(row) for row in connection.execute(_GRANTS)],
        "settings": [list(row) for row in connection.execute(_SETTINGS)],
    }  # fmt: skip


def extensions(connection: Connection) -> dict[str, str]:
    """Their versions by name."""
    return dict(connection.execute(_EXTENSIONS).fetchall())


def subscriptions(connection: Connection) -> list[str]:
    """Their names; what they connect to holds passwords and is not asked."""
    return [name for (name,) in connection.execute(_SUBSCRIPTIONS)]


def severed(connection: Connection, options: PostgreSQLOptions) -> list[list[str]]:
    """[schema, table, name] of the foreign keys of chosen tables that point at others: those cannot come back."""
    rows = connection.execute(_KEYS).fetchall()
    return [
        [schema, table, key]
        for schema, table, key, far_schema, far in rows
        if options.takes(Table(schema, table)) and not options.takes(Table(far_schema, far))
    ]


def roles(connection: Connection) -> list[str]:
    """Whose names the dump speaks of."""
    return [name for (name,) in connection.execute(_ROLES)]


# comparing


def differences(told: Iterable[TableCount], count_of: Callable[[Table], TableCount | None]) -> list[str]:
    """A sentence for each table that does not hold what was counted at the capture."""
    found = []
    for then in told:
        table = Table(then["schema"], then["name"])
        now = count_of(table)
        if now is None:
            found.append(f"{table} is not there")
        elif now["rows"] != then["rows"]:
            found.append(f"{table} had {then['rows']} rows and has {now['rows']}")
        elif now["sum"] != then["sum"]:
            found.append(f"{table} has {now['rows']} rows, but other values in them")
    return found


def strays(told: Iterable[SequenceSpan], now: Mapping[Table, int | None]) -> list[str]:
    """A sentence for each sequence that is not where the dump can have found it."""
    found = []
    for span in told:
        table = Table(span["schema"], span["name"])
        if table not in now:
            found.append(f"{table} is not there")
        elif not _between(span["before"], now[table], span["after"]):
            found.append(f"{table} was between {span['before']} and {span['after']} and is {now[table]}")
    return found


def _between(before: int | None, now: int | None, after: int | None) -> bool:
    if now in (before, after) or before is None or after is None:
        return True
    return now is not None and min(before, after) <= now <= max(before, after)
