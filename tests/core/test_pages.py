"""The pages that people see when something is wrong, and whose console it is."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db.models import Model
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from aihub_backup.core.models import User


def test_it_says_that_there_is_nothing_and_shows_the_way_back(client: Client, admin_user: User) -> None:
    client.force_login(admin_user)

    answer = client.get("/no/such/page")

    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()
    assert 'href="/admin/"' in answer.content.decode()


@pytest.mark.parametrize("page", ["400", "403", "403_csrf", "404", "500"])
def test_it_can_show_every_error_without_a_request(page: str) -> None:
    shown = render_to_string(f"{page}.html")

    assert "<h1>" in shown
    assert "AI Hub Backup" in shown


def test_it_names_the_console_on_the_login_page(client: Client, db: None) -> None:
    answer = client.get("/admin/login/", follow=True)

    assert "AI Hub Backup" in answer.content.decode()


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label_lower)
def test_every_list_and_every_form_can_be_shown(client: Client, admin_user: User, model: type[Model]) -> None:
    client.force_login(admin_user)
    words = f"admin:{model._meta.app_label}_{model._meta.model_name}"

    listed, added = client.get(reverse(f"{words}_changelist")), client.get(reverse(f"{words}_add"))

    assert listed.status_code == 200
    assert added.status_code in (200, 403)
    assert 'id="nav-sidebar"' in listed.text


def test_a_person_has_a_page_and_a_password_page(client: Client, admin_user: User) -> None:
    client.force_login(admin_user)

    page = client.get(reverse("admin:core_user_change", args=[admin_user.pk]))
    password = client.get(reverse("admin:auth_user_password_change", args=[admin_user.pk]))

    assert (page.status_code, password.status_code) == (200, 200)
