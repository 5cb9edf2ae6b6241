from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from aihub_backup.cli import accounts
from aihub_backup.core import audit, jobs
from aihub_backup.core.models import ApiToken, AuditEvent, Environment, User


def test_health_is_open_and_says_nothing(client: Client) -> None:
    answer = client.get("/healthz")

    assert (answer.status_code, answer.content) == (204, b"")
    assert client.post("/healthz").status_code == 405


def test_every_other_page_asks_who_you_are(client: Client) -> None:
    assert client.get("/").headers["Location"].startswith("/accounts/login/")
    assert client.get("/admin/").headers["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("path", ["/accounts/login/", "/admin/login/", "/healthz"])
def test_a_foreign_name_of_the_host_is_a_bad_request_on_every_page(path: str) -> None:
    client = Client(raise_request_exception=False)

    assert client.get(path, headers={"Host": "evil.example.org"}).status_code == 400


def test_a_foreign_name_of_the_host_is_a_problem_for_a_program() -> None:
    client = Client(raise_request_exception=False)

    answer = client.get("/api/v1/backup/list", headers={"Host": "evil.example.org"})

    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert (answer.json()["code"], answer.json()["instance"]) == ("bad-request", "/api/v1/backup/list")


def test_a_middleware_that_fails_is_a_problem_for_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: object) -> None:
        raise RuntimeError("secret details")

    monkeypatch.setattr("aihub_backup.core.signin.SecondFactorMiddleware.__call__", fail)

    answer = Client(raise_request_exception=False).get("/api/v1/backup/list")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "secret" not in answer.content.decode()


def test_a_request_keeps_its_id(client: Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"


def test_a_strange_request_id_is_replaced(client: Client) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": "a b\u00ff"})

    assert answer.headers["X-Request-ID"].startswith("req_")


@pytest.mark.django_db
def test_the_schema_needs_a_login(client: Client) -> None:
    assert client.get("/api/v1/schema").status_code == 401


def test_a_token_opens_the_api(api: APIClient) -> None:
    assert api.get("/api/v1/schema").status_code == 200


def test_a_token_is_stored_as_a_digest_only(owner: User) -> None:
    row, token = ApiToken.objects.issue(owner, "laptop")

    assert token.startswith("aihub_")
    assert token not in {str(value) for value in vars(ApiToken.objects.get()).values()}
    assert str(row) == f"laptop ({row.token_key}…)"


@pytest.mark.parametrize("page", ["environment", "node", "job", "auditevent", "apitoken", "user"])
def test_the_admin_lists_the_foundation(client: Client, owner: User, environment: Environment, page: str) -> None:
    audit.record("environment.created", environment, by=audit.Actor.of(owner))
    jobs.enqueue("scripted", queue="backup")
    client.force_login(owner)

    assert client.get(f"/admin/core/{page}/").status_code == 200


@pytest.mark.parametrize("page", ["job", "auditevent"])
def test_what_happened_cannot_be_edited(client: Client, owner: User, page: str) -> None:
    client.force_login(owner)

    assert client.get(f"/admin/core/{page}/add/").status_code == 403


def test_a_token_withdrawn_in_the_admin_is_written_down(client: Client, owner: User) -> None:
    issued = [ApiToken.objects.issue(owner, name)[0] for name in ("laptop", "ci", "desk")]
    client.force_login(owner)
    ticked = {"action": "delete_selected", "_selected_action": [token.pk for token in issued[1:]], "post": "yes"}

    client.post(f"/admin/core/apitoken/{issued[0].pk}/delete/", {"post": "yes"})
    client.post("/admin/core/apitoken/", ticked)

    assert not ApiToken.objects.exists()
    events = AuditEvent.objects.filter(action="token.revoked", actor_name=owner.get_username())
    assert {event.facts["name"] for event in events} == {"laptop", "ci", "desk"}
    assert {event.target_id for event in events} == {str(token.id) for token in issued}  # never the digests


def test_a_stranger_sees_no_admin(client: Client, stranger: User) -> None:
    client.force_login(stranger)

    assert client.get("/admin/core/job/").status_code == 302


def test_tokens_belong_to_people(api_for: Callable[[User], APIClient], stranger: User) -> None:
    api = api_for(stranger)
    stranger.is_active = False
    stranger.save()

    assert api.get("/api/v1/schema").status_code == 401


@pytest.mark.django_db
def test_a_one_time_password_opens_only_the_page_where_it_is_changed(client: Client) -> None:
    first = accounts.first_account(audit.Actor(None, "root", "cli"))
    assert first is not None
    client.post("/accounts/login/", {"login": first["name"], "password": first["password"]})
    assert client.get("/admin/").headers["Location"] == "/admin/password_change/"
    assert client.get("/admin/password_change/").status_code == 200
    new = {"new_password1": "a long walk in the rain", "new_password2": "a long walk in the rain"}

    client.post("/admin/password_change/", {"old_password": first["password"], **new})

    assert client.get("/admin/").status_code == 200
    assert not User.objects.get().password_expired
