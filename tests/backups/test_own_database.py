"""The console's database on a server is known by whatever name somebody calls the server."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from backups.models import Source
from backups.services import own_database

ADDRESSES = {
    "db": "10.1.2.3", "db.example.org": "10.1.2.3", "other": "10.9.9.9", "loop": "127.0.1.1", "lan": "10.4.4.4",
}  # fmt: skip
IS_OURS = own_database._is_ours  # as it is without the fixture below


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the resolver of this host knows."""

    def getaddrinfo(host: str, _port: object) -> list[Any]:
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ADDRESSES[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(own_database, "_is_ours", lambda address, _version: address == ADDRESSES["lan"])


def test_the_kernel_knows_which_addresses_are_ours() -> None:
    assert [IS_OURS(address, 4) for address in ("127.0.0.1", "192.0.2.1")] == [True, False]


def meets(monkeypatch: pytest.MonkeyPatch, own: str, host: str, **more: object) -> bool:
    """Is a source on `host` the database that the console itself reaches at `own`?"""
    ours = {"host": own, "port": 5432, "database": "aihub"}
    monkeypatch.setattr(own_database, "described", lambda: ("postgresql", ours))
    return own_database.is_on_server(Source(kind="postgresql", options={**ours, "host": host, **more}))


@pytest.mark.parametrize(
    ("own", "host"),
    [
        ("localhost", "127.0.0.1"), ("/var/run/postgresql", "localhost"), ("127.0.0.1", "::1"), ("localhost", "loop"),
        ("db", "db.example.org"), ("db.example.org", "10.1.2.3"), ("localhost", "0.0.0.0"),
        ("127.0.0.1", "::ffff:127.0.0.1"), ("localhost", "lan"), ("lan", "/run/postgresql"),
        ("Gone.Example.org", "gone.example.org."),
    ],
)  # fmt: skip
def test_one_server_has_many_names(monkeypatch: pytest.MonkeyPatch, own: str, host: str) -> None:
    assert meets(monkeypatch, own, host)


@pytest.mark.parametrize(
    ("own", "host", "more"),
    [
        ("db", "other", {}), ("localhost", "db", {}), ("db", "gone", {}), ("db", "db", {"port": 5433}),
        ("db", "db", {"database": "shop"}),
    ],
)  # fmt: skip
def test_another_server_or_database_is_another(
    monkeypatch: pytest.MonkeyPatch, own: str, host: str, more: dict[str, object]
) -> None:
    assert not meets(monkeypatch, own, host, **more)
