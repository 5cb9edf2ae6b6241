"""The admin's pages about what comes back: asking for it, watching it, what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import User
from backups.models import Backup, Repository, Source
from backups.services import sources
from recovery.models import Recovery, RecoveryState
from tests.recovery.stories import asked, backed_up, done, names
from tests.servers import postgresql
from tests.servers.postgresql import PostgreSQLServer
from tests.strategies.databases import SHOP

NEW = "/admin/recovery/recovery/new/"


@pytest.fixture
def signed_in(client: Client, owner: User) -> Client:
    """The owner's browser."""
    client.force_login(owner)
    return client


def wish(target: Path, **more: str) -> dict[str, str]:
    return {"path": str(target), "reason": "INC-7", "check": "yes", **more}


def hidden(page: str) -> dict[str, str]:
    """What the last form of the page would send."""
    form = page.split('method="post" class="panel')[1]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))


def test_it_shows_a_recovery_with_its_parts(signed_in: Client, backup: Backup, target: Path, by: Actor) -> None:
    recovery = asked(by, backup, target)

    assert str(target) in signed_in.get("/admin/recovery/recovery/").content.decode()
    answer = signed_in.get(f"/admin/recovery/recovery/{recovery.pk}/change/")

    assert (answer.status_code, str(target) in answer.content.decode()) == (200, True)
    assert signed_in.get("/admin/recovery/recovery/add/").status_code == 403


def test_it_offers_backups_by_name_and_marks_what_is_needed(signed_in: Client, backup: Backup) -> None:
    page = signed_in.get(NEW, {"backup": str(backup.pk)}).text

    assert re.search(rf'<option value="{backup.pk}" selected>[^<]*full \d{{4}}-', page), page
    assert re.search(r"Reason, for the audit log<span class=.must", page) and "Has to be filled in." in page


def test_it_does_not_offer_the_console_itself(signed_in: Client, backup: Backup) -> None:
    Source.objects.update(holds_console=True)

    page = signed_in.get(NEW).text

    assert f'<option value="{Source.objects.get().pk}"' not in page


def test_it_tells_its_notices_in_the_language_of_the_reader(
    signed_in: Client, backup: Backup, target: Path, by: Actor
) -> None:
    recovery = asked(by, backup, target)
    Recovery.objects.update(notices=["The recovery point of 2026-11-27 00:06:54 UTC was chosen."], size_bytes=1363907)

    page = signed_in.get(f"/admin/recovery/recovery/{recovery.pk}/change/", headers={"accept-language": "zh-hans"}).text

    assert "已选择 2026-11-27 00:06:54 UTC 的恢复点。" in page and "was chosen" not in page
    assert "1.4 MB" in page and "1363907" not in page


@pytest.mark.parametrize("state", RecoveryState.values)
def test_it_has_a_page_in_every_state(signed_in: Client, backup: Backup, target: Path, by: Actor, state: str) -> None:
    recovery = asked(by, backup, target)
    Recovery.objects.update(state=state)

    page = signed_in.get(f"/admin/recovery/recovery/{recovery.pk}/change/")

    assert page.status_code == 200 and str(RecoveryState(state).label) in page.text
    assert signed_in.get("/admin/recovery/recovery/").status_code == 200


def test_a_source_is_recovered_after_the_check(signed_in: Client, backup: Backup, source: Source, target: Path) -> None:
    checked = signed_in.get(NEW, wish(target, source=str(source.pk))).text
    assert "Overwrites nothing" in checked and not Recovery.objects.exists()

    page = signed_in.post(NEW, hidden(checked), follow=True)

    made = Recovery.objects.get()
    assert (made.type, made.reason, made.trigger, made.requested_by_name) == ("full", "INC-7", "console", "olivia")
    assert "You can close this page" in page.text and "recovery.requested" in page.text
    assert done(made).state == "completed" and "00.txt" in names(target)


def test_what_was_ticked_in_the_browser_is_recovered(
    signed_in: Client, backup: Backup, data: Path, target: Path
) -> None:
    ticked = {"backup": str(backup.pk), "part": "docs", "include": [str(data / "00.txt"), str(data / "deep")]}
    opened = signed_in.get(NEW, ticked).text
    assert f"{data}/00.txt\n{data}/deep" in opened and "2. Where" in opened

    checked = signed_in.get(NEW, {**wish(target), **ticked}).text
    signed_in.post(NEW, hidden(checked))

    made = Recovery.objects.get()
    assert (made.type, made.include) == ("partial", ticked["include"])
    assert done(made).state == "completed"
    assert {Path(name).name for name in names(target)} == {"00.txt", "blob"}


