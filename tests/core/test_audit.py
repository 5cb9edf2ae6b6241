from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.utils.translation import override

from aihub_backup.core import audit
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import AuditEvent, Environment, User
from backups.models import Backup, BackupType


def test_it_writes_down_who_did_what(environment: Environment, owner: User) -> None:
    event = audit.record("environment.created", environment, by=audit.Actor.of(owner), size=5)

    stored = AuditEvent.objects.get()
    assert stored == event
    assert (stored.actor_kind, stored.actor_id, stored.actor_name) == ("user", str(owner.pk), "olivia")
    assert (stored.target_type, stored.target_id, stored.target_name) == (
        "core.environment",
        str(environment.pk),
        "prod",
    )
    assert (stored.environment, stored.facts) == (environment.pk, {"size": 5})
    assert "olivia: environment.created prod" in str(stored)


def test_without_a_person_the_system_acts(environment: Environment) -> None:
    assert audit.record("x", environment, by=None).actor_name == "system"


def test_a_name_longer_than_its_column_is_cut(environment: Environment) -> None:
    event = audit.record("x", environment, by=audit.Actor(None, "n" * 300, "token"))

    assert event.actor_name == "n" * 200


@pytest.mark.django_db
def test_it_names_things_in_one_language_whoever_acts() -> None:
    backup = Backup(type=BackupType.FULL, created_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))

    with override("zh-hans"), transaction.atomic():
        event, shown = audit.record("backup.request", backup, by=None), str(backup)

    assert (event.target_name, shown) == ("full 2026-01-02 03:04", "完整 2026-01-02 03:04")


def test_it_masks_secrets_at_any_depth(environment: Environment) -> None:
    facts = {"options": {"host": "db", "password": "tiger"}, "urls": ["ftp://u:tiger-lily@h/"]}

    event = audit.record("x", environment, by=None, api_token="abc", **facts)

    assert event.facts == {
        "options": {"host": "db", "password": "***"}, "urls": ["ftp://u:***@h/"], "api_token": "***",
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_it_belongs_to_the_transaction_of_the_deed() -> None:
    environment = Environment.objects.create(name="prod")

    with pytest.raises(RuntimeError, match="inside the transaction"):
        audit.record("x", environment, by=None)


@pytest.mark.django_db(transaction=True)
def test_a_deed_that_failed_leaves_no_event() -> None:
    environment = Environment.objects.create(name="prod")

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        audit.record("x", environment, by=None)
        raise ZeroDivisionError

    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    "tamper",
    [
        lambda event: event.save(),
        lambda event: event.delete(),
        lambda _event: AuditEvent.objects.update(action="y"),
        lambda _event: AuditEvent.objects.all().delete(),
        lambda event: AuditEvent.objects.bulk_update([event], ["action"]),
        lambda _event: AuditEvent.objects.update_or_create(action="x"),
        lambda _event: AuditEvent._base_manager.update(action="y"),
    ],
)
def test_events_stay_as_they_are(environment: Environment, tamper: Callable[[AuditEvent], object]) -> None:
    event = audit.record("x", environment, by=None)

    with pytest.raises(Refused, match="append-only"):
        tamper(event)
    assert AuditEvent.objects.get().action == "x"


def test_an_event_outlives_what_it_names(environment: Environment, owner: User) -> None:
    audit.record("x", environment, by=audit.Actor.of(owner))

    environment.delete()
    owner.delete()

    event = AuditEvent.objects.get()
    assert (event.target_name, event.actor_name) == ("prod", "olivia")
