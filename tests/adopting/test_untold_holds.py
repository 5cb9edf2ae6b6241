"""A hold that a repository's log could not be told is told as soon as it may be written again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import AuditEvent
from backups.models import Backup, BackupPart, PartState, Repository, RepositoryState, Source, Storage
from backups.services import adopting, backups, repositories
from tests.adopting.stories import FirstConsole, adopted, lost
from tests.backups import stories
from tests.recovery.stories import backed_up

TAMPERED = Failure("records are gone", permanent=True, code="tampered")


@pytest.fixture
def month() -> datetime:
    """Until when things are held."""
    return timezone.now() + timedelta(days=30)


def taken_from_us(lone: FirstConsole, storage: Storage, by: Actor) -> Repository:
    """Another console has adopted the repository, and this one, with its old keyfile, has not found out yet."""
    old = Repository.objects.get().secrets["keyfile"]
    lost()
    repository, _job = adopted(storage, lone.code, by)
    repository.secrets = {"keyfile": old}
    repository.save()
    return repository


def untold() -> list[str]:
    """Codes of the holds that could not be told."""
    return [event.facts["code"] for event in AuditEvent.objects.filter(action="backup.hold.untold")]


def test_taken_back_the_log_is_told_of_the_hold_it_refused(
    lone: FirstConsole, storage: Storage, by: Actor, month: datetime
) -> None:
    taken_from_us(lone, storage, by)
    backups.hold(Backup.objects.get(), until=month, by=by, reason="the auditors ask")
    stories.work()
    assert untold() == ["taken-over"]
    assert Repository.objects.get().state == RepositoryState.TAKEN_OVER

    adopting.adopt(storage, None, by=by, take_over=True)
    stories.work()

    assert stories.part_of(Backup.objects.get()).error_code == ""
    lost()
    adopted(storage, lone.code, by)
    assert (Backup.objects.get().hold_until, Backup.objects.get().hold_reason) == (month, "the auditors ask")


def test_taken_back_a_failed_backup_still_says_why(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    Repository.objects.update(state=RepositoryState.TAKEN_OVER)
    BackupPart.objects.update(state=PartState.FAILED, error_code="taken-over", error_message="Another console …")

    adopting.adopt(storage, None, by=by, take_over=True)

    assert BackupPart.objects.get().error_code == "taken-over"


def test_an_accepted_history_is_told_of_the_holds_it_missed(
    repository: Repository, source: Source, storage: Storage, by: Actor, month: datetime
) -> None:
    backup = backed_up(by, source)
    repositories.learn(repository, TAMPERED)
    backups.hold(backup, until=month, by=by, reason="kept")
    stories.work()
    assert len(untold()) == 1
    repository.refresh_from_db()

    repositories.accept_history(repository, reason="looked at", by=by)
    stories.work()

    held = stories.opened(repository).log.holds[str(backup.pk)]
    assert held == {"until": month.timestamp(), "reason": "kept"}


def test_what_is_not_held_is_not_told_again(repository: Repository, source: Source, by: Actor) -> None:
    backed_up(by, source)
    repositories.learn(repository, TAMPERED)
    repository.refresh_from_db()

    repositories.accept_history(repository, reason="looked at", by=by)

    assert stories.work() == 0
