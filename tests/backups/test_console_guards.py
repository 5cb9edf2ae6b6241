"""Whoever reads a backup of the console's database holds every secret: the doors that stay shut, and how it moves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils.translation import override
from rest_framework.test import APIClient

from aihub_backup.cli import examinations, parser
from aihub_backup.core import access, grants
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Denied, Invalid, Refused, Unavailable
from aihub_backup.core.models import Environment, User
from aihub_backup.core.roles import ADMIN, OPERATOR, VIEWER
from backups.models import Backup, OwnProtection, Policy, Repository, Schedule, Source
from backups.services import (
    backups,
    console,
    contents,
    protection,
    repositories,
    schedules,
    sealing,
    sources,
    storages,
)
from backups.services.protection import Standing
from backups.services.recovery_kits import RecoveryKit
from recovery.models import Recovery
from recovery.services import recoveries
from recovery.services.recoveries import Target
from tests.api.stories import Caller, is_problem
from tests.backups.stories import back_up, deeds, hurry, part_of, ready, work

ON_THE_HOST = Actor(None, "root", "cli")
embedded = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the console's database is a file only here")


@pytest.fixture
def call(api: APIClient) -> Caller:
    """The owner's program: a superuser's."""
    return Caller(api)


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """The owner's browser."""
    client.force_login(owner)
    return client


@pytest.fixture
def other(kit: RecoveryKit, by: Actor, tmp_path: Path) -> Repository:
    """A second repository, whose kit somebody else holds."""
    place = storages.create("second", "local", {"path": str(tmp_path / "second")}, by=by, test=False)
    return ready("other", place, by=by).repository


def types(*words: str) -> int:
    """The exit code of a command on the console's host."""
    return parser.main([*words, "--home", str(settings.AIHUB_HOME)])


def doctor() -> dict[str, str]:
    """Id → sentence of what the doctor warns of."""
    return {finding.id: finding.text for finding in examinations._own() if finding.state == "warn"}


# --- it stays -------------------------------------------------------------------------------------------------------


def test_no_door_archives_the_source_or_deletes_the_schedule(own: OwnProtection, call: Caller, browser: Client) -> None:
    archived = call.delete(f"/sources/{own.source.pk}", "?reason=tidy")
    deleted = call.delete(f"/schedule/{own.schedule.pk}", "?confirm=true")
    page = browser.post(reverse("admin:backups_schedule_delete", args=[own.schedule.pk]), {"post": "yes"}, follow=True)
    typed = types("schedule", "remove", "console", "--confirm")

    assert is_problem(archived, 409, "state-conflict") and "the database of this console" in archived["detail"]
    assert is_problem(deleted, 409, "state-conflict") and "backs the console itself up" in deleted["detail"]
    assert page.status_code == 200 and "backs the console itself up" in page.text
    assert typed != 0
    assert Schedule.objects.filter(enabled=True).exists()
    assert Source.objects.filter(archived_at=None, enabled=True).exists()


@pytest.mark.parametrize("away", ["options", "repository", "environment", "node"])
def test_nobody_leads_the_source_elsewhere(own: OwnProtection, other: Repository, call: Caller, away: str) -> None:
    Environment.objects.create(name="staging")
    wanted: dict[str, Any] = {
        "options": {"path": "/srv/other.sqlite3"} if connection.vendor == "sqlite" else {"host": "db.example.org"},
        "repository": "other", "environment": "staging", "node": None if own.source.node else "testnode",
    }  # fmt: skip

    answer = call.patch(f"/sources/{own.source.pk}", {away: wanted[away]})

    assert is_problem(answer, 400, "validation-error"), answer
    assert f"leave out {away}" in answer["detail"] and "aihub source console" in answer["detail"]
    assert call.patch(f"/sources/{own.source.pk}", {"tags": {"team": "ops"}, "repository": "main"}).status == 200
    row = Source.objects.get(pk=own.source.pk)
    assert (row.options, row.repository, row.node) == (own.source.options, own.repository, own.source.node)


