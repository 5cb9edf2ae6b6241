"""The admin's pages about what is kept: lists, verdicts, buttons, progress, and looking inside."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, Job, User
from aihub_backup.core.models.job import JobState
from backups.models import (
    Backup,
    BackupPart,
    BackupState,
    PartState,
    Policy,
    Repository,
    Source,
    Storage,
    Verification,
)
from backups.services import backups, policies, repositories, schedules
from tests.backups import stories

LISTS = ("source", "storage", "repository", "policy", "schedule", "backup", "verification", "backuppart", "site")


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


@pytest.fixture
def backup(source: Source, by: Actor) -> Backup:
    """Finished and verified."""
    made = backups.request("full", by=by, sources=[source], verify=1)
    stories.work()
    return backups.get(made.pk)


def page_of(row: Any) -> str:
    return reverse(f"admin:backups_{row._meta.model_name}_change", args=[row.pk])


def press(browser: Client, row: Any, deed: str, **more: str) -> Any:
    """Press a button of the row's page."""
    return browser.post(reverse(f"admin:backups_{row._meta.model_name}_do", args=[row.pk, deed]), more, follow=True)


def below(backup: Backup, name: str, **query: str) -> str:
    return reverse(f"admin:backups_backup_{name}", args=[backup.pk], query=query) if query else reverse(
        f"admin:backups_backup_{name}", args=[backup.pk]
    )  # fmt: skip


def many(source: Source, count: int, by: Actor) -> None:
    """As many rows of everything that lists show, made without any work."""
    keys = [uuid.uuid4() for _ in range(count)]
    for at, key in enumerate(keys):
        other = Source(name=f"s{at}-{key}", kind="files", environment=source.environment, policy=source.policy)
        other.save()
        made = Backup.objects.create(type="full", state="completed", requested_by_name="x", started_at=timezone.now())
        part = BackupPart.objects.create(
            pk=key, backup=made, source=other, repository=source.repository or Repository.objects.get(),
            state="completed", data_as_of=timezone.now(), size_bytes=5, stored_bytes=3,
        )  # fmt: skip
        Verification.objects.create(
            part=part, storage=part.repository.storage, level=1, state="passed", finished_at=timezone.now(),
            requested_by_name="x",
        )  # fmt: skip
        policies.create(f"p{key}", by=by, keep_last=1)
        schedules.create(f"n{key}", "files", "0 2 * * *", by=by, sources=[other])


# --- lists ----------------------------------------------------------------------------------------------------------


def test_a_search_without_a_hit_shows_the_way_back(browser: Client, source: Source) -> None:
    page = browser.get(reverse("admin:backups_source_changelist"), {"q": "nosuch"})

    assert "Nothing matches" in page.text and "Clear search and filters" in page.text


@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_says_what_to_do(browser: Client, name: str, db: None) -> None:
    page = browser.get(reverse(f"admin:backups_{name}_changelist"))

    assert page.status_code == 200
    assert "There is nothing here yet" in page.text


@pytest.mark.parametrize("name", LISTS)
def test_a_list_asks_the_database_as_often_for_fifty_rows_as_for_one(
    browser: Client, source: Source, by: Actor, name: str
) -> None:
    address = reverse(f"admin:backups_{name}_changelist")
    many(source, 1, by)
    browser.get(address)
    with CaptureQueriesContext(
        connection,
    ) as few:
        browser.get(address)
    many(source, 49, by)

    with CaptureQueriesContext(connection) as lots:
        page = browser.get(address)

    assert page.status_code == 200
    assert len(lots) <= len(few) + 2, "\n".join(sorted(query["sql"][:150] for query in lots))
    assert len(lots) <= 30


def test_the_list_of_sources_shows_verdict_age_and_size(browser: Client, backup: Backup, source: Source) -> None:
    page = browser.get(reverse("admin:backups_source_changelist")).text

    assert "needs a look" in page and "waived, not proven" in page
    assert "just now" in page and " kB<" in page
    assert '<svg class="strip"' in page and "1 ok" in page


