"""The first page: one sentence, what wants a person, what is going on."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import User
from backups.models import Repository, Source
from backups.services import backups, schedules
from tests.backups.conftest import by, data, repository, source, storage
from tests.backups.stories import work
from tests.backups.test_pages import many

__all__ = ["by", "data", "repository", "source", "storage"]


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


def test_it_says_that_nothing_is_protected_yet(browser: Client, db: None) -> None:
    page = browser.get("/admin/").text

    assert "Nothing is protected yet" in page
    assert "No schedule is enabled" in page


def test_it_names_the_source_that_was_never_backed_up(browser: Client, source: Source) -> None:
    page = browser.get("/admin/").text

    assert "0 of 1 sources are protected; 1 need attention." in page
    assert "there is no usable recovery point" in page


def test_it_is_green_only_when_everything_could_be_restored(browser: Client, source: Source, by: Actor) -> None:
    Repository.objects.update(kit_proven_at=timezone.now())
    backups.request("full", by=by, sources=[source])
    work()

    page = browser.get("/admin/").text

    assert "The one source is protected." in page and "Needs attention" not in page
    assert "100.00 %" in page


def test_it_turns_red_when_the_last_point_is_gone(browser: Client, source: Source, by: Actor) -> None:
    Repository.objects.update(kit_proven_at=timezone.now())
    made = backups.request("full", by=by, sources=[source])
    work()
    made.parts.update(state="deleted")

    page = browser.get("/admin/").text

    assert "0 of 1 sources are protected" in page


def test_it_shows_what_runs_and_what_comes_next(browser: Client, source: Source, by: Actor) -> None:
    backups.request("full", by=by, sources=[source])
    schedules.create("nightly", "files", "0 2 * * *", by=by, sources=[source])

    page = browser.get("/admin/").text

    assert "Backup of docs" in page and 'role="progressbar"' in page
    assert "nightly" in page


def test_it_asks_the_database_as_often_for_fifty_sources_as_for_one(browser: Client, source: Source, by: Actor) -> None:
    many(source, 1, by)
    browser.get("/admin/")
    with CaptureQueriesContext(connection) as few:
        browser.get("/admin/")
    many(source, 49, by)

    with CaptureQueriesContext(connection) as lots:
        browser.get("/admin/")

    assert len(lots) == len(few) <= 25


def test_it_shows_strangers_nothing(client: Client, operator: User, source: Source) -> None:
    client.force_login(operator)

    page = client.get("/admin/")

    assert page.status_code == 200
    assert "docs" not in page.text and "Nothing is protected yet" in page.text


def test_the_language_is_switched_before_the_log_in(client: Client, db: None) -> None:
    client.post("/language/", {"language": "zh-hans", "next": "/admin/login/"})

    page = client.get("/accounts/login/")

    assert 'lang="zh-hans"' in page.text and "登录" in page.text


def test_nothing_is_fetched_from_elsewhere(browser: Client, source: Source) -> None:
    pages = [browser.get(address).text for address in ("/admin/", "/admin/backups/source/")]
    pages.append(Client().get("/accounts/login/").text)

    assert not any(sign in page for page in pages for sign in ('src="http', 'href="http', "//cdn", "@import"))