def test_the_admin_leads_it_nowhere_either(own: OwnProtection, other: Repository, browser: Client) -> None:
    given = {
        "name": "console", "environment": str(own.source.environment_id), "tags": "",
        "policy": str(own.source.policy_id), "repository": str(other.pk), "enabled": "on",
    }  # fmt: skip

    page = browser.post(reverse("admin:backups_source_change", args=[own.source.pk]), given, follow=True)

    assert "is led nowhere else" in page.text
    assert Source.objects.get(pk=own.source.pk).repository == own.repository


def test_a_password_cannot_be_guessed_at_that_door(own: OwnProtection, by: Actor) -> None:
    own.source.secrets = {"password": "right"}
    own.source.save()

    for guess in ("right", "wrong"):
        with pytest.raises(Invalid, match="leave out options"):
            sources.update(own.source, by=by, options={"password": guess})


def test_no_backup_of_it_goes_to_another_repository(own: OwnProtection, other: Repository, call: Caller) -> None:
    answer = call.post("/create", {"type": "full", "sources": ["console"], "repository": "other"})

    assert is_problem(answer, 422, "source-not-ready")
    assert not Backup.objects.exists()


def test_its_schedule_backs_up_nothing_else(own: OwnProtection, data: Path, by: Actor) -> None:
    docs = sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)

    changes: list[dict[str, Any]] = [
        {"sources": [docs]}, {"sources": [own.source, docs]}, {"sources": []}, {"type": "files"}
    ]  # fmt: skip

    for change in changes:
        with pytest.raises(Invalid, match="backs the console itself up and nothing else"):
            schedules.change(own.schedule, by=by, **change)

    schedules.change(own.schedule, by=by, cron_expression="45 4 * * *", sources=[own.source])
    assert list(Schedule.objects.get().sources.all()) == [own.source]


# --- it rests, and everybody is told --------------------------------------------------------------------------------


def test_a_pause_is_told_by_the_overview_and_the_doctor(own: OwnProtection, by: Actor, browser: Client) -> None:
    back_up(own.source, by)
    assert protection.evaluate([own.source])[own.source.pk].standing == Standing.PROTECTED
    assert "The console is not protected" not in browser.get("/admin/").text

    sources.pause(own.source, by=by, reason="a long migration")

    found = protection.evaluate([own.source])[own.source.pk]
    assert found.standing == Standing.CRITICAL and "is paused" in found.reason
    assert "The console is not protected" in browser.get("/admin/").text
    assert "is paused" in doctor()["own protection"]


def test_a_disabled_schedule_is_told_and_the_command_puts_all_in_service(own: OwnProtection, by: Actor) -> None:
    sources.pause(own.source, by=by)
    schedules.disable(own.schedule, by=by, reason="a long migration")
    sources.resume(own.source, by=by)
    own.refresh_from_db()
    assert "is disabled" in doctor()["own protection"]
    sources.pause(own.source, by=by)

    assert types("source", "console") == 0

    own = OwnProtection.objects.select_related("source", "schedule").get()
    assert own.source.in_service and own.schedule.enabled
    assert "own protection" not in doctor()


# --- nobody looks into it -------------------------------------------------------------------------------------------


def test_what_is_inside_is_shown_to_nobody(own: OwnProtection, by: Actor, call: Caller, browser: Client) -> None:
    first, second = back_up(own.source, by), back_up(own.source, by)

    listed = call.get(f"/{second.pk}/contents")
    compared = call.get(f"/{second.pk}/diff", {"against": str(first.pk)})
    pages = [
        browser.get(reverse(f"admin:backups_backup_{name}", args=[second.pk]), {"path": "/console.sqlite3"})
        for name in ("contents", "diff", "versions")
    ]

    assert is_problem(listed, 403, "permission-denied") and "hold every secret of this console" in listed["detail"]
    assert is_problem(compared, 403, "permission-denied")
    assert all("hold every secret of this console" in page.text for page in pages)
    with pytest.raises(Denied):
        contents.listing(part_of(second))


