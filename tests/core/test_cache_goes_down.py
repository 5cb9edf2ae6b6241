"""The cache is a real Valkey, and its host goes away: pages are slower, never wrong."""

from __future__ import annotations

import time

import pytest
from django.core.cache import cache, caches
from django.test import Client
from pytest_django.fixtures import Settings

from aihub_backup import connections
from aihub_backup.core.models import User
from tests.servers import valkey
from tests.servers.valkey import ValkeyServer


@pytest.fixture
def server(settings: Settings) -> ValkeyServer:
    """The cache of this test, as the address in AIHUB_CACHE_URL makes it."""
    server = valkey.start()
    settings.CACHES = {"default": connections.cache(server.url(1))}
    return server


def test_it_keeps_what_it_is_given(server: ValkeyServer) -> None:
    cache.set("verdict", {"protected": True}, 60)

    assert cache.get("verdict") == {"protected": True}
    assert "RedisCache" in type(caches["default"]).__name__


@pytest.mark.django_db
def test_pages_go_on_when_it_is_gone(server: ValkeyServer, client: Client, owner: User) -> None:
    client.force_login(owner)
    cache.set("verdict", "known", 60)
    server.stop()

    begin = time.monotonic()
    answer = client.get("/admin/core/job/")

    assert answer.status_code == 200
    cache.set("verdict", "new", 60)
    assert (cache.get("verdict"), cache.get_or_set("other", 7)) == (None, 7)
    assert time.monotonic() - begin < 10
