"""Where this console's own database is, as the running process knows it; its source is a copy of that."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from aihub_backup.core import nodes
from aihub_backup.core.models import Node
from backups.models import Source

_SOCKETS = "/var/run/postgresql"  # where PostgreSQL's library looks when no host is named


def described() -> tuple[str, dict[str, object]]:
    """(kind, options) of the source that is this console's database; the password is among the options."""
    facts = connection.settings_dict
    if connection.vendor == "sqlite":
        return "sqlite", {"path": str(facts["NAME"])}
    given: Mapping[str, Any] = facts.get("OPTIONS", {})
    options = {
        "host": facts["HOST"] or _SOCKETS, "port": int(facts["PORT"] or 5432), "database": facts["NAME"],
        "user": facts["USER"] or getpass.getuser(), "password": facts["PASSWORD"], "include_globals": False,
    }  # fmt: skip
    return "postgresql", options | {name: given[name] for name in ("sslmode", "sslrootcert") if given.get(name)}


def node() -> Node | None:
    """The host whose disk the database is on; None where it is on a server."""
    return nodes.here() if connection.vendor == "sqlite" else None


def differs(source: Source) -> bool:
    """Does the source say something else than the running process knows: another file, server, password?"""
    kind, options = described()
    kept = {**source.options, **source.secrets}
    return source.kind != kind or any(kept.get(name) != value for name, value in options.items())


def places() -> list[Path]:
    """The files of this host with which the console's secrets are read: the keys, and the database where it is one."""
    own = [Path(str(connection.settings_dict["NAME"]))] if connection.vendor == "sqlite" else []
    return [Path(settings.AIHUB_APP_KEYS_PATH), *own]


def is_on_server(source: Source) -> bool:
    """Is the source the database that this console has on a server?"""
    kind, options = described()
    told = ("host", "port", "database")
    return kind == source.kind == "postgresql" and all(source.options.get(name) == options[name] for name in told)