@pytest.mark.parametrize("state", BackupState.values)
def test_a_backup_has_a_page_in_every_state(browser: Client, source: Source, state: str) -> None:
    made = Backup.objects.create(type="full", state=state, requested_by_name="x", started_at=timezone.now())
    job = Job.objects.create(kind="probe", queue="backup", state=JobState.QUEUED)
    part = PartState.FAILED if state not in PartState.values else state
    BackupPart.objects.create(backup=made, source=source, repository=Repository.objects.get(), state=part, job=job)

    page = browser.get(page_of(made))

    assert page.status_code == 200
    assert str(BackupState(state).label) in page.text
    assert browser.get(reverse("admin:backups_backup_changelist")).status_code == 200


def test_sources_are_filtered_by_their_verdict(browser: Client, backup: Backup, source: Source) -> None:
    Source.objects.create(name="orphan", kind="files", environment=source.environment)

    bad = browser.get(reverse("admin:backups_source_changelist"), {"standing": "critical"}).text
    fair = browser.get(reverse("admin:backups_source_changelist"), {"standing": "warning"}).text

    assert ">orphan</a>" in bad and ">docs</a>" not in bad
    assert ">docs</a>" in fair and ">orphan</a>" not in fair


def test_kinds_are_filtered_by_their_names(browser: Client, source: Source) -> None:
    Source.objects.create(name="orders", kind="sqlite", environment=source.environment)
    place = reverse("admin:backups_source_changelist")

    found = browser.get(place, {"kind": "sqlite"}).text
    chinese = browser.get(place, headers={"Accept-Language": "zh-hans"}).text

    assert ">orders</a>" in found and ">docs</a>" not in found
    for page, word in ((found, "Files and directories"), (chinese, "文件和目录")):
        assert re.search(rf"\?kind=files[^>]*>\s*(<[^>]*>\s*)*{word}", page)


# --- buttons --------------------------------------------------------------------------------------------------------


def test_a_source_is_backed_up_from_its_page_once(browser: Client, source: Source) -> None:
    first = press(browser, source, "backup")
    second = press(browser, source, "backup")

    made = Backup.objects.get()
    assert (made.trigger, made.requested_by_name) == ("console", "olivia")
    assert first.redirect_chain[-1][0] == page_of(made)
    assert "is already queued" in second.text


def test_a_ticked_source_is_backed_up_from_the_list(browser: Client, source: Source) -> None:
    ticked = {"action": "back_up_now", "_selected_action": [str(source.pk)]}

    page = browser.post(reverse("admin:backups_source_changelist"), ticked, follow=True)

    assert "was asked for" in page.text
    assert Backup.objects.get().parts.get().source == source


def test_buttons_are_posted_never_fetched(browser: Client, source: Source) -> None:
    answer = browser.get(reverse("admin:backups_source_do", args=[source.pk, "backup"]))

    assert answer.status_code == 405
    assert not Backup.objects.exists()


def test_buttons_ask_for_the_token_of_the_page(owner: User, source: Source) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)

    answer = strict.post(reverse("admin:backups_source_do", args=[source.pk, "backup"]))

    assert answer.status_code == 403
    assert not Backup.objects.exists()


def test_who_may_only_look_sees_no_buttons_and_cannot_press_them(
    client: Client, operator: User, source: Source
) -> None:
    operator.user_permissions.add(Permission.objects.get(codename="view_source"))
    client.force_login(operator)

    page = client.get(page_of(source))
    pressed = client.post(reverse("admin:backups_source_do", args=[source.pk, "backup"]))

    assert page.status_code == 200 and "/do/backup/" not in page.text
    assert pressed.status_code == 403
    assert not Backup.objects.exists()