def test_a_refusal_is_told_beside_the_wish(signed_in: Client, backup: Backup, source: Source, tmp_path: Path) -> None:
    page = signed_in.get(NEW, wish(tmp_path / "data", source=str(source.pk))).text

    assert "3. This cannot be done" in page and "data" in page
    assert "Recover to the new place" not in page


def test_the_wish_is_whole_or_told_what_it_lacks(signed_in: Client, backup: Backup, target: Path) -> None:
    neither = signed_in.get(NEW, wish(target)).text
    silent = signed_in.get(NEW, {**wish(target, backup=str(backup.pk)), "reason": ""}).text

    assert "Choose either a source or a backup" in neither
    assert "This field is required" in silent


def test_asking_needs_the_permission(client: Client, operator: User, backup: Backup, target: Path) -> None:
    operator.user_permissions.add(Permission.objects.get(codename="view_recovery"))
    client.force_login(operator)

    answers = [client.get(NEW), client.post(NEW, wish(target, backup=str(backup.pk)))]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert not Recovery.objects.exists()


def test_a_waiting_recovery_is_cancelled_after_the_question(
    signed_in: Client, backup: Backup, target: Path, by: Actor
) -> None:
    recovery = asked(by, backup, target)
    button = reverse("admin:recovery_recovery_do", args=[recovery.pk, "cancel"])

    question = signed_in.post(button)
    signed_in.post(button, {"confirmed": "yes", "reason": "not needed"})

    assert "What was brought back so far is removed" in question.text
    assert Recovery.objects.get().state == "cancelled"


def test_progress_ends_with_the_work(signed_in: Client, backup: Backup, target: Path, by: Actor) -> None:
    recovery = asked(by, backup, target)
    address = reverse("admin:recovery_recovery_progress", args=[recovery.pk])
    waiting = signed_in.get(address)
    done(recovery)

    ended = signed_in.get(address)

    assert "No worker has taken it yet" in waiting.text and "HX-Refresh" not in waiting.headers
    assert ended.headers["HX-Refresh"] == "true"


# --- into a new database ------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> PostgreSQLServer:
    return postgresql.started(18)


@pytest.fixture
def shop(repository: Repository, server: PostgreSQLServer, by: Actor) -> Iterator[Source]:
    """A database in use, as a source that was backed up."""
    name = server.database(SHOP)
    source = sources.create("shop", "postgresql", server.options(name), by=by)
    backed_up(by, source)
    yield source
    server.drop(name)


def test_a_database_is_recovered_beside_the_one_in_use(
    signed_in: Client, server: PostgreSQLServer, shop: Source
) -> None:
    name = server.new_name()
    words = {"source": str(shop.pk), "to": "new_database", "database": name, "make_roles": "on", "reason": "INC-8"}
    opened = signed_in.get(NEW, {"source": str(shop.pk)}).text
    assert "a new database on the source&#x27;s own server" in opened

    checked = signed_in.get(NEW, {**words, "check": "yes"}).text
    assert f"/{name}" in checked and "Roles that the server lacks are made" in checked
    signed_in.post(NEW, hidden(checked))

    made = Recovery.objects.get()
    assert (made.target_kind, made.target_database, made.make_roles) == ("new_database", name, True)
    assert done(made).state == "completed"
    assert server.rows("SELECT count(*) FROM shop.orders", name) == server.rows(
        "SELECT count(*) FROM shop.orders", shop.options["database"]
    )
    server.drop(name)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({}, "A new database needs a name."),
        ({"database": "dbname=x"}, "looks like connection settings"),
        ({"database": "x", "include": "*.sql"}, "comes back whole"),
    ],
)
def test_what_no_database_can_be_is_told_beside_the_wish(
    signed_in: Client, shop: Source, more: dict[str, str], sentence: str
) -> None:
    words = {"source": str(shop.pk), "to": "new_database", "reason": "INC-8", "check": "yes", **more}

    page = signed_in.get(NEW, words).text

    assert sentence in page and "Recover into the new database" not in page


def test_files_do_not_become_a_database(signed_in: Client, shop: Source, backup: Backup, source: Source) -> None:
    words = {"source": str(source.pk), "to": "new_database", "database": "x", "reason": "INC-8", "check": "yes"}

    page = signed_in.get(NEW, words).text

    assert "has no server to make a new database on" in page


def test_nobody_is_asked_for_a_database_where_no_source_has_a_server(signed_in: Client, source: Source) -> None:
    page = signed_in.get(NEW).text

    assert "Name of the new database" not in page and 'name="to"' not in page


def test_the_way_to_the_second_step_is_the_only_one_lit(signed_in: Client) -> None:
    page = signed_in.get(NEW).text
    menu = page[page.index('id="nav-sidebar"') :]

    assert len(re.findall(r'<a href="/admin/recovery/[^>]*class="[^"]*\bactive\b', menu)) == 1
