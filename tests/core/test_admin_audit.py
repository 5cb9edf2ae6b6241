"""What is edited in the admin is written down: who, what, which fields."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from aihub_backup.core.models import AuditEvent, Environment, User
from aihub_backup.core.roles import ROLES

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "a long way to tipperary"


@pytest.fixture
def console(client: Client, admin_user: User) -> Client:
    """The administrator's browser."""
    client.force_login(admin_user)
    return client


def deeds() -> list[tuple[str, str]]:
    return list(AuditEvent.objects.order_by("at").values_list("action", "target_name"))


def test_it_writes_down_additions_changes_and_deletions(console: Client, admin_user: User) -> None:
    console.post("/admin/core/environment/add/", {"name": "prod", "description": ""})
    row = Environment.objects.get()
    console.post(f"/admin/core/environment/{row.pk}/change/", {"name": "production", "description": ""})
    console.post(f"/admin/core/environment/{row.pk}/delete/", {"post": "yes"})

    assert deeds() == [
        ("environment.create", "prod"),
        ("environment.update", "production"),
        ("environment.delete", "production"),
    ]
    assert set(AuditEvent.objects.values_list("actor_name", flat=True)) == {admin_user.get_username()}
    assert AuditEvent.objects.get(action="environment.update").facts == {"changed": ["name"]}


def test_it_writes_down_each_of_several_deletions(console: Client) -> None:
    rows = [Group.objects.create(name=name) for name in ("auditors", "operators")]

    ticked = {"action": "delete_selected", "_selected_action": [row.pk for row in rows], "post": "yes"}
    console.post("/admin/auth/group/", ticked)

    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)
    assert sorted(deeds()) == [("group.delete", "auditors"), ("group.delete", "operators")]


def test_it_writes_down_that_a_password_was_set_and_not_which(console: Client) -> None:
    user = User.objects.create_user("rita", password="correct horse battery")

    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    console.post(f"/admin/core/user/{user.pk}/password/", passwords)

    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)
    assert deeds() == [("user.password", "rita")]
    assert NEW_PASSWORD not in str(AuditEvent.objects.values_list("facts", flat=True))
