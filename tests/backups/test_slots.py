"""Moments at which backups are due: each once, whoever looks, however late, whatever the clock does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, NoReturn

import pytest
import time_machine
from celery import current_app
from django.db import connection
from django_celery_beat.schedulers import DatabaseScheduler
from kombu.exceptions import OperationalError

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, Job
from backups import tasks
from backups.models import Backup, BackupState, Schedule, ScheduleSlot, Source, Trigger
from backups.services import backups, beat, schedules, slots, sources
from tests.backups import stories

MORNING = datetime(2026, 11, 26, 8, tzinfo=UTC)
Make = Callable[..., Schedule]


@pytest.fixture
def clock() -> Any:
    """It is 08:00 until somebody moves it."""
    with time_machine.travel(MORNING, tick=False) as traveller:
        yield traveller


@pytest.fixture
def hourly(source: Source, by: Actor, clock: Any) -> Make:
    """Makes a schedule that is due at every full hour after 08:00."""

    def made(**words: Any) -> Schedule:
        return schedules.create("hourly", "incremental", "0 * * * *", by=by, **words)

    return made


def at(hour: int, minute: int = 0) -> datetime:
    """A time of that morning."""
    return MORNING.replace(hour=hour, minute=minute)


def told(schedule: Schedule) -> list[tuple[str, str]]:
    """(time, state) of every slot, in order."""
    return [(f"{slot.due_at:%H:%M}", slot.state) for slot in schedule.slots.order_by("due_at")]


# --- on time --------------------------------------------------------------------------------------------------------


def test_a_slot_becomes_a_backup_with_the_schedules_words(hourly: Make, clock: Any) -> None:
    schedule = hourly(retention_days=7)
    clock.move_to(at(9))

    made = slots.schedule_due(schedule.pk)

    assert made
    backup = backups.get(made.pk)
    assert (backup.label, backup.trigger, backup.type) == ("hourly", Trigger.SCHEDULE, "incremental")
    assert (backup.requested_by_kind, backup.requested_by_name) == ("schedule", "hourly")
    assert (str(backup.policy), backup.state) == ("keep 7 days", BackupState.QUEUED)
    assert told(schedule) == [("09:00", "run")]
    stories.work()
    assert backups.get(made.pk).state == BackupState.COMPLETED


def test_nothing_is_due_before_the_first_slot(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    clock.move_to(at(8, 59))

    assert slots.schedule_due(schedule.pk) is None
    assert told(schedule) == []


def test_a_tick_is_an_alarm_clock_with_an_id(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    clock.move_to(at(9))

    tasks.schedule_due(str(schedule.pk))
    tasks.schedule_due(str(schedule.pk))
    tasks.sweep_schedules()

    assert Backup.objects.count() == 1


def test_the_real_scheduler_finds_the_task_and_would_send_only_the_id(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    scheduler = DatabaseScheduler(app=current_app, lazy=True)
    entry = next(one for one in scheduler.all_as_schedule().values() if one.task == beat.TASK)
    assert not entry.is_due().is_due
    clock.move_to(at(9))

    assert entry.is_due().is_due
    assert (entry.args, entry.options["expires"]) == ([str(schedule.pk)], 60)
    assert beat.TASK in current_app.tasks


# --- two at once ----------------------------------------------------------------------------------------------------


def test_of_two_schedulers_at_once_one_makes_the_backup(hourly: Make, clock: Any) -> None:
    schedule, together = hourly(), Barrier(2)
    clock.move_to(at(9))

    def tick(_number: int) -> Backup | None:
        try:
            together.wait(timeout=10)
            return slots.schedule_due(schedule.pk, at(9))
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        made = [one for one in pool.map(tick, range(2)) if one]

    assert len(made) == Backup.objects.count() == Job.objects.count() == 1


def test_who_does_not_see_the_others_look_still_loses_the_slot(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    slots.schedule_due(schedule.pk, at(9))
    Schedule.objects.update(decided_until=at(8))  # as if both had read the row before either wrote it

    assert slots.schedule_due(schedule.pk, at(9)) is None
    assert (Backup.objects.count(), told(schedule)) == (1, [("09:00", "run")])


# --- late -----------------------------------------------------------------------------------------------------------


def test_after_an_outage_the_newest_slot_is_run_once_and_the_others_are_missed(hourly: Make, clock: Any) -> None:
    schedule = hourly(grace_seconds=60)
    clock.move_to(at(12, 30))

    (made,) = slots.sweep()

    assert told(schedule) == [("09:00", "missed"), ("10:00", "missed"), ("11:00", "missed"), ("12:00", "run")]
    missed = Backup.objects.filter(state=BackupState.MISSED).order_by("created_at")
    assert [backup.created_at for backup in missed] == [at(9), at(10), at(11)]
    assert {(one.label, one.trigger, one.finished_at, one.parts.count()) for one in missed} == {
        ("hourly", "schedule", at(12, 30), 0)
    }
    assert made.state == BackupState.QUEUED
    event = AuditEvent.objects.get(action="schedule.missed")
    assert (event.actor_kind, event.facts["count"]) == ("schedule", 3)


def test_with_skip_what_is_older_than_the_grace_is_missed(hourly: Make, clock: Any) -> None:
    schedule = hourly(misfire="skip", grace_seconds=600)
    clock.move_to(at(10, 30))

    assert slots.sweep() == []
    assert told(schedule) == [("09:00", "missed"), ("10:00", "missed")]
    clock.move_to(at(11, 9))
    assert len(slots.sweep()) == 1
    assert told(schedule)[-1] == ("11:00", "run")


def test_a_scheduler_that_is_dead_is_replaced_by_the_sweep(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    for hour in (9, 10, 11):
        clock.move_to(at(hour, 1))
        slots.sweep()
        stories.work()

    assert told(schedule) == [("09:00", "run"), ("10:00", "run"), ("11:00", "run")]
    assert not Backup.objects.filter(state=BackupState.MISSED).exists()


def test_a_lost_broker_loses_nothing(hourly: Make, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(*_args: object, **_options: object) -> NoReturn:
        raise OperationalError("connection refused")

    schedule = hourly()
    monkeypatch.setattr(current_app, "send_task", send)
    clock.move_to(at(9))

    made = slots.schedule_due(schedule.pk)

    assert made and told(schedule) == [("09:00", "run")]
    assert Job.objects.get().state == "queued"  # it is rung for again, as every job is
    stories.work()
    assert backups.get(made.pk).state == BackupState.COMPLETED


def test_a_year_of_silence_is_told_and_not_written_down_minute_by_minute(source: Source, by: Actor, clock: Any) -> None:
    schedule = schedules.create("minutely", "files", "* * * * *", by=by)
    clock.move_to(MORNING + timedelta(days=2))

    slots.sweep()

    assert schedule.slots.count() == 1000
    assert AuditEvent.objects.get(action="schedule.slots.left_out").facts["count"] == 2 * 1440 - 1000


# --- the clock ------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_a_little_runs_nothing_twice(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    clock.move_to(at(9))
    slots.sweep()
    stories.work()

    for minute in (50, 55, 59):
        clock.move_to(at(8, minute))
        assert slots.sweep() == []
    clock.move_to(at(9, 1))
    assert slots.sweep() == []
    assert told(schedule) == [("09:00", "run")]


def test_a_clock_that_was_days_ahead_silences_nothing(hourly: Make, clock: Any) -> None:
    schedule = hourly()
    clock.move_to(MORNING + timedelta(days=9))
    slots.sweep()
    stories.hurry()  # a server's clock does not travel along
    stories.work()
    clock.move_to(at(8, 30))
    slots.sweep()
    assert told(schedule) == [("09:00", "missed")]  # within the hour that may be a clock's own correction

    clock.move_to(at(10))
    assert len(slots.sweep()) == 1
    assert told(schedule)[-1] == ("10:00", "run")


def test_a_night_with_a_repeated_hour_has_every_hour_of_it(source: Source, by: Actor, clock: Any) -> None:
    evening = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    clock.move_to(evening)
    hourly = schedules.create("hourly", "incremental", "0 * * * *", by=by, timezone="Europe/Berlin")
    nightly = schedules.create("nightly", "incremental", "30 2 * * *", by=by, timezone="Europe/Berlin")

    for minutes in range(0, 5 * 60, 10):
        clock.move_to(evening + timedelta(minutes=minutes))
        slots.sweep()
        stories.work()

    assert told(hourly) == [(f"{hour:02}:00", "run") for hour in (23, 0, 1, 2, 3)]
    assert told(nightly) == [("00:30", "run")]


# --- refused --------------------------------------------------------------------------------------------------------


def test_a_busy_source_is_waited_for_within_the_grace(hourly: Make, source: Source, by: Actor, clock: Any) -> None:
    schedule = hourly()
    backups.request("files", by=by)
    clock.move_to(at(9))

    assert slots.schedule_due(schedule.pk) is None
    slot = schedule.slots.get()
    assert (slot.state, "already queued" in slot.note) == ("due", True)
    stories.work()
    clock.move_to(at(9, 20))
    assert slots.sweep()
    assert told(schedule) == [("09:00", "run")]
    assert schedule.slots.get().note == ""


def test_what_stays_refused_is_missed_and_says_why(hourly: Make, source: Source, by: Actor, clock: Any) -> None:
    schedule = hourly(grace_seconds=1800)
    sources.pause(source, by=by)
    clock.move_to(at(9))
    slots.sweep()
    assert told(schedule) == [("09:00", "due")]
    clock.move_to(at(9, 31))

    slots.sweep()

    slot = schedule.slots.get()
    assert (slot.state, "No enabled source is in scope" in slot.note) == ("missed", True)
    assert slot.backup and slot.backup.state == BackupState.MISSED


def test_a_slot_that_waits_is_missed_when_the_next_one_comes(
    hourly: Make, source: Source, by: Actor, clock: Any
) -> None:
    schedule = hourly(grace_seconds=7200)
    backups.request("files", by=by)
    for hour in (9, 10):
        clock.move_to(at(hour))
        slots.sweep()

    assert told(schedule) == [("09:00", "missed"), ("10:00", "due")]


def test_named_sources_that_are_paused_are_skipped_not_missed(
    hourly: Make, source: Source, by: Actor, clock: Any
) -> None:
    schedule = hourly(sources=[source])
    sources.pause(source, by=by)
    clock.move_to(at(9))

    slots.sweep()

    assert told(schedule) == [("09:00", "skipped")]
    assert not Backup.objects.exists()


def test_one_sick_schedule_does_not_keep_the_others(hourly: Make, source: Source, by: Actor, clock: Any) -> None:
    sick, well = schedules.create("a sick one", "files", "0 * * * *", by=by), hourly()
    Schedule.objects.filter(pk=sick.pk).update(cron_expression="not cron")
    clock.move_to(at(9))

    assert len(slots.sweep()) == 1
    assert told(well) == [("09:00", "run")]


# --- disabled -------------------------------------------------------------------------------------------------------


def test_a_disabled_schedule_makes_nothing_and_does_not_catch_up(hourly: Make, by: Actor, clock: Any) -> None:
    schedule = hourly()
    schedules.disable(schedule, by=by, reason="the disk is being replaced")
    clock.move_to(at(11, 30))
    assert (slots.sweep(), slots.schedule_due(schedule.pk)) == ([], None)
    schedules.enable(schedule, by=by)

    assert slots.sweep() == []
    clock.move_to(at(12))
    assert len(slots.sweep()) == 1
    assert told(schedule) == [("12:00", "run")]


def test_disabling_withdraws_what_waits(hourly: Make, source: Source, by: Actor, clock: Any) -> None:
    schedule = hourly()
    backups.request("files", by=by)
    clock.move_to(at(9))
    slots.sweep()

    schedules.disable(schedule, by=by, reason="not today")

    slot = schedule.slots.get()
    assert (slot.state, slot.note) == ("skipped", "not today")


def test_a_schedule_that_is_gone_is_no_error(hourly: Make, by: Actor, clock: Any) -> None:
    schedule = hourly()
    key = schedule.pk
    schedules.delete(schedule, by=by, confirm=True)

    assert slots.schedule_due(key, at(9)) is None
    assert not ScheduleSlot.objects.exists()
