"""Tokens: made by a person, shown once, narrow, short-lived, withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from aihub_backup.cli import accounts
from aihub_backup.core import tokens
from aihub_backup.core.access import scope
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Denied, Failure, Invalid
from aihub_backup.core.models import ApiToken, AuditEvent, Environment, User
from backups.models import Backup, BackupState, Source
from tests.api.stories import PREFIX, Answer, Caller, is_problem

BY = Actor(None, "olivia", "user")


def caller(secret: str) -> Caller:
    """A program that sends this token."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return Caller(client)


def test_it_shows_a_new_token_once(call: Caller, owner: User) -> None:
    answer = call.post("/tokens", {"name": "ci-nightly", "days": 7})

    assert answer.status == 201
    assert answer["token"].startswith("aihub_")
    assert caller(answer["token"]).get("/list").status == 200
    found = call.get(f"/tokens/{answer['id']}")
    assert answer.headers["Location"] == f"{PREFIX}/tokens/{answer['id']}"
    assert "token" not in found.body
    assert (found["name"], found["owner"], found["prefix"]) == ("ci-nightly", "olivia", answer["token"][:15])


def test_it_lives_at_most_ninety_days(call: Caller, owner: User) -> None:
    assert call.post("/tokens", {"name": "x", "days": 91}).pointers == ["/days"]
    made = tokens.make(owner, "x", by=BY)
    assert made.token.expiry - timezone.now() <= timedelta(days=90)


def test_it_says_that_a_token_has_expired(owner: User) -> None:
    made = tokens.make(owner, "x", by=BY)
    ApiToken.objects.filter(pk=made.token.pk).update(expiry=timezone.now() - timedelta(seconds=1))

    assert is_problem(caller(made.secret).get("/list"), 401, "token-expired")
    assert ApiToken.objects.filter(pk=made.token.pk).exists()


def test_it_ends_with_its_account(owner: User) -> None:
    made = tokens.make(owner, "x", by=BY)
    User.objects.filter(pk=owner.pk).update(is_active=False)

    assert is_problem(caller(made.secret).get("/list"), 401, "unauthenticated")


def test_it_opens_nothing_after_it_was_revoked(call: Caller) -> None:
    made = call.post("/tokens", {"name": "x"})

    assert call.delete(f"/tokens/{made['id']}").status == 204
    assert is_problem(caller(made["token"]).get("/list"), 401, "unauthenticated")
    assert is_problem(call.get(f"/tokens/{made['id']}"), 404, "not-found")
    assert [event.action for event in AuditEvent.objects.order_by("at")] == ["token.created", "token.revoked"]


def test_it_reaches_no_further_than_its_scopes(call: Caller) -> None:
    made = call.post("/tokens", {"name": "reader", "scopes": ["backups.view_backup"]})
    reader = caller(made["token"])

    assert reader.get("/list").status == 200
    assert is_problem(reader.get("/sources"), 403, "permission-denied")
    assert is_problem(reader.post("/create", {"type": "full"}), 403, "permission-denied")


def test_it_gives_nobody_more_than_they_have(stranger: User) -> None:
    made = tokens.make(stranger, "x", by=BY, scopes=["backups.view_backup"])

    assert is_problem(caller(made.secret).get("/list"), 403, "permission-denied")


def test_it_refuses_a_scope_that_does_not_exist(call: Caller) -> None:
    answer = call.post("/tokens", {"name": "x", "scopes": ["backups.fly"]})

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == ["/scopes"]


@pytest.mark.parametrize(
    "wish", [{"scopes": []}, {"scopes": ["core.add_apitoken", "backups.view_backup"]}, {"days": 8}]
)
def test_a_token_makes_none_that_reaches_further(call: Caller, wish: dict[str, object]) -> None:
    parent = call.post("/tokens", {"name": "parent", "days": 7, "scopes": ["core.add_apitoken"]})

    answer = caller(parent["token"]).post("/tokens", {"name": "c", "days": 1, "scopes": ["core.add_apitoken"], **wish})

    assert is_problem(answer, 403, "permission-denied")


