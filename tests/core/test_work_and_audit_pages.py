"""The lists of jobs and of the audit: what a person reads there without knowing our tables."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.models import AuditEvent, Environment, Job, Node, User
from aihub_backup.core.models.job import JobState
from aihub_backup.core.roles import AUDITOR
from tests.roles.worlds import person

JOBS, AUDIT = "/admin/core/job/", "/admin/core/auditevent/"


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


def job(state: str = JobState.QUEUED, kind: str = "backup-part", **more: object) -> Job:
    return Job.objects.create(kind=kind, queue="backup", state=state, **more)


def noted(target: Environment | Node, action: str = "environment.update", by: Actor = SYSTEM) -> AuditEvent:
    with transaction.atomic():
        return record(action, target, by=by, changed=["name"])


def shown(browser: Client, address: str, **query: str) -> list[str]:
    return [str(row.pk) for row in browser.get(address, query).context["cl"].result_list]


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_job_is_told_in_words_with_its_host_and_its_trouble(browser: Client, db: None) -> None:
    host = Node.objects.create(name="gpu-3")
    job(JobState.FAILED, node=host, attempts=3, error_message="The disk is full.", started_at=timezone.now())

    page = browser.get(JOBS).text

    assert all(words in page for words in ("Backup of a source", "gpu-3", "3 / 3", "The disk is full.", "just now"))
    assert 'class="badge badge-bad"' in page


def test_a_running_job_shows_how_far_it_is_and_its_last_sign_of_life(browser: Client, db: None) -> None:
    job(JobState.RUNNING, heartbeat_at=timezone.now(), started_at=timezone.now(), progress={"ratio": 0.5})

    page = browser.get(JOBS).text

    assert 'aria-valuenow="50"' in page and "just now" in page


def test_jobs_are_filtered_by_what_they_are(browser: Client, db: None) -> None:
    kept, _other = job(kind="recovery"), job(kind="verification")

    page = browser.get(JOBS).text

    assert all(words in page for words in ("Recovery", "Verification", "Backup of a source"))
    assert shown(browser, JOBS, kind="recovery") == [str(kept.pk)]


def test_a_job_of_an_app_that_is_gone_keeps_its_name(browser: Client, db: None) -> None:
    job(kind="teleport")

    assert "teleport" in browser.get(JOBS).text


def test_an_empty_list_of_jobs_says_what_would_be_there(browser: Client, db: None) -> None:
    assert "backups, verifications, recoveries" in browser.get(JOBS).text


# --- audit ----------------------------------------------------------------------------------------------------------


def test_an_event_tells_who_what_on_what_and_where(browser: Client, owner: User, environment: Environment) -> None:
    noted(environment, by=Actor.of(owner))

    page = browser.get(AUDIT).text

    assert all(words in page for words in ("olivia", "person", "environment.update", "prod", "just now"))


def test_events_are_filtered_by_who_on_what_and_where(browser: Client, environment: Environment, owner: User) -> None:
    other = Environment.objects.create(name="staging")
    mine, theirs, host = noted(environment, by=Actor.of(owner)), noted(other), noted(Node.objects.create(name="gpu-3"))

    assert shown(browser, AUDIT, actor_kind__exact="user") == [str(mine.pk)]
    assert shown(browser, AUDIT, where=str(other.pk)) == [str(theirs.pk)]
    assert shown(browser, AUDIT, target_type="core.node") == [str(host.pk)]


def test_the_environments_to_filter_by_are_those_in_reach(client: Client, environment: Environment) -> None:
    noted(environment), noted(Environment.objects.create(name="hidden-one"))
    client.force_login(person(AUDITOR, environment))

    page = client.get(AUDIT)

    assert "prod" in page.text and "hidden-one" not in page.text


def test_the_page_of_an_event_shows_its_facts_one_by_one(browser: Client, environment: Environment) -> None:
    event = noted(environment)

    page = browser.get(f"{AUDIT}{event.pk}/change/").text

    assert "changed" in page and "prod" in page


def test_a_search_that_finds_no_event_shows_the_way_back(browser: Client, db: None) -> None:
    assert "Nothing matches" in browser.get(AUDIT, {"q": "nosuch"}).text


@pytest.mark.parametrize("address", [JOBS, AUDIT])
def test_long_lists_are_not_asked_for_row_by_row(browser: Client, environment: Environment, address: str) -> None:
    def more(count: int) -> None:
        for number in range(count):
            job(node=Node.objects.get_or_create(name=f"n{number}")[0], created_at=timezone.now() - timedelta(days=1))
            noted(environment)

    more(1)
    browser.get(address)
    with CaptureQueriesContext(connection) as few:
        browser.get(address)
    more(30)

    with CaptureQueriesContext(connection) as lots:
        browser.get(address)

    assert len(lots) <= len(few) + 1
