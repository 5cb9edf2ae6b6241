"""The doors of giving space back: the API, the page of the repository, the command line. One service is behind them."""

from __future__ import annotations

import json

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from aihub_backup.cli import parser, waiting
from aihub_backup.cli.exits import Exit
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import AuditEvent, Job, User
from backups.models import Repository, RepositoryState
from backups.services import compacting
from tests.api.conftest import call
from tests.api.stories import Caller, is_problem
from tests.backups import stories
from tests.backups.test_compacting import somebody_at_work, stored, wasteful

__all__ = ["call", "wasteful"]


def test_a_program_asks_for_it_and_follows(call: Caller, wasteful: Repository) -> None:
    before = stored(wasteful)
    assert call.get("/repositories/main/compaction")["status"] == "none"
    plan = call.get("/repositories/main/compact")

    asked = call.post("/repositories/main/compact")
    again = call.post("/repositories/main/compact")

    assert (plan["stored_bytes"], plan["freed_bytes"] > 1_900_000, plan["orphans"]) == (before, True, 0)
    assert (asked.status, asked["status"], again["created_at"]) == (202, "queued", asked["created_at"])
    stories.work()
    answer = call.get(asked.headers["Location"])
    assert (answer["status"], answer["progress"]["percent"], answer["error"]) == ("completed", 100.0, None)
    assert answer["freed_bytes"] >= 2_000_000
    assert answer["marked_bytes"] == 0
    assert stored(wasteful) < before - 2_000_000
    assert is_problem(call.post("/repositories/main/compaction/cancel"), 409, "not-cancellable")


def test_a_program_ends_it(call: Caller, wasteful: Repository) -> None:
    call.post("/repositories/main/compact")

    ended = call.post("/repositories/main/compaction/cancel")

    assert (ended.status, ended["status"]) == (202, "cancelled")


def test_nothing_is_given_back_where_nothing_may_be_written(call: Caller, wasteful: Repository) -> None:
    wasteful.move_to(RepositoryState.RETIRED)

    assert is_problem(call.post("/repositories/main/compact"), 422, "source-not-ready")
    assert is_problem(call.get("/repositories/main/compact"), 422, "source-not-ready")


def test_a_person_in_the_console_sees_the_bytes_first(client: Client, owner: User, wasteful: Repository) -> None:
    client.force_login(owner)
    page = reverse("admin:backups_repository_change", args=[wasteful.pk])
    deed = reverse("admin:backups_repository_do", args=[wasteful.pk, "compact"])
    assert "Give space back…" in client.get(page).text

    asked = client.post(deed).text
    assert "2.0 MB come back" in asked
    assert not Job.objects.filter(kind=compacting.JOB).exists()
    done = client.post(deed, {"confirmed": "yes", "reason": "the disk is full"}, follow=True).text

    assert "is being given back" in done and "Stop giving space back" in done
    assert client.get(reverse("admin:backups_repository_compaction", args=[wasteful.pk])).status_code == 200
    stories.work()
    later = client.get(page).text
    assert "Space that was given back" in later and "2.0 MB" in later
    told = AuditEvent.objects.get(action="repository.compact")
    assert (told.actor_name, told.facts["reason"]) == (owner.get_username(), "the disk is full")
    assert AuditEvent.objects.get(action="repository.compacted").facts["freed"] >= 2_000_000


def test_the_page_tells_what_waits_and_stops_a_run(client: Client, owner: User, wasteful: Repository) -> None:
    client.force_login(owner)
    page = reverse("admin:backups_repository_change", args=[wasteful.pk])
    somebody_at_work()
    compacting.compact_due()
    stories.work()
    assert "Goes with a later run" in client.get(page).text

    job = compacting.compact_due() or [compacting.request(wasteful, by=SYSTEM)]
    client.post(reverse("admin:backups_repository_do", args=[wasteful.pk, "stop-compacting"]))

    job[0].refresh_from_db()
    assert job[0].state == "cancelled"


def test_the_page_says_why_nothing_can_be_told(client: Client, owner: User, wasteful: Repository) -> None:
    client.force_login(owner)
    wasteful.move_to(RepositoryState.RETIRED)

    told = client.post(reverse("admin:backups_repository_do", args=[wasteful.pk, "compact"])).text

    assert "What would come back cannot be told now" in told and "nothing is written to it" in told


def test_a_person_at_the_terminal_asks_for_it(
    wasteful: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "until_ended", lambda what, look, timeout: (stories.work(), look()))
    before, home = stored(wasteful), ["--home", str(settings.AIHUB_HOME)]

    foreseen = parser.main(["repository", "compact", "main", "--preview", *home])
    plan = capsys.readouterr().out
    done = parser.main(["repository", "compact", "main", "--wait", "--json", *home])
    told = json.loads(capsys.readouterr().out)

    assert (foreseen, done) == (Exit.OK, Exit.OK)
    assert "2.0 MB would come back" in plan
    assert (told["state"], told["freed"] >= 2_000_000) == ("completed", True)
    assert stored(wasteful) < before - 2_000_000
    assert parser.main(["repository", "compact", "main", *home]) == Exit.OK
    assert "is queued" in capsys.readouterr().out
    assert parser.main(["repository", "compact", "nosuch", *home]) == Exit.NOT_FOUND
