"""The admin's page about what came back."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import User
from backups.models import Backup
from tests.recovery.stories import asked


@pytest.fixture
def signed_in(client: Client, owner: User) -> Client:
    """The owner's browser."""
    client.force_login(owner)
    return client


def test_it_shows_a_recovery_with_its_parts(signed_in: Client, backup: Backup, target: Path, by: Actor) -> None:
    recovery = asked(by, backup, target)

    assert str(target) in signed_in.get("/admin/recovery/recovery/").content.decode()
    answer = signed_in.get(f"/admin/recovery/recovery/{recovery.pk}/change/")

    assert (answer.status_code, str(target) in answer.content.decode()) == (200, True)
    assert signed_in.get("/admin/recovery/recovery/add/").status_code == 403
