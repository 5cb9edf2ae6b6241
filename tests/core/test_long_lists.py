"""Long lists: a page far behind has all columns, filters offer what occurs, days begin with the first row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.test import Client

from aihub_backup.core.long_lists import FEW
from aihub_backup.core.models import AuditEvent, Environment, Job, User

JOBS, AUDIT = "/admin/core/job/", "/admin/core/auditevent/"
TODAY = datetime(2026, 3, 9, 12, tzinfo=UTC)


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


def job(at: datetime, queue: str = "backup") -> Job:
    return Job.objects.create(kind="backup-part", queue=queue, created_at=at)


def events(count: int, environment: Environment) -> None:
    AuditEvent.objects.bulk_create(
        AuditEvent(
            at=TODAY.replace(minute=number), action="source.test", actor_kind="system", actor_name="system",
            target_type="backups.source", target_id=str(number), target_name=f"s{number}",
            environment=environment.pk,
        ) for number in range(count)
    )  # fmt: skip


def test_a_page_far_behind_shows_the_next_rows_with_all_their_columns(
    browser: Client, environment: Environment
) -> None:
    events(59, environment)

    page = browser.get(AUDIT, {"p": "2"})

    assert [row.target_name for row in page.context["cl"].result_list][-1] == "s0"
    assert page.content.decode().count("prod") >= 9  # laid beside the rows by the page's own queryset


def test_a_filter_offers_the_values_that_occur(browser: Client, db: None) -> None:
    for queue in ("recovery", "backup", "recovery"):
        job(TODAY, queue)

    spec = browser.get(JOBS, {"queue": "recovery"}).context["cl"].filter_specs[2]

    assert spec.values == ["backup", "recovery"]
    assert [one["selected"] for one in spec.choices(browser.get(JOBS).context["cl"])] == [False, False, True]


@time_machine.travel(TODAY, tick=False)
def test_the_days_above_a_list_begin_with_its_first_row(browser: Client, db: None) -> None:
    job(datetime(2024, 11, 3, tzinfo=UTC))
    job(TODAY)

    page = browser.get(JOBS).content.decode()

    assert [f"created_at__year={year}" in page for year in (2023, 2024, 2025, 2026)] == [False, True, True, True]
    assert "January 2026" in page and "March 2026" in page and "April 2026" not in page


@time_machine.travel(TODAY, tick=False)
def test_a_month_offers_its_days_and_the_way_back(browser: Client, db: None) -> None:
    job(TODAY)

    page = browser.get(JOBS, {"created_at__year": "2026", "created_at__month": "2"}).content.decode()

    assert "February 28" in page and "February 29" not in page
    assert 'href="?created_at__year=2026"' in page


@pytest.mark.parametrize("year", ["-1", "0", "9" * 30, "soon"])
def test_a_year_that_no_calendar_has_is_a_wrong_filter(browser: Client, db: None, year: str) -> None:
    answer = browser.get(JOBS, {"created_at__year": year})

    assert answer.status_code == 302 and "e=1" in answer.headers["Location"]


@pytest.mark.parametrize(
    ("word", "count"), [("s7", 1), ("s7 source.test", 1), ("s7 s8", 0), ("SOURCE.TEST", 9), ("'", 0)]
)
def test_a_search_finds_rows_that_hold_every_word(
    browser: Client, environment: Environment, word: str, count: int
) -> None:
    events(9, environment)

    found = browser.get(AUDIT, {"q": word}).context["cl"]

    assert (found.result_count, len(found.result_list)) == (count, count)


def test_a_search_that_finds_many_shows_the_first_ones_and_says_so(browser: Client, environment: Environment) -> None:
    for _ in range(FEW // 50 + 1):
        events(50, environment)

    page = browser.get(AUDIT, {"q": "source.test", "p": "2"})

    found = page.context["cl"]
    assert (found.result_count, len(found.result_list)) == (FEW, 50)
    assert [row.target_name for row in found.result_list][::21] == ["s47", "s46", "s45"]
    assert f"These are the first {FEW}; there may be more." in page.content.decode()


def test_a_search_that_finds_few_keeps_the_order_of_the_list(browser: Client, environment: Environment) -> None:
    events(20, environment)

    found = browser.get(AUDIT, {"q": "s1"}).context["cl"]

    assert [row.target_name for row in found.result_list] == [
        "s19",
        "s18",
        *[f"s{at}" for at in range(17, 9, -1)],
        "s1",
    ]
