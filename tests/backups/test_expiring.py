"""Retention applied: points go through the ordinary deletion, and only whole backups go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid
from aihub_backup.core.models import AuditEvent
from backups import tasks
from backups.models import Backup, BackupState, Policy, Repository, Source, Verification, VerificationState
from backups.services import backups, expiring, policies, sources, verifications
from tests.backups import stories


def made(by: Actor, age: int, policy: Policy | None = None, *chosen: Source) -> Backup:
    """A finished backup that is so many days old."""
    asked = backups.request("files", by=by, policy=policy, sources=list(chosen) or None)
    stories.work()
    Backup.objects.filter(pk=asked.pk).update(created_at=timezone.now() - timedelta(days=age))
    return backups.get(asked.pk)


@pytest.fixture
def week(by: Actor, source: Source) -> Policy:
    """Keep 7 days."""
    return policies.keep_days(7, by=by)


def names(found: list[Backup]) -> list[object]:
    """Their ids."""
    return [backup.pk for backup in found]


def test_what_is_too_old_is_forgotten_and_written_down(week: Policy, repository: Repository, by: Actor) -> None:
    old, young, newest = made(by, 20, week), made(by, 3, week), made(by, 0, week)

    tasks.apply_retention()
    stories.work()

    states = [backups.get(one.pk).state for one in (old, young, newest)]
    assert states == [BackupState.DELETED, BackupState.COMPLETED, BackupState.COMPLETED]
    assert sorted(stories.opened(repository).log.live) == sorted(
        stories.part_of(one).snapshot_id for one in (young, newest)
    )
    event = AuditEvent.objects.get(action="backup.delete")
    assert (event.actor_kind, event.facts["reason"]) == ("system", "its retention is over (keep 7 days)")
    assert expiring.apply_retention() == []


def test_without_a_policy_nothing_expires(source: Source, by: Actor) -> None:
    made(by, 2000)
    made(by, 0)

    assert expiring.apply_retention() == []


def test_the_sources_own_policy_counts_where_its_backups_have_none(source: Source, by: Actor, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    sources.create("more", "files", {"paths": [str(tmp_path / "more")]}, by=by, test=False)
    old = made(by, 20)
    made(by, 0)
    for one in Source.objects.all():
        sources.update(one, by=by, policy=policies.create(f"one of {one}", by=by, keep_last=1))

    assert (old.policy, names(expiring.apply_retention())) == (None, [old.pk])


def test_a_clock_far_ahead_forgets_nothing(week: Policy, by: Actor) -> None:
    made(by, 3, week)
    made(by, 0, week)

    assert expiring.apply_retention(timezone.now() + timedelta(days=5000)) == []


def test_a_recovery_set_goes_as_a_whole_or_not_at_all(source: Source, by: Actor, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = sources.create("more", "files", {"paths": [str(tmp_path / "more")]}, by=by, test=False)
    week = policies.keep_days(7, by=by)
    both = made(by, 20, week, source, other)
    made(by, 0, week, source)
    assert expiring.apply_retention() == []  # it holds the last point of “more”

    made(by, 0, week, other)

    assert names(expiring.apply_retention()) == [both.pk]


def test_what_is_held_immutable_or_being_verified_stays(week: Policy, by: Actor) -> None:
    held, verified, old = made(by, 22, week), made(by, 21, week), made(by, 20, week)
    made(by, 0, week)
    backups.hold(held, until=timezone.now() + timedelta(days=1), by=by)
    verifications.request(verified, level=1, by=by)

    assert names(expiring.apply_retention()) == [old.pk]
    policies.update(week, by=by, immutable_days=60)
    Verification.objects.update(state=VerificationState.PASSED)
    assert expiring.apply_retention() == []


def test_a_damaged_point_is_no_last_point(week: Policy, by: Actor) -> None:
    old, newest = made(by, 20, week), made(by, 0, week)
    verifications.request(newest, level=1, by=by)
    Verification.objects.update(state=VerificationState.FAILED, finished_at=timezone.now())

    assert expiring.apply_retention() == []
    assert backups.get(old.pk).state == BackupState.COMPLETED


def test_one_that_cannot_go_does_not_keep_the_others(week: Policy, by: Actor) -> None:
    first, second = made(by, 21, week), made(by, 20, week)
    made(by, 0, week)
    verifications.request(first, level=1, by=by)

    assert names(expiring.apply_retention()) == [second.pk]


def test_a_rule_that_would_keep_nothing_is_refused(db: None, by: Actor) -> None:
    with pytest.raises(Invalid, match="0 days would keep nothing") as refusal:
        policies.create("nothing", by=by, retention_days=0)
    with pytest.raises(Invalid):
        policies.update(policies.keep_days(3, by=by), by=by, retention_days=0)

    assert list(refusal.value.errors) == ["retention_days"]


def test_the_rules_of_a_policy_are_its_fields(db: None, by: Actor) -> None:
    policy = policies.create("gold", by=by, keep_last=1, keep_yearly=2, retention_days=3, immutable_days=4)

    said = expiring.rules(policy)

    assert (said.keep_last, said.keep_yearly, said.retention_days, said.immutable_days) == (1, 2, 3, 4)