def test_another_backup_compared_with_it_tells_nothing(own: OwnProtection, data: Path, by: Actor) -> None:
    docs = sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)
    ours, consoles = part_of(back_up(docs, by)), part_of(back_up(own.source, by))

    with pytest.raises(Denied, match="every secret"):
        contents.diff(ours, consoles)


def test_no_button_is_offered_that_would_only_be_refused(own: OwnProtection, browser: Client) -> None:
    page = browser.get(reverse("admin:backups_source_change", args=[own.source.pk])).text

    assert "/do/pause/" in page and "/do/backup/" in page
    assert "/do/recover/" not in page and "/do/options/" not in page


def test_no_page_and_no_program_recovers_it(
    own: OwnProtection, by: Actor, call: Caller, browser: Client, tmp_path: Path
) -> None:
    made = back_up(own.source, by)
    target = {"kind": "new_place", "path": str(tmp_path / "stolen")}

    by_backup = call.post("/recover", {"type": "full", "backup_id": str(made.pk), "target": target, "reason": "x"})
    by_source = call.post("/recover", {"type": "full", "source": "console", "target": target, "reason": "x"})
    wish = {"source": str(own.source.pk), "path": target["path"], "reason": "x", "check": "yes"}
    page = browser.get("/admin/recovery/recovery/new/", wish)

    assert is_problem(by_backup, 403, "permission-denied") and "aihub restore console" in by_backup["detail"]
    assert is_problem(by_source, 403, "permission-denied")
    assert "aihub restore console" in page.text
    assert not Recovery.objects.exists()


@embedded
def test_a_command_on_the_host_brings_it_back(own: OwnProtection, by: Actor, tmp_path: Path) -> None:
    back_up(own.source, by)

    asked = recoveries.request(
        "full", by=ON_THE_HOST, source=own.source, target=Target(path=str(tmp_path / "back")), reason="a look"
    )
    work()

    assert recoveries.get(asked.pk).state == "completed"
    assert list((tmp_path / "back").iterdir())


# --- who ------------------------------------------------------------------------------------------------------------


def test_a_role_in_its_environment_sees_it_and_does_nothing_to_it(own: OwnProtection, by: Actor) -> None:
    made = back_up(own.source, by)
    own.source.refresh_from_db()
    rows: list[tuple[Any, str, str]] = [
        (own.source, "backups.view_source", "backups.change_source"),
        (own.schedule, "backups.view_schedule", "backups.change_schedule"),
        (made, "backups.view_backup", "backups.delete_backup"),
    ]  # fmt: skip
    bounded, everywhere = User.objects.create_user("rita"), User.objects.create_user("otto")
    for role in (VIEWER, OPERATOR, ADMIN):
        _grant(bounded, role, own.source.environment)
        _grant(everywhere, role)

    for row, look, deed in rows:
        assert access.covers(bounded, look, row) and not access.covers(bounded, deed, row)
        assert access.covers(everywhere, look, row) and access.covers(everywhere, deed, row)


# --- it is moved, and it fails halfway ------------------------------------------------------------------------------


@embedded
def test_a_database_that_moved_is_followed_by_the_next_backup(own: OwnProtection, by: Actor, tmp_path: Path) -> None:
    """Nobody uses the file any more: backing it up would be green every night."""
    Source.objects.update(options={"path": str(tmp_path / "yesterday.sqlite3"), "deadline_seconds": 60})
    own.source.refresh_from_db()
    assert "is not where its source" in doctor()["own protection"]

    made = back_up(own.source, by)

    assert made.state == "completed"
    assert part_of(made).source.options["path"] == str(connection.settings_dict["NAME"])
    assert "own protection" not in doctor()


def test_a_database_of_another_kind_is_never_backed_up_as_the_old_one(own: OwnProtection, by: Actor) -> None:
    former = _of_another_kind(own)

    made = back_up(former, by)

    assert made.state == "failed"
    assert "aihub source console" in part_of(made).error_message


