"""The verdict about a source: green means that it could be restored now."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aihub_backup.core.audit import Actor
from backups.models import Backup, BackupPart, Policy, Repository, ScheduleSlot, Source, Storage, Verification
from backups.services import backups, policies, protection, schedules, sources, storages, strips
from backups.services.protection import Aspect, Standing, Verdict
from disaster.services import objectives
from tests.backups import stories


@pytest.fixture
def point(source: Source, by: Actor) -> BackupPart:
    """A fresh, verified recovery point under a proven kit."""
    Repository.objects.update(kit_proven_at=timezone.now())
    made = backups.request("full", by=by, sources=[source], verify=1)
    stories.work()
    return stories.part_of(made)


def verdict(source: Source, **later: float) -> Verdict:
    """What is said of it, now or so much later."""
    fresh = Source.objects.select_related("policy").get(pk=source.pk)
    return protection.evaluate([fresh], timezone.now() + timedelta(**later))[source.pk]


def worst(found: Verdict) -> set[Aspect]:
    """The tests that decided."""
    return {one.aspect for one in found.findings if one.standing == found.standing}


def promise(source: Source, by: Actor, **fields: int) -> Policy:
    """A policy for the source."""
    policy = policies.create("promise", by=by, **fields)
    sources.update(source, by=by, policy=policy)
    return policy


def test_it_is_green_when_a_fresh_point_could_be_restored(source: Source, point: BackupPart) -> None:
    found = verdict(source)

    assert (found.standing, found.point and found.point.part) == (Standing.PROTECTED, point.pk)
    assert len(found.findings) == 5


def test_never_backed_up_is_not_green(source: Source) -> None:
    found = verdict(source)

    assert (found.standing, found.point) == (Standing.CRITICAL, None)
    assert "no usable recovery point" in found.reason


def test_it_turns_red_when_the_point_grows_older_than_its_target(source: Source, point: BackupPart, by: Actor) -> None:
    promise(source, by, rpo_target_minutes=90)

    young, old = verdict(source, minutes=80), verdict(source, minutes=100)

    assert (young.standing, old.standing) == (Standing.PROTECTED, Standing.CRITICAL)
    assert worst(old) == {Aspect.FRESH} and "over its target of 90 minutes" in old.reason


def test_without_a_policy_the_environment_says_how_old_is_too_old(source: Source, point: BackupPart, by: Actor) -> None:
    objectives.create(source.environment, by=by, rpo_minutes=90)

    young, old = verdict(source, minutes=80), verdict(source, minutes=100)

    assert (young.standing, old.standing) == (Standing.PROTECTED, Standing.CRITICAL)
    assert young.rpo == timedelta(minutes=90)


def test_a_policys_own_target_goes_before_the_environments(source: Source, point: BackupPart, by: Actor) -> None:
    objectives.create(source.environment, by=by, rpo_minutes=90)
    promise(source, by, rpo_target_minutes=30)

    assert verdict(source, minutes=40).standing == Standing.CRITICAL


@pytest.mark.parametrize("state", ["expired", "deleting", "deleted"])
def test_it_turns_red_the_moment_the_last_point_goes(source: Source, point: BackupPart, state: str) -> None:
    BackupPart.objects.update(state=state)

    assert verdict(source).standing == Standing.CRITICAL


def test_a_damaged_point_does_not_count(source: Source, point: BackupPart) -> None:
    Verification.objects.update(state="failed", problems_count=2)

    found = verdict(source)

    assert found.point is None and found.standing == Standing.CRITICAL
    assert {one.aspect for one in found.findings} == {Aspect.FRESH, Aspect.VERIFIED}


def test_an_overdue_verification_wants_a_look(source: Source, point: BackupPart, by: Actor) -> None:
    promise(source, by, rpo_target_minutes=10_000, verify_interval_hours=24)

    found = verdict(source, hours=30)

    assert (found.standing, worst(found)) == (Standing.WARNING, {Aspect.VERIFIED})


def test_promises_that_are_not_kept_want_a_look(source: Source, point: BackupPart, by: Actor) -> None:
    promise(source, by, required_copies=2, restore_test_interval_days=30)

    assert worst(verdict(source)) == {Aspect.COPIES, Aspect.TESTED}


@pytest.mark.parametrize(
    ("columns", "standing"),
    [
        ({"kit_proven_at": None, "kit_waived_at": timezone.now()}, Standing.WARNING),
        ({"kit_proven_at": None, "kit_waived_at": None}, Standing.CRITICAL),
        ({"state": "tampered"}, Standing.CRITICAL),
    ],
)
def test_keys_must_be_recoverable(
    source: Source, point: BackupPart, columns: dict[str, object], standing: Standing
) -> None:
    Repository.objects.update(**columns)

    found = verdict(source)

    assert (found.standing, worst(found)) == (standing, {Aspect.KEYS})


def test_a_point_whose_storage_failed_its_test_is_no_protection(
    source: Source, point: BackupPart, by: Actor, tmp_path: Path
) -> None:
    storage = point.repository.storage
    Path(storage.options["path"]).rename(tmp_path / "unmounted")
    storages.test(storage, by=by)

    judged = verdict(source)

    assert judged.standing == Standing.CRITICAL
    assert "out of reach" in judged.reason


def test_a_run_that_reached_the_storage_after_its_failed_test_counts(source: Source, point: BackupPart) -> None:
    assert point.finished_at is not None
    Storage.objects.update(test_error="No answer.", tested_at=point.finished_at - timedelta(microseconds=1))

    judged = verdict(source)

    assert judged.standing == Standing.PROTECTED


def test_a_last_run_that_failed_wants_a_look(source: Source, point: BackupPart, data: Path, by: Actor) -> None:
    data.rename(data.with_name("gone"))
    backups.request("full", by=by, sources=[source])
    stories.work()

    found = verdict(source)

    assert (found.standing, worst(found)) == (Standing.WARNING, {Aspect.RUN})
    assert "does not exist" in found.reason


def test_a_paused_source_is_not_judged(source: Source, point: BackupPart, by: Actor) -> None:
    sources.pause(source, by=by)

    assert verdict(source).standing == Standing.PAUSED


def test_a_hundred_verdicts_cost_as_much_as_one(source: Source, point: BackupPart) -> None:
    rows = [Source(name=f"s{at}", kind="files", environment=source.environment) for at in range(99)]
    Source.objects.bulk_create(rows)
    every = list(Source.objects.select_related("policy"))

    with CaptureQueriesContext(connection) as asked:
        found = protection.evaluate(every)

    assert len(found) == 100
    assert len(asked) <= 7


def test_a_day_is_as_good_as_its_worst_run(source: Source, point: BackupPart) -> None:
    bad = Backup.objects.create(type="full", state="failed", requested_by_name="x")
    BackupPart.objects.create(backup=bad, source=source, repository=point.repository, state="failed")

    cells = strips.strips([source])[source.pk]

    assert [cell.state for cell in cells] == ["none"] * 29 + ["failed"]


def test_a_missed_slot_of_a_schedule_that_names_nobody_is_seen_where_it_means_somebody(
    source: Source, by: Actor, tmp_path: Path
) -> None:
    (tmp_path / "db").mkdir()
    other = sources.create("elsewhere", "files", {"paths": [str(tmp_path / "db")]}, by=by, tags={"tier": "2"})
    schedule = schedules.create("all of tier 2", "files", "0 * * * *", by=by, tags={"tier": "2"})
    slot = ScheduleSlot.objects.create(schedule=schedule, due_at=timezone.now(), state="missed")

    shown = strips.strips([source, other])
    together = strips.together(Source.objects.filter(pk=other.pk))

    assert slot.state == "missed"
    assert [shown[one.pk][-1].state for one in (source, other)] == ["none", "missed"]
    assert together.strip[-1].state == "missed"
    assert strips.together(Source.objects.filter(pk=source.pk)).strip[-1].state == "none"