def test_a_storage_is_tested_and_the_result_is_a_table(
    browser: Client, storage: Storage, repository: Repository
) -> None:
    page = press(browser, storage, "test")

    assert "takes, gives back, lists and deletes" in page.text
    assert "What the test found out" in page.text and "Can be written to" in page.text


def test_a_source_that_is_gone_says_so(browser: Client, source: Source, data: Path) -> None:
    data.rename(data.with_name("gone"))

    page = press(browser, source, "test")

    source.refresh_from_db()
    assert source.test_error and escape(source.test_error) in page.text


def test_a_pause_is_explained_then_done(browser: Client, source: Source) -> None:
    asked = press(browser, source, "pause")
    assert "no new recovery points are made" in asked.text
    source.refresh_from_db()
    assert source.enabled

    press(browser, source, "pause", confirmed="yes", reason="moving house")

    source.refresh_from_db()
    assert not source.enabled
    assert AuditEvent.objects.get(action="source.pause").facts["reason"] == "moving house"


def test_a_backup_is_held_released_and_deleted_with_reasons(browser: Client, backup: Backup, source: Source) -> None:
    until = f"{timezone.now() + timedelta(days=9):%Y-%m-%d}"
    press(browser, backup, "hold", confirmed="yes", reason="audit", until=until)
    refused = press(browser, backup, "delete", confirmed="yes", reason="tidy")
    held = Backup.objects.get()

    press(browser, backup, "release", confirmed="yes", reason="done")

    assert held.held and held.hold_reason == "audit"
    assert "held" in refused.text or "hold" in refused.text
    assert not Backup.objects.get().held
    last = press(browser, backup, "delete", confirmed="yes", reason="tidy")
    assert "only" in last.text and Backup.objects.get().state == "completed"


def test_a_queued_backup_is_cancelled_after_the_question(browser: Client, source: Source, by: Actor) -> None:
    made = backups.request("full", by=by, sources=[source])

    asked = press(browser, made, "cancel")
    press(browser, made, "cancel", confirmed="yes", reason="wrong one")

    made.refresh_from_db()
    assert "is given up" in asked.text
    assert made.state == "cancelled"


def test_a_backup_is_verified_once(browser: Client, backup: Backup) -> None:
    press(browser, backup, "verify")
    page = press(browser, backup, "verify")

    assert "was asked for" in page.text
    assert Verification.objects.filter(level=2).count() == 1


# --- progress -------------------------------------------------------------------------------------------------------


def test_progress_tells_bytes_rate_and_the_last_sign_of_life(browser: Client, source: Source, by: Actor) -> None:
    made = backups.request("full", by=by, sources=[source])
    Backup.objects.update(state="running", started_at=timezone.now() - timedelta(minutes=2))
    BackupPart.objects.update(state="running")
    Job.objects.update(
        state="running", heartbeat_at=timezone.now() - timedelta(seconds=2),
        progress={"phase": "reading", "bytes_done": 1024**3, "bytes_total": 1024**3, "items_done": 7, "items_total": 7,
                  "ratio": 1.0, "bytes_per_second": 1024**2},
    )  # fmt: skip

    answer = browser.get(below(made, "progress"))

    assert "HX-Refresh" not in answer.headers
    assert 'aria-valuenow="99"' in answer.text and "running (reading)" in answer.text
    assert "1.1 GB" in answer.text and "1.0 MB/s" in answer.text and "7 / 7" in answer.text
    assert re.search(r"reported \d+ s ago", answer.text) and "You can close this page" in answer.text
    assert 'hx-trigger="every 2s' in answer.text


def test_progress_warns_of_silence_and_ends_with_the_work(browser: Client, source: Source, by: Actor) -> None:
    made = backups.request("full", by=by, sources=[source])
    Backup.objects.update(state="running", started_at=timezone.now())
    Job.objects.update(state="running", heartbeat_at=timezone.now() - timedelta(seconds=100))
    silent = browser.get(below(made, "progress"))
    Backup.objects.update(state="failed", finished_at=timezone.now())

    ended = browser.get(below(made, "progress"))

    assert re.search(r"has been silent for 1\d\d s", silent.text)
    assert ended.headers["HX-Refresh"] == "true" and "hx-get" not in ended.text