def test_the_command_takes_a_database_of_another_kind_and_keeps_the_old_one_shut(own: OwnProtection, by: Actor) -> None:
    former, made = own.source, back_up(own.source, by)
    _of_another_kind(own)

    moved = console.protect(own.repository, by=by)

    former.refresh_from_db()
    assert (moved.pk, moved.source.name, moved.source.kind) == (own.pk, "console", connection.vendor)
    assert list(moved.schedule.sources.all()) == [moved.source]
    assert former.archived_at and former.name.startswith("console (")
    assert back_up(moved.source, by).state == "completed"
    with pytest.raises(Denied):
        contents.listing(part_of(made))


def test_a_kit_that_is_proven_twice_at_once_makes_one_protection(kit: RecoveryKit, by: Actor) -> None:
    repositories.prove_kit(kit.repository, kit.code, by=by)
    repositories.prove_kit(kit.repository, kit.code, by=by)

    assert work() == 4  # two askings, and the first backup with its verification

    assert OwnProtection.objects.count() == Source.objects.count() == Schedule.objects.count() == 1
    assert deeds().count("console.keys.seal") == 1


def test_of_two_who_make_it_at_the_same_moment_the_second_takes_over(kit: RecoveryKit, by: Actor) -> None:
    repositories.waive_kit(kit.repository, reason="a story", by=by)
    begin = threading.Barrier(2)

    def protect() -> OwnProtection:
        try:
            begin.wait()
            return console.protect(Repository.objects.get(), by=by)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        made = [asked.result() for asked in [threads.submit(protect), threads.submit(protect)]]

    assert made[0] == made[1] == OwnProtection.objects.get()
    assert Source.objects.count() == Schedule.objects.count() == Policy.objects.count() == 1


def test_keys_that_could_not_be_sealed_are_sealed_by_the_next_attempt(
    kit: RecoveryKit, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository goes away after the rows were written."""
    seal = sealing.seal
    repositories.prove_kit(kit.repository, kit.code, by=by)

    def unreachable(*_: object, **__: object) -> None:
        raise Unavailable("The storage does not answer.")

    monkeypatch.setattr(sealing, "seal", unreachable)
    work()
    assert OwnProtection.objects.get().keys_record == ""
    monkeypatch.setattr(sealing, "seal", seal)
    hurry()

    assert work() == 3  # the protection again, and the first backup with its verification

    assert sealing.are_sealed(OwnProtection.objects.select_related("source").get())


def test_keys_in_the_repository_it_has_left_are_not_called_sealed(own: OwnProtection, other: Repository) -> None:
    Source.objects.update(repository=other)
    own.refresh_from_db()

    assert not sealing.are_sealed(own)
    assert "own keys" in doctor()


def test_a_repository_that_takes_no_backups_is_refused_before_anything_is_written(kit: RecoveryKit, by: Actor) -> None:
    with pytest.raises(Refused, match="never proven"):
        console.protect(kit.repository, by=by)

    assert not OwnProtection.objects.exists() and not Source.objects.exists()


def test_a_backup_that_was_asked_for_before_the_move_takes_no_keys_along(
    own: OwnProtection, other: Repository, by: Actor
) -> None:
    backups.request("full", by=by, sources=[own.source])
    console.protect(other, by=by)
    before = OwnProtection.objects.get().keys_record

    work()

    own.refresh_from_db()
    assert (own.repository, own.keys_record) == (other, before)


def _grant(user: User, role: str, environment: Environment | None = None) -> None:
    grants.give(user, grants.role(role), environments=[environment] if environment else [], by=ON_THE_HOST)


def _of_another_kind(own: OwnProtection) -> Source:
    """As it is after the console has got a database of the other kind; what the former one was like stays."""
    kind = "postgresql" if connection.vendor == "sqlite" else "sqlite"
    Source.objects.filter(pk=own.source.pk).update(kind=kind)
    own.source.refresh_from_db()
    return own.source


def test_a_refusal_speaks_the_reader_s_language(own: OwnProtection, by: Actor) -> None:
    with override("zh-hans"), pytest.raises(Refused, match="是本控制台的数据库"):
        sources.archive(own.source, by=by)
