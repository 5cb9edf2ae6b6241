"""What is done with a set when another console has taken one of its two repositories over."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import AuditEvent, User
from backups.models import Backup, BackupPart, PartState, Policy, Repository, RepositoryState, Source
from backups.services import backups, holds, sources, storages
from tests.backups import stories
from tests.recovery.stories import backed_up

TOMORROW = timedelta(days=1)


@pytest.fixture
def second(by: Actor, tmp_path: Path, repository: Repository) -> Repository:
    """Another repository beside “main”."""
    storage = storages.create("other disk", "local", {"path": str(tmp_path / "other disk")}, by=by, test=False)
    return stories.ready("second", storage, by=by).repository


@pytest.fixture
def pair(source: Source, second: Repository, by: Actor, tmp_path: Path) -> Backup:
    """A set: “docs” in “main”, “mail” in “second”. “main” is another console's by now, and this one knows."""
    place = tmp_path / "mail"
    place.mkdir()
    mail = sources.create("mail", "files", {"paths": [str(place)]}, by=by, repository=second)
    backup = backed_up(by, source, mail)
    Policy.objects.update(immutable_days=0)
    Repository.objects.filter(name="main").update(state=RepositoryState.TAKEN_OVER)
    return backup


def test_it_is_held_where_it_can_be_told_and_says_where_it_cannot(pair: Backup, second: Repository, by: Actor) -> None:
    backups.hold(pair, until=timezone.now() + TOMORROW, by=by, reason="kept")
    stories.work()

    assert backups.get(pair.pk).held
    assert str(pair.pk) in stories.opened(second).log.holds
    assert holds.cannot_be_told(pair) == ["main"]
    event = AuditEvent.objects.get(action="backup.hold.untold")
    assert event.facts["code"] == "taken-over" and "“main”" in event.facts["sentence"]
    errors = BackupPart.objects.values_list("repository__name", "error_code").order_by("repository__name")
    assert list(errors) == [("main", "taken-over"), ("second", "")]


def test_the_page_says_where_it_cannot_be_told(pair: Backup, client: Client, owner: User) -> None:
    client.force_login(owner)
    given = {"confirmed": "yes", "reason": "audit", "until": f"{timezone.now() + 9 * TOMORROW:%Y-%m-%d}"}

    answer = client.post(reverse("admin:backups_backup_do", args=[pair.pk, "hold"]), given, follow=True)

    assert "“main” cannot be told: another console has taken it over" in answer.text
    assert "“second” cannot" not in answer.text


def test_it_is_held_nowhere_when_none_can_be_told(pair: Backup, by: Actor) -> None:
    Repository.objects.update(state=RepositoryState.TAKEN_OVER)

    with pytest.raises(Refused, match="taken the repository") as refusal:
        backups.hold(pair, until=timezone.now() + TOMORROW, by=by)

    assert refusal.value.code == "taken-over"
    assert not backups.get(pair.pk).held
    assert not AuditEvent.objects.filter(action="backup.hold.untold").exists()


def test_it_is_not_deleted_by_half_and_the_sentence_names_what_bars_it(pair: Backup, by: Actor) -> None:
    with pytest.raises(Refused) as refusal:
        backups.delete(pair, by=by)

    assert refusal.value.code == "taken-over"
    assert "The part of “docs” lies in “main”, so nothing of this backup is deleted" in refusal.value.message
    assert set(BackupPart.objects.values_list("state", flat=True)) == {PartState.COMPLETED}