def test_a_token_may_make_a_narrower_one(call: Caller) -> None:
    parent = call.post("/tokens", {"name": "parent", "days": 7, "scopes": ["core.add_apitoken", "backups.view_backup"]})

    answer = caller(parent["token"]).post("/tokens", {"name": "child", "days": 1, "scopes": ["backups.view_backup"]})

    assert answer.status == 201
    assert caller(answer["token"]).get("/list").status == 200


def test_a_token_bound_to_an_environment_sees_nothing_else(owner: User) -> None:
    prod, staging = (Environment.objects.create(name=name) for name in ("prod", "staging"))
    for environment in (prod, staging):
        Source.objects.create(
            name=f"{environment}-db", kind="files", environment=environment, options={"paths": ["/srv"]}
        )
    Backup.objects.create(type="full", state=BackupState.MISSED, environment=None, requested_by_name="x")
    made = tokens.make(owner, "staging", by=BY, environments=[staging])
    owner.token = made.token

    seen = caller(made.secret).get("/sources")

    assert [row["name"] for row in seen["results"]] == ["staging-db"]
    assert caller(made.secret).get("/sources/prod-db").status == 404
    assert not scope(Backup.objects.all(), owner, "backups.view_backup").exists()


def test_a_deleted_environment_does_not_widen_a_token(owner: User) -> None:
    prod, staging = (Environment.objects.create(name=name) for name in ("prod", "staging"))
    Source.objects.create(name="prod-db", kind="files", environment=prod, options={"paths": ["/srv"]})
    made = tokens.make(owner, "staging", by=BY, environments=[staging])

    staging.delete()

    assert caller(made.secret).get("/sources")["results"] == []


def test_people_see_their_own_tokens_only(call: Caller, caller_with: Callable[..., Caller]) -> None:
    foreign = call.post("/tokens", {"name": "olivias"})["id"]
    rita = caller_with("core.view_apitoken", "core.delete_apitoken")

    assert [row["owner"] for row in rita.get("/tokens")["results"]] == ["rita"]
    assert is_problem(rita.delete(f"/tokens/{foreign}"), 404, "not-found")
    assert {row["owner"] for row in call.get("/tokens")["results"]} == {"olivia", "rita"}


def test_it_remembers_when_it_was_used(owner: User) -> None:
    made = tokens.make(owner, "x", by=BY)

    caller(made.secret).get("/list")

    made.token.refresh_from_db()
    assert made.token.last_used_at is not None


def test_the_command_line_makes_a_token_that_is_cut_down(owner: User) -> None:
    secret = accounts.make_token("olivia", "cron", 7, BY, ["backups.view_backup"])

    row = ApiToken.objects.get(name="cron")
    assert caller(secret).get("/list").status == 200
    assert (row.user, row.scopes) == (owner, ["backups.view_backup"])


@pytest.mark.parametrize(
    ("account", "days", "scopes", "sentence"),
    [
        ("nobody", 7, [], "no active account “nobody”"),
        ("olivia", 0, [], "days"),
        ("olivia", float("nan"), [], "days"),
        ("olivia", 1e12, [], "days"),
        ("olivia", 7, ["backups.fly"], "backups.fly"),
    ],
)
def test_the_command_line_refuses_a_token_that_makes_no_sense(
    owner: User, account: str, days: float, scopes: list[str], sentence: str
) -> None:
    with pytest.raises(Failure, match=sentence):
        accounts.make_token(account, "cron", days, BY, scopes)

    assert not ApiToken.objects.exists()


def test_it_is_refused_in_the_services_too(owner: User) -> None:
    owner.token = tokens.make(owner, "parent", by=BY, days=1).token

    with pytest.raises(Denied):
        tokens.make(owner, "child", by=BY, days=2)
    with pytest.raises(Invalid):
        tokens.make(owner, "child", by=BY, days=0)


def test_a_session_sees_what_its_person_may(owner: User) -> None:
    browser = APIClient()
    browser.force_login(owner)

    assert Answer(browser.get(f"{PREFIX}/tokens")).status == 200
