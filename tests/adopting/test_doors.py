"""The doors of adoption: the API with its progress, the command line, the page. Behind all of them is one service."""

from __future__ import annotations

import io
import json

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from aihub_backup.cli import parser, waiting
from aihub_backup.cli.exits import Exit
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, User
from backups.models import Backup, Repository, Storage
from backups.services import adopting
from tests.adopting.stories import FirstConsole, lost, remembered
from tests.api.conftest import call
from tests.api.stories import Caller, is_problem
from tests.backups import stories

__all__ = ["call"]


def test_a_program_adopts_and_follows(call: Caller, lone: FirstConsole, storage: Storage) -> None:
    lost()
    body = {"storage": "disk", "recovery_code": lone.code}
    assert is_problem(call.post("/repositories/adopt", body), 409, "another-console")
    assert is_problem(call.post("/repositories/adopt", {**body, "recovery_code": "A" * 56}), 422, "wrong-secret")
    assert call.post("/repositories/adopt", {"storage": "disk"}).pointers == ["/recovery_code"]

    asked = call.post("/repositories/adopt", {**body, "take_over": True})

    assert (asked.status, asked["status"]) == (202, "queued")
    stories.work()
    answer = call.get(asked.headers["Location"])
    assert (answer["status"], answer["points"], answer["progress"]["percent"]) == ("completed", 1, 100.0)
    assert answer["new"] == {"policies": 1, "sources": 1, "backups": 1, "parts": 1}
    assert (answer["damaged"], answer["error"]) == ([], None)
    assert remembered() == lone.rows
    assert is_problem(call.post("/repositories/main/adoption/cancel"), 409, "not-cancellable")
    assert lone.code not in str(list(AuditEvent.objects.values()))


def test_a_repository_that_was_made_here_was_never_adopted(call: Caller, repository: Repository) -> None:
    assert call.get("/repositories/main/adoption")["status"] == "none"


def test_a_person_at_the_terminal_adopts(
    lone: FirstConsole, storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost()
    monkeypatch.setattr("sys.stdin", io.StringIO(lone.code + "\n"))
    monkeypatch.setattr(waiting, "until_ended", lambda what, look, timeout: (stories.work(), look()))
    words = ["repository", "adopt", "old", "--storage", "disk", "--take-over", "--wait", "--json"]

    code = parser.main([*words, "--home", str(settings.AIHUB_HOME)])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["name"], told["state"], told["points"]) == (Exit.OK, "old", "completed", 1)
    again = parser.main(["repository", "adopt", "--storage", "disk", "--wait", "--home", str(settings.AIHUB_HOME)])
    assert (again, "1 recovery points, 0 new backups" in capsys.readouterr().out) == (Exit.OK, True)


def test_the_terminal_tells_a_wrong_secret_apart(
    lone: FirstConsole, storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost()
    monkeypatch.setattr("sys.stdin", io.StringIO("no such passphrase\n"))
    words = ["repository", "adopt", "--storage", "disk", "--secret", "passphrase"]

    code = parser.main([*words, "--home", str(settings.AIHUB_HOME)])

    assert code == Exit.PERMISSION
    assert "no key slot that a passphrase opens" in capsys.readouterr().err


@pytest.mark.parametrize(("state", "bar"), [
    ("ok", ""), ("tampered", "nothing is written to it"), ("taken_over", "Another console has taken the repository"),
])  # fmt: skip
def test_whoever_proves_a_kit_is_told_what_else_stands_in_the_way(
    state: str, bar: str, repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Repository.objects.update(state=state)
    code = repository.code  # type: ignore[attr-defined]
    monkeypatch.setattr("sys.stdin", io.StringIO(code + "\n"))

    done = parser.main(["repository", "prove", "main", "--home", str(settings.AIHUB_HOME)])

    told = "".join(capsys.readouterr())
    assert done == Exit.OK and "the recovery code opens “main”" in told
    assert ("backups are accepted from now on" in told) == (not bar)
    assert bar in told


def test_a_person_in_the_console_adopts(client: Client, owner: User, lone: FirstConsole, storage: Storage) -> None:
    lost()
    client.force_login(owner)
    page = reverse("admin:backups_repository_adopt")
    assert page in client.get(reverse("admin:backups_repository_add")).text
    given = {"storage": str(storage.pk), "recovery_code": lone.code}
    refused = client.post(page, given)
    assert "may still be at work" in refused.text
    assert lone.code not in refused.text

    answer = client.post(page, {**given, "take_over": "on"})

    row = Repository.objects.get()
    here = reverse("admin:backups_repository_change", args=[row.pk])
    assert answer.headers["Location"] == here
    assert "You can close this page" in client.get(here).text
    assert client.get(reverse("admin:backups_repository_adoption", args=[row.pk])).status_code == 200
    stories.work()
    told = client.get(here).text
    assert "Adopted from the repository" in told
    assert "Its sources are paused" in told
    assert Backup.objects.count() == 1


def test_the_page_stops_a_reading(client: Client, owner: User, lone: FirstConsole, storage: Storage) -> None:
    lost()
    client.force_login(owner)
    key = adopting.key(recovery_code=lone.code)
    row, job = adopting.adopt(storage, key, by=Actor.of(owner), take_over=True)

    client.post(reverse("admin:backups_repository_do", args=[row.pk, "stop"]))

    job.refresh_from_db()
    assert job.state == "cancelled"