def test_a_missed_backup_says_which_slot_it_was_and_why(browser: Client, source: Source, by: Actor) -> None:
    schedule = schedules.create("nightly", "full", "0 2 * * *", by=by, sources=[source])
    missed = Backup.objects.create(type="full", state="missed", label="nightly", requested_by_name="nightly")
    due = datetime(2026, 11, 27, 2, 0, tzinfo=UTC)
    schedule.slots.create(due_at=due, state="missed", backup=missed, note="A newer slot took its place.")

    page = browser.get(page_of(missed)).text

    assert "2026-11-27 02:00 UTC" in page and "A newer slot took its place." in page
    assert reverse("admin:backups_schedule_change", args=[schedule.pk]) in page


def test_a_source_shows_its_kind_in_words_and_no_cross_for_a_plain_no(browser: Client, source: Source) -> None:
    page, listed = browser.get(page_of(source)).text, browser.get(reverse("admin:backups_source_changelist")).text

    assert "own database" not in page
    assert "Files and directories" in listed and "<title> Sources |" in " ".join(listed.split())


def test_pages_show_no_bookkeeping_and_say_what_was_left_out(browser: Client, backup: Backup) -> None:
    why = "There are several repositories, and the source names none: say where its backups go (main, second)."
    Backup.objects.filter(pk=backup.pk).update(left_out={"lost": why})
    pages = [("backup", backup.pk), ("repository", Repository.objects.get().pk)]

    of_backup, of_repository = (
        browser.get(reverse(f"admin:backups_{model}_change", args=[key])).text for model, key in pages
    )

    assert "Measured" not in of_repository and "left_out" not in of_backup
    assert of_backup.count(why) == 1


def test_a_repository_shows_no_marks_of_its_log(browser: Client, backup: Backup) -> None:
    page = browser.get(page_of(Repository.objects.get())).text

    assert "log/0000" not in page and "Histories accepted" not in page


# --- inside ---------------------------------------------------------------------------------------------------------


def test_directories_are_browsed_and_searched(browser: Client, backup: Backup, data: Path) -> None:
    here = str(data).strip("/")

    listed = browser.get(below(backup, "contents", path=here)).text
    found = browser.get(below(backup, "contents", q="blob")).text

    assert "00.txt" in listed and "deep/" in listed and "4.4 kB" not in found
    assert "deep/er/blob" in found and "00.txt" not in found
    assert f'href="{reverse("admin:recovery_recovery_new")}"' in listed


