"""Administrators hand out roles; they lift neither themselves nor anybody beyond the roles."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from rest_framework.test import APIClient

from aihub_backup.core.models import ApiToken, Environment, Grant, User
from aihub_backup.core.roles import ADMIN, OPERATOR, RESTORE_OPERATOR
from backups.models import Policy, Source
from tests.roles.worlds import person, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    """Has the role Admin everywhere."""
    user = User.objects.create_user("ada", password="correct horse battery", is_staff=True)
    user.groups.add(Group.objects.get(name=ADMIN))
    return user


@pytest.fixture
def browser(client: Client, ada: User) -> Client:
    """Hers."""
    client.force_login(ada)
    return client


def grant(user: User, role: str = RESTORE_OPERATOR, tags: str = "") -> dict[str, Any]:
    return {"user": str(user.pk), "role": Group.objects.get(name=role).pk, "every_environment": "on", "tags": tags}


def test_an_administrator_grants_a_role_to_somebody_else(browser: Client, stranger: User) -> None:
    answer = browser.post("/admin/core/grant/add/", grant(stranger))

    assert answer.status_code == 302, answer.text
    assert Grant.objects.get().user == stranger


def test_a_role_for_what_carries_tags_names_them_in_lines(browser: Client, stranger: User) -> None:
    answer = browser.post("/admin/core/grant/add/", grant(stranger, tags="team=search\nstage=live\n"))

    assert answer.status_code == 302, answer.text
    assert Grant.objects.get().tags == {"team": "search", "stage": "live"}
    assert "team=search, stage=live" in browser.get("/admin/core/grant/").text


def test_nobody_grants_themselves_a_role(browser: Client, ada: User) -> None:
    assert browser.post("/admin/core/grant/add/", grant(ada)).status_code == 403
    assert not Grant.objects.exists()


def test_nobody_makes_themselves_a_superuser_or_joins_a_role(browser: Client, ada: User) -> None:
    page = browser.get(f"/admin/core/user/{ada.pk}/change/")

    assert 'name="is_superuser"' not in page.text
    assert 'name="user_permissions"' not in page.text
    assert 'name="groups"' not in page.text


def test_a_superuser_is_not_touched_by_an_administrator(browser: Client, owner: User) -> None:
    answers = [
        browser.post(f"/admin/core/user/{owner.pk}/password/", {"password1": "x" * 20, "password2": "x" * 20}),
        browser.post(f"/admin/core/user/{owner.pk}/delete/", {"post": "yes"}),
        browser.post(f"/admin/core/user/{owner.pk}/change/", {"username": "gone"}),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    owner.refresh_from_db()
    assert (owner.username, owner.check_password("x" * 20)) == ("olivia", False)


def test_the_six_roles_are_as_they_are(browser: Client, owner: User) -> None:
    row = Group.objects.get(name=OPERATOR)
    browser.force_login(owner)

    assert browser.post(f"/admin/auth/group/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert browser.post(f"/admin/auth/group/{row.pk}/change/", {"name": "x"}).status_code == 403


def test_nothing_is_added_or_moved_beyond_ones_reach() -> None:
    ours, theirs = world("ours"), world("theirs")
    rita = person(ADMIN, ours.environment)
    client = APIClient()
    _row, token = ApiToken.objects.issue(rita, "x")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    both = Environment.objects.create(name="common")
    Grant.objects.create(user=rita, role=Group.objects.get(name=OPERATOR)).environments.set([both])
    new = {"name": "new", "kind": "files", "options": {"paths": ["/srv"]}, "environment": "common", "test": False}

    added = client.post("/api/v1/backup/sources", new, format="json")
    moved = client.patch("/api/v1/backup/sources/ours-docs", {"environment": "common"}, format="json")
    policy = client.post("/api/v1/backup/policies", {"name": "mine"}, format="json")

    assert [added.status_code, moved.status_code, policy.status_code] == [403, 403, 403]
    assert Source.objects.get(name="ours-docs").environment == ours.environment
    assert (Source.objects.count(), Policy.objects.count()) == (2, 0)
    assert theirs.environment.name == "theirs"


def test_the_choices_of_a_form_and_of_a_filter_tell_no_foreign_names(client: Client) -> None:
    ours, _theirs = world("ours"), world("theirs")
    client.force_login(person(ADMIN, ours.environment))

    pages = [client.get("/admin/backups/source/"), client.get("/admin/backups/schedule/add/")]
    found = client.get(
        "/admin/autocomplete/", {"app_label": "backups", "model_name": "source", "field_name": "environment"}
    )

    assert [page.status_code for page in pages] == [200, 200]
    assert not [page for page in pages if "theirs" in page.text]
    assert [row["text"] for row in found.json()["results"]] == ["ours"]
