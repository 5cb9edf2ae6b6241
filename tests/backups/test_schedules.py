"""Schedules: what people set, what is refused, and what the scheduler is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.models import ProtectedError
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.models import AuditEvent, Environment
from backups.models import Backup, Policy, Schedule, Source, Trigger
from backups.services import backups, beat, policies, schedules, slots, sources
from tests.backups import stories


@pytest.fixture
def other(source: Source, by: Actor, tmp_path: Path) -> Source:
    """A second source, of the team “ml”."""
    place = tmp_path / "other"
    place.mkdir()
    return sources.create("other", "files", {"paths": [str(place)]}, by=by, tags={"team": "ml", "x": "y"}, test=False)


def nightly(by: Actor, name: str = "nightly", **words: Any) -> Schedule:
    """Every night, of all files."""
    return schedules.create(name, words.pop("type", "files"), "0 2 * * *", by=by, **words)


# --- the scheduler is told ------------------------------------------------------------------------------------------


def test_a_schedule_owns_one_task_and_a_crontab_of_its_own(db: None, by: Actor) -> None:
    first = nightly(by, timezone="Asia/Shanghai")
    second = nightly(by, "the same time", timezone="Asia/Shanghai")

    task = first.periodic_task
    assert (task.task, task.args, task.kwargs) == (beat.TASK, json.dumps([str(first.pk)]), "{}")
    assert (task.enabled, str(task.crontab.timezone), task.crontab.hour) == (True, "Asia/Shanghai", "2")
    assert first.crontab_id != second.crontab_id
    assert "nightly" in task.description


def test_a_task_that_looks_for_a_crontab_to_share_never_finds_ours(db: None, by: Actor) -> None:
    from celery.schedules import crontab
    from django_celery_beat.tzcrontab import TzAwareCrontab

    owned = nightly(by).crontab

    looked_for = TzAwareCrontab(minute="0", hour="2", tz=owned.timezone)
    assert isinstance(looked_for, crontab)
    assert CrontabSchedule.from_schedule(looked_for).pk is None


def test_a_change_reaches_the_scheduler_in_the_same_transaction(db: None, by: Actor) -> None:
    schedule = nightly(by)
    PeriodicTasks.objects.update(last_update=datetime(2020, 1, 1, tzinfo=UTC))

    schedules.change(schedule, by=by, name="hourly", cron_expression="*/30 9-17 * * mon-fri")

    task = PeriodicTask.objects.get(pk=schedule.periodic_task_id)
    told = (task.crontab.minute, task.crontab.hour, task.crontab.day_of_week)
    assert told == ("0,30", "9,10,11,12,13,14,15,16,17", "1,2,3,4,5")
    assert "hourly" in task.description
    assert PeriodicTasks.last_change().year > 2020
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        schedules.change(schedule, by=by, cron_expression="0 5 * * *")
        raise ZeroDivisionError
    assert CrontabSchedule.objects.get(pk=schedule.crontab_id).hour != "5"


def test_disabling_and_enabling_reach_the_scheduler(db: None, by: Actor) -> None:
    schedule = nightly(by)

    schedules.disable(schedule, by=by, reason="moving house")
    assert not PeriodicTask.objects.get(pk=schedule.periodic_task_id).enabled
    assert schedules.next_runs(schedule) == []
    schedules.enable(schedule, by=by)

    assert PeriodicTask.objects.get(pk=schedule.periodic_task_id).enabled
    assert Schedule.objects.get().disabled_reason == ""
    assert stories.deeds()[-2:] == ["schedule.disable", "schedule.enable"]
    schedules.enable(schedule, by=by)
    assert stories.deeds().count("schedule.enable") == 1


def test_disabling_needs_a_reason(db: None, by: Actor) -> None:
    with pytest.raises(Invalid, match="Say why") as refusal:
        schedules.disable(nightly(by), by=by, reason="  ")

    assert list(refusal.value.errors) == ["reason"]


def test_what_is_deleted_leaves_nothing_with_the_scheduler_and_all_its_backups(source: Source, by: Actor) -> None:
    schedule = nightly(by)
    backup = schedules.run_now(schedule, by=by)
    stories.work()

    schedules.delete(schedule, by=by, reason="moved", confirm=True)

    assert not Schedule.objects.exists()
    assert not PeriodicTask.objects.filter(task=beat.TASK).exists()
    assert not CrontabSchedule.objects.exists()
    assert backups.get(backup.pk).state == "completed"
    assert AuditEvent.objects.get(action="schedule.delete").facts["reason"] == "moved"


def test_nobody_takes_the_task_away_from_its_schedule(db: None, by: Actor) -> None:
    schedule = nightly(by)

    with pytest.raises(ProtectedError):
        PeriodicTask.objects.get(pk=schedule.periodic_task_id).delete()
    with pytest.raises(ProtectedError):
        CrontabSchedule.objects.get(pk=schedule.crontab_id).delete()


def test_a_schedule_that_is_refused_leaves_nothing_behind(db: None, by: Actor) -> None:
    nightly(by)

    with pytest.raises(Refused, match="There is a schedule “nightly” already"):
        nightly(by, retention_days=9)

    assert (PeriodicTask.objects.filter(task=beat.TASK).count(), CrontabSchedule.objects.count()) == (1, 1)
    assert not Policy.objects.exists()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"type": "everything"}, "type"),
        ({"strategy": "tapes"}, "strategy"),
        ({"type": "files", "strategy": "redis"}, "strategy"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"tags": {"team": 5}}, "tags"),
        ({"misfire": "run_all"}, "misfire"),
        ({"retention_days": 0}, "retention_days"),
        ({"colour": "green"}, "colour"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(db: None, by: Actor, words: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        nightly(by, **words)

    assert list(refusal.value.errors) == [field]
    assert not Schedule.objects.exists()


def test_sources_that_do_not_fit_are_refused(source: Source, by: Actor) -> None:
    with pytest.raises(Invalid, match="of the kind files, which “database” does not mean"):
        nightly(by, type="database", sources=[source])
    with pytest.raises(Invalid, match="sources or tags, not both"):
        nightly(by, sources=[source], tags={"team": "ml"})
    with pytest.raises(Invalid, match="belongs to the environment “default”"):
        nightly(by, sources=[source], environment=Environment.objects.create(name="elsewhere"))
    sources.archive(source, by=by)
    with pytest.raises(Refused, match="is archived"):
        nightly(by, sources=[source])


def test_one_promise_not_two(db: None, by: Actor) -> None:
    gold = policies.create("gold", by=by, keep_daily=7)

    with pytest.raises(Invalid, match="give one of them"):
        nightly(by, policy=gold, retention_days=7)


def test_days_alone_make_or_reuse_the_policy(db: None, by: Actor) -> None:
    first, second = nightly(by, retention_days=7), nightly(by, "again", retention_days=7)
    schedules.change(second, by=by, retention_days=30)

    assert (str(first.policy), str(second.policy)) == ("keep 7 days", "keep 30 days")
    assert Policy.objects.count() == 2


# --- which sources --------------------------------------------------------------------------------------------------


def test_tags_choose_the_sources_that_carry_all_of_them(source: Source, other: Source, by: Actor) -> None:
    schedule = nightly(by, tags={"team": "ml"})

    backup = schedules.run_now(schedule, by=by)

    assert [part.source.name for part in backup.parts.all()] == ["other"]
    schedules.change(schedule, by=by, tags={"team": "ml", "x": "z"})
    assert list(slots.covered(schedule)) == []


def test_named_sources_replace_tags_and_may_be_unnamed_again(source: Source, other: Source, by: Actor) -> None:
    schedule = nightly(by, tags={"team": "ml"})

    schedules.change(schedule, by=by, sources=[source])
    assert (list(slots.covered(schedule)), schedule.tags) == ([source], {})
    schedules.change(schedule, by=by, sources=[])

    assert set(slots.covered(schedule)) == {source, other}
    assert AuditEvent.objects.filter(action="schedule.update").latest("at").facts["changed"] == ["sources"]


def test_an_environment_narrows_it(source: Source, by: Actor) -> None:
    schedule = nightly(by, environment=Environment.objects.create(name="elsewhere"))

    with pytest.raises(Refused, match="nothing to back up"):
        schedules.run_now(schedule, by=by)
    schedules.change(schedule, by=by, environment=None)
    assert schedules.run_now(schedule, by=by)


def test_a_paused_source_among_the_named_is_left_out(source: Source, other: Source, by: Actor) -> None:
    schedule = nightly(by, sources=[source, other])
    sources.pause(other, by=by)

    backup = schedules.run_now(schedule, by=by)

    assert [part.source.name for part in backup.parts.all()] == ["docs"]
    sources.pause(source, by=by)
    with pytest.raises(Refused, match="All sources of the schedule “nightly” are paused"):
        schedules.run_now(schedule, by=by)


def test_a_schedule_with_an_archived_source_can_still_be_changed(source: Source, other: Source, by: Actor) -> None:
    schedule = nightly(by, sources=[source, other])
    sources.archive(other, by=by)

    schedules.change(schedule, by=by, cron_expression="0 3 * * *")

    assert schedule.sources.count() == 2


def test_running_now_leaves_the_slots_alone(source: Source, by: Actor) -> None:
    schedule = nightly(by)
    schedules.disable(schedule, by=by, reason="by hand only")

    backup = schedules.run_now(schedule, by=by, trigger=Trigger.CONSOLE)

    assert (backup.trigger, backup.requested_by_name, backup.label) == ("console", "olivia", "nightly")
    assert not schedule.slots.exists()
    with pytest.raises(Refused) as refusal:
        schedules.run_now(schedule, by=by)
    assert refusal.value.code == "operation-in-progress"


def test_the_last_schedule_of_a_source_needs_a_second_word(source: Source, other: Source, by: Actor) -> None:
    everything, ml = nightly(by), nightly(by, "ml", tags={"team": "ml"})

    with pytest.raises(Refused, match="No other schedule makes backups of “docs”") as refusal:
        schedules.delete(everything, by=by)

    assert refusal.value.code == "last-schedule-of-source"
    schedules.delete(ml, by=by)
    schedules.disable(everything, by=by, reason="no more")
    schedules.delete(everything, by=by)
    assert not Schedule.objects.exists()


# --- presets --------------------------------------------------------------------------------------------------------


def test_presets_are_schedules_as_people_know_them(db: None, by: Actor) -> None:
    made = [schedules.create(by=by, **schedules.preset(one.key)) for one in schedules.presets()]

    told = [(one.name, one.type, one.cron_expression, str(one.policy)) for one in made]
    assert told == [
        ("Daily Database Backup", "database", "0 2 * * *", "keep 7 days"),
        ("Weekly Files Backup", "files", "0 1 * * 0", "keep 30 days"),
    ]
    with pytest.raises(Failure, match="the presets are daily-database, weekly-files"):
        schedules.preset("yearly-tapes")


@pytest.mark.parametrize("words", [{"type": "redis"}, {"type": "config"}, {"type": "full", "strategy": "logs"}])
def test_a_schedule_that_could_never_run_is_refused(db: None, by: Actor, words: dict[str, Any]) -> None:
    schedule = nightly(by)

    with pytest.raises(Refused, match=r"has no strategy for “[a-z]+” yet, so there is nothing") as refusal:
        nightly(by, "other", **words)
    with pytest.raises(Refused, match="has no strategy for"):
        schedules.change(schedule, by=by, **words)

    assert refusal.value.code == "source-not-ready"
    assert Schedule.objects.get().type == "files"


def test_a_preset_that_could_never_run_is_not_offered_and_says_why(db: None, by: Actor) -> None:
    with pytest.raises(Refused, match="has no strategy for “redis” yet"):
        schedules.create(by=by, **schedules.preset("hourly-redis"))

    assert [one.key for one in schedules.presets()] == ["daily-database", "weekly-files"]
    assert not Policy.objects.exists()


def test_a_change_of_time_forgets_what_was_waiting(source: Source, by: Actor) -> None:
    schedule = nightly(by)
    slots.schedule_due(schedule.pk, datetime(2030, 1, 1, 2, 30, tzinfo=UTC))
    assert Backup.objects.exclude(state="missed").count() == 1
    schedule.slots.filter(state="run").update(state="due", backup=None)

    schedules.change(schedule, by=by, cron_expression="0 4 * * *")

    assert schedule.slots.filter(note="The schedule was given another time.").get().state == "skipped"
