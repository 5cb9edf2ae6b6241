"""A stored secret is sent to no other address than the one it was given for."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import User
from aihub_backup.core.options import OptionsError
from backups.models import Source, Storage
from backups.services import sources, storages

SERVER = {"host": "db.example.org", "database": "hub", "user": "reader", "password": "tigerlily"}
BUCKET = {"bucket": "hub", "endpoint_url": "https://s3.example.org", "access_key": "AK", "secret_key": "tigerlily"}


@pytest.fixture
def database(transactional_db: None, by: Actor) -> Source:
    """A source on a server that asks for a password."""
    return sources.create("pg", "postgresql", SERVER, by=by, test=False)


@pytest.fixture
def bucket(transactional_db: None, by: Actor) -> Storage:
    """A storage on a server that asks for a key."""
    return storages.create("s3", "s3", BUCKET, by=by, test=False)


@pytest.mark.parametrize(
    "address",
    [
        {"host": "evil.example.org"},
        {"port": 1},
        {"sslmode": "disable"},
        {"sslrootcert": "/tmp/mine.pem"},
        {"bin_dir": "/tmp"},
        {"host": "evil.example.org", "password": ""},
    ],
)
def test_a_source_is_led_to_no_other_server_with_the_stored_password(
    database: Source, by: Actor, address: dict[str, Any]
) -> None:
    with pytest.raises(OptionsError, match=next(iter(address))) as refusal:
        sources.update(database, by=by, options=address)

    assert set(refusal.value.errors) == {"password"}
    assert "tigerlily" not in str(refusal.value)
    assert Source.objects.get().options["host"] == "db.example.org"


@pytest.mark.parametrize(
    "address", [{"endpoint_url": "https://evil.example.org"}, {"path_style": False}, {"ca_bundle": "/tmp/mine.pem"}]
)
def test_a_storage_is_led_to_no_other_server_with_the_stored_key(
    bucket: Storage, by: Actor, address: dict[str, Any]
) -> None:
    with pytest.raises(OptionsError, match=next(iter(address))) as refusal:
        storages.update(bucket, by=by, options=address)

    assert set(refusal.value.errors) == {"secret_key"}
    assert Storage.objects.get().options["endpoint_url"] == "https://s3.example.org"


def test_who_gives_the_password_again_may_change_the_address(database: Source, by: Actor) -> None:
    sources.update(database, by=by, options={"host": "new.example.org", "password": "tigerlily"})

    assert Source.objects.get().options["host"] == "new.example.org"


def test_the_same_address_and_other_options_need_no_password(database: Source, by: Actor) -> None:
    same = {"host": "db.example.org", "port": "5432", "sslmode": "prefer"}
    sources.update(database, by=by, options={**same, "schemas": ["public"]})

    kept = Source.objects.get()
    assert (kept.options["schemas"], kept.secrets["password"]) == (["public"], "tigerlily")


def test_without_a_stored_password_the_address_is_free(transactional_db: None, by: Actor) -> None:
    source = sources.create("pg", "postgresql", {**SERVER, "password": ""}, by=by, test=False)

    sources.update(source, by=by, options={"host": "new.example.org"})

    assert Source.objects.get().options["host"] == "new.example.org"


def test_the_page_tells_it_beside_the_password(database: Source, client: Client, owner: User) -> None:
    client.force_login(owner)
    sent = {"option-host": "evil.example.org", "option-database": "hub", "option-user": "reader",
            "option-port": "5432", "option-sslmode": "prefer", "option-include_globals": "on",
            "option-lock_timeout_seconds": "60", "option-deadline_seconds": "86400"}  # fmt: skip

    page = client.post(reverse("admin:backups_source_options", args=[database.pk]), sent)

    assert list(page.context["form"].errors) == ["option-password"]
    assert Source.objects.get().options["host"] == "db.example.org"


def test_the_console_follows_its_database_and_forgets_a_password_that_is_no_more(database: Source, by: Actor) -> None:
    sources.move(database, by=by, options={"host": "/var/run/postgresql", "password": ""})

    kept = Source.objects.get()
    assert (kept.options["host"], kept.secrets["password"]) == ("/var/run/postgresql", "")
