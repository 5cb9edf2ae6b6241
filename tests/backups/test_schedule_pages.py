"""Schedules in the admin, and what the scheduler's own pages refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, User
from backups.models import Backup, Schedule, Source
from backups.services import schedules, slots
from tests.backups import stories

FIELDS = {
    "name": "nightly", "type": "files", "strategy": "", "tags": "", "environment": "", "cron_expression": "0 2 * * *",
    "timezone": "Asia/Shanghai", "policy": "", "misfire": "run_once", "grace_seconds": "3600",
}  # fmt: skip


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


@pytest.fixture
def nightly(source: Source, by: Actor) -> Schedule:
    """Daily at 02:00 in Shanghai."""
    return schedules.create("nightly", "files", "0 2 * * *", by=by, timezone="Asia/Shanghai", sources=[source])


def page_of(schedule: Schedule) -> str:
    return reverse("admin:backups_schedule_change", args=[schedule.pk])


# --- our page -------------------------------------------------------------------------------------------------------


def test_a_schedule_is_added_on_its_page(browser: Client, source: Source) -> None:
    shown = browser.get(reverse("admin:backups_schedule_add"))
    page = browser.post(reverse("admin:backups_schedule_add"), {**FIELDS, "sources": [str(source.pk)]})

    assert (shown.status_code, page.status_code) == (200, 302), page.text
    made = Schedule.objects.get()
    assert (made.enabled, list(made.sources.all()), made.periodic_task.enabled) == (True, [source], True)
    assert AuditEvent.objects.get(action="schedule.create").actor_name == "olivia"


def test_the_page_shows_the_next_runs_in_words_and_times(browser: Client, nightly: Schedule) -> None:
    slots.schedule_due(nightly.pk, schedules.next_runs(nightly)[0])

    page, listed = browser.get(page_of(nightly)).text, browser.get(reverse("admin:backups_schedule_changelist")).text

    assert page.count("02:00 CST (in ") == 5
    assert "At 02:00" in page and "18:00 UTC: run" in page
    assert "02:00 CST<" in listed and ">in " in listed and "18:00 run" in listed
    assert "<title> Schedules |" in " ".join(listed.split())
    schedules.disable(nightly, by=Actor(None, "x", "user"), reason="because")
    assert "none: the schedule is disabled" in browser.get(page_of(nightly)).text


def test_a_change_goes_through_the_service(browser: Client, nightly: Schedule, source: Source) -> None:
    changed = {**FIELDS, "cron_expression": "30 3 * * *", "sources": [], "enabled": "on"}

    page = browser.post(page_of(nightly), changed)

    nightly.refresh_from_db()
    assert page.status_code == 302, page.text
    assert (nightly.cron_expression, nightly.sources.count()) == ("30 3 * * *", 0)
    assert (nightly.crontab.hour, nightly.crontab.minute) == ("3", "30")


def test_tags_are_lines_of_name_and_value(browser: Client, nightly: Schedule) -> None:
    browser.post(page_of(nightly), {**FIELDS, "tags": "team=search\ntier=1", "sources": [], "enabled": "on"})

    nightly.refresh_from_db()
    assert nightly.tags == {"team": "search", "tier": "1"}
    assert "team=search\ntier=1" in browser.get(page_of(nightly)).text


def test_switching_off_asks_for_the_reason(browser: Client, nightly: Schedule, source: Source) -> None:
    off = {**FIELDS, "sources": [str(source.pk)]}

    unexplained = browser.post(page_of(nightly), off, follow=True)
    assert "Say why the schedule is disabled" in unexplained.text
    assert Schedule.objects.get().enabled
    browser.post(page_of(nightly), {**off, "disabled_reason": "moving house"})
    assert (Schedule.objects.get().enabled, Schedule.objects.get().disabled_reason) == (False, "moving house")
    browser.post(page_of(nightly), {**off, "enabled": "on", "disabled_reason": "moving house"})

    assert Schedule.objects.get().enabled


def test_what_the_service_refuses_is_told_on_the_page(browser: Client, nightly: Schedule) -> None:
    page = browser.post(page_of(nightly), {**FIELDS, "cron_expression": "@daily", "enabled": "on"}, follow=True)

    assert "A cron expression has five fields" in page.text
    assert Schedule.objects.get().cron_expression == "0 2 * * *"


def test_it_is_run_from_the_list(browser: Client, nightly: Schedule) -> None:
    ticked = {"action": "run_now", "_selected_action": [str(nightly.pk)]}

    first = browser.post(reverse("admin:backups_schedule_changelist"), ticked, follow=True)
    second = browser.post(reverse("admin:backups_schedule_changelist"), ticked, follow=True)

    assert "was asked for" in first.text and "is already queued" in second.text
    assert Backup.objects.get().trigger == "console"
    gone = {"action": "delete_selected", "_selected_action": [str(nightly.pk)], "post": "yes"}
    browser.post(reverse("admin:backups_schedule_changelist"), gone)
    assert Schedule.objects.exists()


def test_it_is_deleted_with_its_task(browser: Client, nightly: Schedule) -> None:
    slots.schedule_due(nightly.pk, schedules.next_runs(nightly)[0])
    stories.work()

    page = browser.post(reverse("admin:backups_schedule_delete", args=[nightly.pk]), {"post": "yes"})

    assert page.status_code == 302, page.text
    assert not Schedule.objects.exists() and not PeriodicTask.objects.filter(task="backups.schedule_due").exists()
    assert Backup.objects.get().state == "completed"


def test_who_may_only_look_changes_nothing(client: Client, operator: User, nightly: Schedule) -> None:
    operator.user_permissions.add(Permission.objects.get(codename="view_schedule"))
    client.force_login(operator)

    assert client.get(page_of(nightly)).status_code == 200
    assert client.post(page_of(nightly), {**FIELDS, "name": "x"}).status_code == 403
    ticked = {"action": "run_now", "_selected_action": [str(nightly.pk)]}
    client.post(reverse("admin:backups_schedule_changelist"), ticked)
    assert not Backup.objects.exists()


# --- the scheduler's own pages --------------------------------------------------------------------------------------

Row = Callable[[Schedule], Any]


@pytest.mark.parametrize(
    ("model", "row"),
    [("periodictask", lambda one: one.periodic_task), ("crontabschedule", lambda one: one.crontab)],
)
def test_what_a_schedule_owns_is_shown_and_not_edited(browser: Client, nightly: Schedule, model: str, row: Row) -> None:
    owned = row(nightly)
    change = reverse(f"admin:django_celery_beat_{model}_change", args=[owned.pk])

    shown = browser.get(change)
    edited = browser.post(change, {"name": "mine", "task": "x", "minute": "*", "hour": "*"})
    deleted = browser.post(reverse(f"admin:django_celery_beat_{model}_delete", args=[owned.pk]), {"post": "yes"})

    assert f'belongs to the schedule <a href="{page_of(nightly)}">nightly</a>' in shown.text
    assert 'name="_save"' not in shown.text
    assert (shown.status_code, edited.status_code, deleted.status_code) == (200, 403, 403)
    assert type(owned).objects.filter(pk=owned.pk).exists()


def test_what_is_no_number_is_no_row_of_the_scheduler(browser: Client, db: None) -> None:
    assert browser.get(reverse("admin:django_celery_beat_periodictask_change", args=["abc"])).status_code == 404


@pytest.mark.parametrize("action", ["disable_tasks", "toggle_tasks", "run_tasks", "delete_selected"])
def test_bulk_actions_pass_owned_tasks_by(browser: Client, nightly: Schedule, action: str) -> None:
    free = PeriodicTask.objects.create(
        name="free", task="backups.sweep_schedules", interval=IntervalSchedule.objects.create(every=9, period="days")
    )
    ticked = {"action": action, "_selected_action": [nightly.periodic_task_id, free.pk], "post": "yes"}

    page = browser.post(reverse("admin:django_celery_beat_periodictask_changelist"), ticked, follow=True)

    assert "belong to a schedule were left as they are" in page.text
    assert PeriodicTask.objects.get(pk=nightly.periodic_task_id).enabled
    left = PeriodicTask.objects.filter(pk=free.pk).first()
    assert (left is None) == (action == "delete_selected")
    assert left is None or left.enabled == (action == "run_tasks")


def test_rows_without_an_owner_are_edited_as_before(browser: Client, db: None) -> None:
    free = CrontabSchedule.objects.create(minute="5")
    page = reverse("admin:django_celery_beat_crontabschedule_change", args=[free.pk])

    shown = browser.get(page)

    assert 'name="_save"' in shown.text and "belongs to the schedule" not in shown.text
    assert browser.get(reverse("admin:django_celery_beat_crontabschedule_changelist")).status_code == 200
