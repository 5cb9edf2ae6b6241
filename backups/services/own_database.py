"""Where this console's own database is, as the running process knows it; its source is a copy of that."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import connection

from aihub_backup.core import nodes
from aihub_backup.core.models import Node
from backups.models import Source

_HERE = "localhost"
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


def files() -> list[Path]:
    """The database and what SQLite keeps beside it, whether it is there now or not; none of one on a server."""
    if connection.vendor != "sqlite":
        return []
    path = os.path.realpath(str(connection.settings_dict["NAME"]))  # the log lies beside the file, not beside a link
    return [Path(path + ending) for ending in ("", "-wal", "-shm", "-journal")]


def is_on_server(source: Source) -> bool:
    """Is the source the database that this console has on a server, by whatever name the server is called?"""
    kind, options = described()
    if kind != "postgresql" or source.kind != kind:
        return False
    if any(source.options.get(name) != options[name] for name in ("port", "database")):
        return False
    return not _addresses(str(source.options.get("host", ""))).isdisjoint(_addresses(str(options["host"])))


def _addresses(host: str) -> set[str]:
    """The name and every address it has now; sockets and loopback are this host."""
    if not host or host.startswith("/"):
        return {_HERE}
    found = {host.casefold().rstrip(".")}
    with contextlib.suppress(OSError, UnicodeError):  # a name that leads nowhere has no address
        found |= {str(answer[4][0]) for answer in socket.getaddrinfo(host, None)}
    return {_HERE if _is_here(one) else one for one in found}


def _is_here(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == _HERE
    plain = getattr(found, "ipv4_mapped", None) or found
    return plain.is_loopback or plain.is_unspecified or _is_ours(str(plain), plain.version)


def _is_ours(address: str, version: int) -> bool:
    """Whoever speaks to an address of this host speaks from it. Nothing is sent: UDP only asks the kernel for a way."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0]) == address
    return False
