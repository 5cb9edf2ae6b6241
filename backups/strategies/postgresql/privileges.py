"""May we read everything that was chosen? pg_dump would find out in the middle, or leave out what it may not see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backups.engine.errors import SourceError
from backups.strategies.postgresql.connection import Connection
from backups.strategies.postgresql.options import PostgreSQLOptions, Table, parsed

TOLD = 5  # names in one sentence

_SCHEMAS = """
    SELECT nspname, pg_catalog.has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
"""
# What holds rows or values of its own or only gathers them (p): the dump locks them all.
_RELATIONS = """
    SELECT n.nspname, c.relname, pg_catalog.has_table_privilege(c.oid, 'SELECT'),
           c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1, 2
"""
_LARGE_OBJECTS = """
    SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata m
    WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
        SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
        AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
"""
_PREPARED = (
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()"
)


def must_suffice(connection: Connection, options: PostgreSQLOptions) -> None:
    """SourceError that names what may not be read, or is not there, and the cure."""
    schemas: dict[str, bool] = dict(connection.execute(_SCHEMAS).fetchall())
    relations = [(Table(row[0], row[1]), row[2], row[3]) for row in connection.execute(_RELATIONS)]
    _must_be_there(options, schemas, [table for table, _, _ in relations])
    chosen = [row for row in relations if options.takes(row[0])]
    user = options.user
    closed = sorted({table.schema for table, _, _ in chosen if not schemas.get(table.schema)})
    if closed:
        cure = f"GRANT USAGE ON SCHEMA … TO {user}, or grant it pg_read_all_data (server 14 or newer)."
        raise SourceError(f"The user “{user}” may not look into the schemas {_told(closed)}. {cure}")
    unread = [str(table) for table, readable, _ in chosen if not readable]
    if unread:
        cure = f"GRANT SELECT ON … TO {user}, grant it pg_read_all_data, or leave them out."
        raise SourceError(f"The user “{user}” may not read {_told(unread)}. {cure}")
    hidden = [str(table) for table, _, secured in chosen if secured]
    if hidden:
        cure = f"ALTER ROLE {user} BYPASSRLS, or leave them out."
        raise SourceError(f"Row-level security would hide rows of {_told(hidden)} from “{user}”. {cure}")
    if options.whole:
        _must_read_large_objects(connection, user)


def prepared(connection: Connection) -> int:
    """How many transactions wait for the second half of their commit: what they did is in no dump."""
    return _number(connection, _PREPARED)


def _must_be_there(options: PostgreSQLOptions, schemas: Iterable[str], relations: Sequence[Table]) -> None:
    absent = [name for name in options.schemas if name not in set(schemas)]
    if absent:
        raise SourceError(
            f"The schema “{absent[0]}” does not exist in “{options.database}”. Check the list of schemas."
        )
    for text in options.tables:
        if parsed(text) not in relations:
            raise SourceError(f"The table {text} does not exist in “{options.database}”. Check the list of tables.")


def _must_read_large_objects(connection: Connection, user: str) -> None:
    count = _number(connection, _LARGE_OBJECTS)
    if count:
        cure = "Take a superuser, GRANT SELECT ON LARGE OBJECT … for each, or choose schemas: then they are left out."
        raise SourceError(f"The user “{user}” may not read {count} large objects. {cure}")


def _number(connection: Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def _told(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
