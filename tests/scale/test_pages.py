"""Every list of the console, in a small city: how many questions a page asks does not grow with what is in it.

Times are measured by `./aihub prove pages`, at the full size and on both databases.
"""

from __future__ import annotations

import pytest
from django.test import Client

from aihub_backup.core.models import User
from tests.scale import city, pages
from tests.scale.pages import Page
from tests.scale.promise import MILLISECONDS, QUERIES, Cost

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["admin", "viewer"])
def browser(request: pytest.FixtureRequest, db: None) -> Client:
    """Somebody who may do everything, or whose grant covers one environment of twenty; behind them 1,000 backups."""
    city.build(city.SMALL)
    admin, viewer = city.people()
    return pages.browser(admin if request.param == "admin" else viewer)


@pytest.mark.parametrize(
    ("queries", "milliseconds", "kept"),
    [(QUERIES, MILLISECONDS, True), (QUERIES + 1, 1, False), (1, MILLISECONDS + 1, False)],
)
def test_a_page_over_the_promise_is_told_apart(queries: int, milliseconds: float, kept: bool) -> None:
    assert Cost("overview", queries, milliseconds, 1.0).kept is kept


def test_no_page_of_the_admin_asks_more_than_thirty_questions(browser: Client) -> None:
    costs = [pages.cost(browser, page, timed=False) for page in pages.of_the_admin(browser)]

    assert {one.name: one.queries for one in costs if one.queries > QUERIES} == {}
    assert len(costs) > 60


def test_no_list_of_the_api_asks_more_than_thirty_questions(browser: Client) -> None:
    costs = [pages.cost(browser, page, timed=False) for page in pages.of_the_api()]

    assert {one.name: one.queries for one in costs if one.queries > QUERIES} == {}
    assert all(one.queries > 0 for one in costs)


def test_the_metrics_ask_no_more_for_more_sources(db: None, settings: pytest.FixtureRequest) -> None:
    settings.AIHUB_METRICS_TOKEN = "m" * 40  # type: ignore[attr-defined]  # the fixture of pytest-django
    city.build(city.SMALL)

    found = pages.cost(pages.browser(User.objects.create_superuser("olivia")), Page("metrics", "/metrics"), timed=False)

    assert 0 < found.queries <= QUERIES


def test_a_viewer_is_told_of_their_environment_only(db: None) -> None:
    built = city.build(city.SMALL)
    _admin, viewer = city.people()

    answer = pages.browser(viewer).get("/api/v1/backup/list", {"page_size": "500"}).json()

    wanted = {source.name for source in built.sources if source.environment.name == "env-07"}
    assert {part["source"]["name"] for row in answer["results"] for part in row["parts"]} == wanted
