"""The pages that people see when something is wrong, and whose console it is."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string
from django.test import Client

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
