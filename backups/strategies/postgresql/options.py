"""What a source of kind postgresql needs to know, and which of its tables are meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from aihub_backup.core.options import OptionsError, option, secret
from aihub_backup.core.redaction import sensitive
from backups.strategies import programs

LONGEST_NAME = 63  # bytes; the server cuts longer names off
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")
_PART = r'(?:"(?:[^"]|"")+"|[^".]+)'
_TABLE = re.compile(rf"({_PART})\.({_PART})")

SslMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class Table(NamedTuple):
    """A table, or another thing that has a name in a schema."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@sensitive
@dataclass(frozen=True)
class PostgreSQLOptions:
    """Which database, as whom, and what of it."""

    host: str = option(
        label="Host", help="Name or address of the server, or the directory of its socket.", minimum=1, addresses=True
    )
    database: str = option(label="Database", minimum=1)
    user: str = option(label="User", help="Who may read everything that is chosen.", minimum=1)
    password: str = secret("", label="Password")
    restore_user: str = option(
        "", label="User for recoveries",
        help="Who makes the new database and hands what is in it to its owners: a superuser, or one who may make"
        " databases and is a member of every owner. Empty: the same user.",
    )  # fmt: skip
    restore_password: str = secret(
        "", label="Password for recoveries", help="Of the user for recoveries; unused while none is named."
    )
    port: int = option(5432, label="Port", minimum=1, maximum=65535, addresses=True)
    sslmode: SslMode = option(
        "prefer", label="TLS", help="verify-full is the only one that proves who the server is.", addresses=True
    )
    sslrootcert: str = option(
        "",
        label="Trusted certificates",
        help="Absolute path of a file in PEM, or “system” for those of the host.",
        addresses=True,
    )
    schemas: tuple[str, ...] = option((), label="Only these schemas", help="Names, one a line.", multiline=True)
    exclude_schemas: tuple[str, ...] = option((), label="Without these schemas", multiline=True)
    tables: tuple[str, ...] = option(
        (), label="Only these tables", multiline=True,
        help="schema.table, one a line. What they lean on (types, functions, other tables) is not taken along.",
    )  # fmt: skip
    exclude_tables: tuple[str, ...] = option(
        (), label="Without these tables", help="schema.table, one a line.", multiline=True
    )
    include_globals: bool = option(
        True, label="Roles and tablespaces", help="Keep the definitions of the server's roles too, without passwords."
    )
    lock_timeout_seconds: int = option(
        60, label="Patience with locks", minimum=1, maximum=86_400,
        help="How many seconds to wait for a table that somebody has locked.",
    )  # fmt: skip
    deadline_seconds: int = option(
        86_400, label="Deadline", minimum=1, maximum=604_800, help="How many seconds a dump may take in all."
    )
    bin_dir: str = option(
        "",
        label="Client programs",
        help="Directory of pg_dump; empty: look in the usual places, the fitting version.",
        addresses=True,  # the program is handed the password
    )

    def __post_init__(self) -> None:
        errors = {
            "host": _host_error(self.host), "database": name_error(self.database), "user": name_error(self.user),
            "password": _password_error(self.password), "restore_user": name_error(self.restore_user),
            "restore_password": _password_error(self.restore_password), "sslrootcert": _certificate_error(self),
            "bin_dir": _programs_error(self.bin_dir), **_selection_errors(self),
        }  # fmt: skip
        if found := {name: sentence for name, sentence in errors.items() if sentence}:
            raise OptionsError(found)

    @property
    def where(self) -> str:
        """The server, for sentences."""
        return f"{self.host}:{self.port}"

    def recovering(self) -> PostgreSQLOptions:
        """The same, as the one who brings it back."""
        if not self.restore_user:
            return self
        return replace(self, user=self.restore_user, password=self.restore_password)

    @property
    def whole(self) -> bool:
        """Is everything of the database meant, also what is in no schema?"""
        return not self.schemas and not self.tables

    def takes(self, table: Table) -> bool:
        """Is this table (or sequence) meant?"""
        if table in map(parsed, self.exclude_tables):
            return False
        if self.tables:
            return table in map(parsed, self.tables)
        if table.schema in self.exclude_schemas:
            return False
        return not self.schemas or table.schema in self.schemas


def name_error(name: str) -> str:
    """Why a name of a database or a role is not accepted; "" when it is."""
    if _CONTROL.search(name):
        return "This must not contain control characters."
    if name.startswith("-"):
        return f"{name!r} looks like an option of a program; it must not begin with “-”."
    if "=" in name or "://" in name:
        return f"{name!r} looks like connection settings; give the name alone and the rest in its own fields."
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        return f"PostgreSQL keeps names of at most {LONGEST_NAME} bytes."
    return ""


def parsed(text: str) -> Table:
    """schema.table, each part in double quotes where it holds a dot or a quote. ValueError."""
    found = _TABLE.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is not written as schema.table; quote names that hold dots: "my.schema".table.')
    return Table(*map(_plain, found.groups()))


def quoted(name: str) -> str:
    """An identifier in SQL, and the exact name in a pattern of pg_dump."""
    return '"' + name.replace('"', '""') + '"'


def _plain(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _host_error(host: str) -> str:
    if host.startswith("/"):
        return _path_error(host)
    if host.startswith("-") or not _HOST.fullmatch(host):
        return f"{host!r} is neither one host's name, nor an address, nor the absolute path of a socket's directory."
    return ""


def _path_error(path: str) -> str:
    if path and (not path.startswith("/") or _CONTROL.search(path) or "," in path):
        return f"{path!r} is not an absolute path of one place; begin with the slash of the root."
    return ""


def _password_error(password: str) -> str:
    return "This must not contain control characters." if _CONTROL.search(password) else ""


def _programs_error(bin_dir: str) -> str:
    return _path_error(bin_dir) or (programs.error(bin_dir) if bin_dir else "")


def _certificate_error(options: PostgreSQLOptions) -> str:
    if options.sslmode.startswith("verify-") and not options.sslrootcert:
        return f"{options.sslmode} needs certificates to trust: a file in PEM, or “system”."
    return "" if options.sslrootcert == "system" else _path_error(options.sslrootcert)


def _selection_errors(options: PostgreSQLOptions) -> dict[str, str]:
    errors = {
        "schemas": _first(options.schemas, name_error), "exclude_schemas": _first(options.exclude_schemas, name_error),
        "tables": _first(options.tables, _table_error), "exclude_tables": _first(options.exclude_tables, _table_error),
    }  # fmt: skip
    if options.tables and (options.schemas or options.exclude_schemas) and not errors["tables"]:
        errors["tables"] = "Choose either schemas or tables; pg_dump would not look at the schemas."
    return errors


def _table_error(text: str) -> str:
    try:
        table = parsed(text)
    except ValueError as error:
        return str(error)
    return _first(table, name_error)


def _first(values: Iterable[str] | Sequence[str], judge: Callable[[str], str]) -> str:
    return next(filter(None, map(judge, values)), "")