def test_a_long_directory_comes_page_by_page(
    browser: Client, source: Source, data: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(450):
        (data / f"n{number:04}").touch()
    backups.request("full", by=by, sources=[source])
    stories.work()
    address, seen = below(Backup.objects.get(), "contents", path=str(data).strip("/")), ""

    for _turn in range(3):
        page = browser.get(address).text
        seen += page
        address = _next(page, address)

    assert all(f">n{number:04}</td>" in seen for number in range(450))
    assert seen.count(">n0100</td>") == 1


def test_changes_between_two_points_are_shown(
    browser: Client, backup: Backup, source: Source, data: Path, by: Actor
) -> None:
    (data / "00.txt").write_text("changed")
    (data / "brand-new").touch()
    (data / "01.txt").unlink()
    later = backups.request("incremental", by=by, sources=[source])
    stories.work()

    page = browser.get(below(later, "diff")).text
    versions = browser.get(below(later, "versions", path=str(data / "00.txt"))).text

    assert all(words in page for words in ("brand-new", "01.txt", "00.txt", ">gone<", ">new<", ">changed<"))
    assert ">7 B<" in versions and ">1.4 kB<" in versions


def test_names_are_for_those_who_may_see_them(client: Client, operator: User, backup: Backup) -> None:
    operator.user_permissions.add(Permission.objects.get(codename="view_backup"))
    client.force_login(operator)

    inside = client.get(below(backup, "contents"))

    assert inside.status_code == 403
    assert "backup.request" in client.get(below(backup, "log")).text


def test_damage_names_files_only_to_those_who_may_see_them(client: Client, operator: User, backup: Backup) -> None:
    Verification.objects.update(problems=[{"object": "packs/x", "paths": ["/srv/secret-plan"], "message": "gone"}])
    check = Verification.objects.get()
    operator.user_permissions.add(Permission.objects.get(codename="view_verification"))
    client.force_login(operator)
    before = client.get(page_of(check))
    operator.user_permissions.add(Permission.objects.get(codename="browse_backup"))

    after = client.get(page_of(check))

    assert before.status_code == 200 and "secret-plan" not in before.text
    assert "secret-plan" in after.text


def test_a_check_shows_its_progress(browser: Client, backup: Backup) -> None:
    check = Verification.objects.get()
    Verification.objects.update(state="running", started_at=timezone.now())

    running = browser.get(page_of(check))
    fragment = browser.get(reverse("admin:backups_verification_progress", args=[check.pk]))

    assert 'hx-trigger="every 2s' in running.text and 'role="progressbar"' in fragment.text


def test_what_cannot_be_opened_is_told(browser: Client, source: Source, by: Actor) -> None:
    made = backups.request("full", by=by, sources=[source])

    page = browser.get(below(made, "contents"))

    assert page.status_code == 200 and "holds no recovery point" in page.text


# --- the kit --------------------------------------------------------------------------------------------------------


def test_a_wrong_code_is_refused_on_the_kits_page(browser: Client, repository: Repository) -> None:
    page = reverse("admin:backups_repository_kit", args=[repository.pk])

    shown = browser.get(page).text
    refused = browser.post(page, {"code": "AAAA-BBBB"}, follow=True)

    assert repository.engine_id is not None and repository.engine_id in shown
    assert " " + "-".join(["____"] * 14) + "\n" in shown  # a code's 56 letters in its groups of four
    repository.refresh_from_db()
    assert (repository.kit_proven_at is None and "badge" in refused.text) or "errornote" in refused.text


def test_the_printed_code_is_proven_on_the_kits_page(browser: Client, storage: Storage, by: Actor) -> None:
    kit = repositories.create("vault", storage, by=by)
    page = reverse("admin:backups_repository_kit", args=[kit.repository.pk])
    assert kit.code not in browser.get(page).text

    proven = browser.post(page, {"code": kit.code}, follow=True)

    assert "opens “vault”" in proven.text and kit.code not in proven.text
    assert Repository.objects.get().kit_proven_at is not None
    assert AuditEvent.objects.get(action="repository.kit.prove").actor_name == "olivia"


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_the_page_of_a_source_tells_each_test(browser: Client, backup: Backup, source: Source) -> None:
    page = browser.get(page_of(source)).text

    assert all(words in page for words in ("Fresh", "Verified", "Copies", "Restore-tested", "Recoverable keys"))
    assert "Verified at level 1" in page


def test_a_policy_counts_its_sources_and_says_what_it_keeps(browser: Client, source: Source, by: Actor) -> None:
    policy: Policy = policies.create("gold", by=by, keep_daily=7, keep_weekly=4)
    Source.objects.update(policy=policy)

    page = browser.get(reverse("admin:backups_policy_changelist")).text

    assert "7 daily, 4 weekly" in page


def _next(page: str, otherwise: str) -> str:
    if "Next page" not in page:
        return otherwise
    href = page.split('">Next page', maxsplit=1)[0].rsplit('href="', 1)[1]
    return otherwise.split("?", maxsplit=1)[0] + href.replace("&amp;", "&")
