"""What pages of the admin count, name and do for somebody whose grants end before another world begins."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from aihub_backup.core.models import Environment, Grant, User
from aihub_backup.core.roles import ADMIN, AUDITOR, OPERATOR, ROLES, VIEWER
from backups.models import Backup, BackupPart, Source, Verification
from recovery.models import Recovery, RecoveryPart
from tests.roles.test_every_door import PAGES
from tests.roles.worlds import World, person, policy, world

pytestmark = pytest.mark.django_db

KIB = 1024


@pytest.fixture
def ours() -> World:
    """Where the person has a role, with a recovery point of one KiB."""
    found = world("ours")
    BackupPart.objects.filter(pk=found.rows["part"].pk).update(size_bytes=KIB, stored_bytes=KIB)
    return found


@pytest.fixture
def theirs(ours: World) -> World:
    """Another environment, whose source also sent a large point into our repository."""
    found = world("theirs")
    made = Backup.objects.create(type="full", state="completed", requested_by_name="x", label="theirs")
    BackupPart.objects.create(
        backup=made, source=found.rows["sources"], repository=ours.rows["repositories"], state="completed",
        data_as_of=timezone.now(), size_bytes=KIB**3, stored_bytes=KIB**3,
    )  # fmt: skip
    return found


def also(user: User, role: str, *environments: Environment) -> User:
    """A second role of the same person, elsewhere."""
    Grant.objects.create(user=user, role=Group.objects.get(name=role)).environments.set(environments)
    return user


def operator_who_looks(ours: World, theirs: World) -> User:
    """Works in our environment and may look at theirs."""
    return also(person(OPERATOR, ours.environment), VIEWER, theirs.environment)


def press(client: Client, model: str, row: Any, deed: str) -> int:
    """The status of the answer to a button, its question answered already."""
    confirmed = {"confirmed": "yes", "reason": "x", "until": "2099-01-01"}
    return client.post(f"/admin/backups/{model}/{row.pk}/do/{deed}/", confirmed).status_code


# --- what is counted ------------------------------------------------------------------------------------------------


def test_the_overview_counts_and_names_one_world_only(client: Client, ours: World, theirs: World) -> None:
    client.force_login(person(VIEWER, ours.environment))

    page = client.get("/admin/")

    assert "theirs" not in page.text
    assert "of 1 sources are protected" in page.text
    assert [(str(row), usage.points, usage.size_bytes) for row, usage in page.context["repositories"]] == [
        ("ours-main", 1, KIB)
    ]


@pytest.mark.parametrize("noun", ["storage", "repository"])
def test_a_place_that_others_use_too_tells_nothing_of_their_points(
    client: Client, ours: World, theirs: World, noun: str
) -> None:
    client.force_login(person(VIEWER, ours.environment))

    page = client.get(f"/admin/backups/{noun}/")

    assert "1.0 kB" in page.text and " GB" not in page.text


def test_a_policy_counts_the_sources_that_the_person_sees(client: Client, ours: World, theirs: World) -> None:
    shared = policy()
    Source.objects.update(policy=shared)
    client.force_login(person(VIEWER, ours.environment))

    page = client.get("/admin/backups/policy/")

    assert [row.sources_count for row in page.context["cl"].result_list] == [1]


@pytest.mark.parametrize("role", [VIEWER, AUDITOR, ADMIN])
def test_no_list_tells_a_name_of_the_other_world(client: Client, ours: World, theirs: World, role: str) -> None:
    client.force_login(person(role, ours.environment))

    pages = {name: client.get(f"/admin/{name.replace('.', '/')}/") for name in PAGES}

    assert {page.status_code for page in pages.values()} <= {200, 403}
    assert [name for name, page in pages.items() if "theirs" in page.text] == []


# --- what is done ---------------------------------------------------------------------------------------------------


def test_a_button_reaches_as_far_as_the_role_that_it_needs(client: Client, ours: World, theirs: World) -> None:
    client.force_login(operator_who_looks(ours, theirs))

    there, here = theirs.rows["sources"], ours.rows["sources"]
    page = client.get(f"/admin/backups/source/{there.pk}/change/")
    refused = press(client, "source", there, "backup")

    assert page.status_code == 200 and "/do/backup/" not in page.text
    assert "/do/backup/" in client.get(f"/admin/backups/source/{here.pk}/change/").text
    assert refused == 403


@pytest.mark.parametrize("deed", ["verify", "hold", "delete"])
def test_nothing_is_done_to_a_backup_that_one_may_only_look_at(
    client: Client, ours: World, theirs: World, deed: str
) -> None:
    client.force_login(operator_who_looks(ours, theirs))

    assert press(client, "backup", theirs.rows["backup_id"], deed) == 403
    backup = Backup.objects.get(pk=theirs.rows["backup_id"].pk)
    assert (backup.state, backup.hold_until) == ("completed", None)


def test_of_ticked_sources_those_in_reach_are_backed_up(client: Client, ours: World, theirs: World) -> None:
    before = Backup.objects.count()
    client.force_login(operator_who_looks(ours, theirs))
    both = [str(place.rows["sources"].pk) for place in (ours, theirs)]

    page = client.post("/admin/backups/source/", {"action": "back_up_now", "_selected_action": both}, follow=True)

    assert Backup.objects.count() <= before + 1
    assert not BackupPart.objects.filter(source=theirs.rows["sources"], state="queued").exists()
    assert "1 of the ticked rows is beyond what you may do this to" in page.text


def test_of_ticked_backups_those_in_reach_are_verified(client: Client, ours: World, theirs: World) -> None:
    Verification.objects.all().delete()
    client.force_login(operator_who_looks(ours, theirs))
    both = [str(place.rows["backup_id"].pk) for place in (ours, theirs)]

    client.post("/admin/backups/backup/", {"action": "verify_ticked", "_selected_action": both})

    assert [str(check.part.source) for check in Verification.objects.all()] == ["ours-docs"]


def test_names_inside_a_backup_are_seen_where_the_role_says_so(client: Client, ours: World, theirs: World) -> None:
    Verification.objects.update(problems=[{"object": "packs/x", "paths": ["/srv/secret-plan"], "message": "gone"}])
    client.force_login(operator_who_looks(ours, theirs))

    def shown(place: World) -> tuple[int, bool]:
        inside = client.get(f"/admin/backups/backup/{place.id('backup_id')}/contents/").status_code
        check = client.get(f"/admin/backups/verification/{place.id('verification_id')}/change/")
        return inside, "secret-plan" in check.text

    assert shown(ours) == (200, True)
    assert shown(theirs) == (403, False)


def test_tables_that_were_counted_are_names_inside_a_backup(client: Client, ours: World, theirs: World) -> None:
    BackupPart.objects.update(facts={"tables": {"secret_salaries": 12}})
    client.force_login(operator_who_looks(ours, theirs))

    def shown(place: World) -> tuple[int, bool]:
        page = client.get(f"/admin/backups/backuppart/{place.id('part')}/change/")
        return page.status_code, "secret_salaries" in page.text

    assert shown(ours) == (200, True)
    assert shown(theirs) == (200, False)


def test_names_inside_a_recovery_are_seen_where_the_role_says_so(client: Client, ours: World, theirs: World) -> None:
    RecoveryPart.objects.update(item_errors=[{"path": "/srv/secret-plan", "message": "gone"}])
    Recovery.objects.update(
        findings=[{"part": "docs", "check": "read back", "passed": False, "detail": "secret-sum (other content)."}]
    )
    client.force_login(operator_who_looks(ours, theirs))

    def shown(place: World) -> tuple[int, bool, bool]:
        page = client.get(f"/admin/recovery/recovery/{place.id('recovery_id')}/change/")
        return page.status_code, "secret-plan" in page.text, "secret-sum" in page.text

    assert shown(ours) == (200, True, True)
    assert shown(theirs) == (200, False, False)


def test_a_kit_is_proven_by_those_who_may_change_the_repository(client: Client, ours: World, theirs: World) -> None:
    client.force_login(also(person(ADMIN, ours.environment), VIEWER, theirs.environment))
    address = f"/admin/backups/repository/{theirs.id('repositories')}/kit/"

    assert 'name="code"' not in client.get(address).text
    assert client.post(address, {"code": "AAAA-BBBB"}).status_code == 403


def test_every_role_may_open_the_overview(client: Client, ours: World) -> None:
    for number, role in enumerate(ROLES):
        client.force_login(person(role, ours.environment, name=f"p{number}"))
        assert client.get("/admin/").status_code == 200
