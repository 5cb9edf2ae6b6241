"""Six roles at every address of the API and every page of the admin, in scope and out of it.

The letters say who passes in their scope: V viewer, A auditor, O operator, R restore operator, C commander, X admin.
Whoever passes there finds nothing (404) in a foreign scope; everybody else is refused (403) in both alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from aihub_backup.core.models import ApiToken, User
from aihub_backup.core.roles import ADMIN, AUDITOR, COMMANDER, OPERATOR, RESTORE_OPERATOR, VIEWER
from aihub_backup.core.scoped_admin import ScopedAdmin
from tests.api.test_access import declared
from tests.roles.worlds import World, person, policy, world

ROLES = {"V": VIEWER, "A": AUDITOR, "O": OPERATOR, "R": RESTORE_OPERATOR, "C": COMMANDER, "X": ADMIN}
ALL = "VAORCX"

DOORS = {
    "POST create": "ORCX",
    "GET list": ALL,
    "GET status/<uuid:backup_id>": ALL,
    "GET <uuid:backup_id>": ALL,
    "DELETE <uuid:backup_id>": "OX",
    "POST <uuid:backup_id>/cancel": "OrCX",  # r: restore operators cancel what they asked for themselves
    "POST <uuid:backup_id>/hold": "OCX",
    "POST <uuid:backup_id>/release": "OCX",
    "GET <uuid:backup_id>/contents": "ORC",
    "GET <uuid:backup_id>/diff": "ORC",
    "GET <uuid:backup_id>/log": ALL,
    "POST verify/<uuid:backup_id>": "ORCX",
    "GET verifications": ALL,
    "GET verifications/<uuid:verification_id>": ALL,
    "POST verifications/<uuid:verification_id>/cancel": "ORCX",
    "GET storages": ALL,
    "POST storages": "X",
    "GET storages/<str:reference>": ALL,
    "PATCH storages/<str:reference>": "X",
    "POST storages/<str:reference>/test": "X",
    "GET repositories": ALL,
    "POST repositories": "X",
    "GET repositories/<str:reference>": ALL,
    "POST repositories/adopt": "",  # the whole console's: only without bounds, see below
    "GET repositories/<str:reference>/adoption": ALL,
    "POST repositories/<str:reference>/adoption/cancel": "X",
    "GET repositories/<str:reference>/compact": "X",
    "POST repositories/<str:reference>/compact": "X",
    "GET repositories/<str:reference>/compaction": ALL,
    "POST repositories/<str:reference>/compaction/cancel": "X",
    "POST repositories/<str:reference>/prove-kit": "X",
    "POST repositories/<str:reference>/waive-kit": "X",
    "POST repositories/<str:reference>/accept-history": "X",
    "GET repositories/<str:reference>/find": "ORC",
    "GET repositories/<str:reference>/repair": ALL,
    "POST repositories/<str:reference>/repair": "X",
    "POST repositories/<str:reference>/repair/cancel": "X",
    "GET repositories/<str:reference>/keys": ALL,
    "POST repositories/<str:reference>/keys": "",  # who gets in, gets at all of it: only without bounds, see below
    "POST repositories/<str:reference>/keys/new-code": "",
    "POST repositories/<str:reference>/keys/change": "",
    "POST repositories/<str:reference>/keys/remove": "",
    "POST repositories/<str:reference>/keys/rotate": "",
    "POST repositories/<str:reference>/keys/renew": "",
    "GET sources": ALL,
    "POST sources": "X",
    "GET sources/<str:reference>": ALL,
    "PATCH sources/<str:reference>": "X",
    "DELETE sources/<str:reference>": "X",
    "POST sources/<str:reference>/test": "X",
    "POST sources/<str:reference>/pause": "X",
    "POST sources/<str:reference>/resume": "X",
    "GET policies": ALL,
    "POST policies": "OX",
    "GET policies/<str:reference>": ALL,
    "PATCH policies/<str:reference>": "",  # the whole console's: only without bounds, see below
    "POST schedule": "OX",
    "GET schedule/list": ALL,
    "GET schedule/<str:reference>": ALL,
    "PATCH schedule/<str:reference>": "OX",
    "DELETE schedule/<str:reference>": "OX",
    "POST schedule/<str:reference>/run": "ORCX",
    "PUT schedule/<str:reference>/enable": "OX",
    "POST recover": "RC",
    "GET recover/list": ALL,
    "GET recover/status/<uuid:recovery_id>": ALL,
    "POST recover/rollback/<uuid:recovery_id>": "rC",
    "GET recover/<uuid:recovery_id>": ALL,
    "DELETE recover/<uuid:recovery_id>": "RC",
    "GET recover/<uuid:recovery_id>/log": ALL,
    "GET tokens": ALL,
    "POST tokens": "VORCX",
    "GET tokens/<uuid:token_id>": ALL,
    "DELETE tokens/<uuid:token_id>": "VORCX",
}
BODIES = {  # what a body must say, so that nothing but the scope decides
    "hold": {"until": "2099-01-01T00:00:00Z", "reason": "x"}, "release": {"reason": "x"}, "rollback": {"reason": "x"},
    "adopt": {"storage": "ours-disk", "recovery_code": "x"},
    "new-code": {}, "change": {"keyfile": "eA==", "old_keyfile": "eA=="}, "remove": {"slot": "x", "reason": "x"},
    "rotate": {"reason": "x"}, "renew": {}, "keys": {"label": "x", "keyfile": "eA=="},
    "prove-kit": {"code": "x"}, "waive-kit": {"reason": "x"}, "accept-history": {"reason": "x"},
}  # fmt: skip
PASSED = 200
SHARED = {"policies"}  # what everybody sees, whatever their scope

PAGES = {  # who sees the list; the thing whose page is asked for, if there is one in each world
    "backups.backup": (ALL, "backup_id"),
    "backups.backuppart": (ALL, "part"),
    "backups.verification": (ALL, "verification_id"),
    "backups.storage": (ALL, "storages"),
    "backups.repository": (ALL, "repositories"),
    "backups.source": (ALL, "sources"),
    "backups.schedule": (ALL, "schedule"),
    "backups.policy": (ALL, ""),
    "backups.site": (ALL, ""),
    "recovery.recovery": (ALL, "recovery_id"),
    "core.environment": (ALL, "environment"),
    "core.node": (ALL, ""),
    "core.job": (ALL, ""),  # a job's row says nothing about where it belongs: listed empty within bounds
    "core.auditevent": ("AX", "event"),
    "core.apitoken": (ALL, "token_id"),
    "core.user": ("X", ""),
    "core.grant": ("X", ""),
    "auth.group": ("X", ""),
    "mfa.authenticator": ("X", ""),
    "django_celery_beat.periodictask": ("X", ""),
    "django_celery_beat.crontabschedule": ("X", ""),
    "django_celery_beat.intervalschedule": ("X", ""),
    "django_celery_beat.solarschedule": ("X", ""),
    "django_celery_beat.clockedschedule": ("X", ""),
}


@pytest.fixture
def ours(db: None) -> World:
    """Where the person has the role."""
    return world("ours")


@pytest.fixture
def theirs(owner: User) -> World:
    """Where somebody else has."""
    found = world("theirs")
    found.rows["token_id"] = ApiToken.objects.issue(owner, "foreign")[0]
    return found


def ask(client: APIClient, door: str, place: World) -> int:
    """The status of the answer; nothing that was done stays."""
    method, _, address = door.partition(" ")
    noun = address.partition("/")[0]
    for word in ("backup_id", "verification_id", "recovery_id"):
        address = address.replace(f"<uuid:{word}>", place.id(word))
    if "token_id" in address:
        address = address.replace("<uuid:token_id>", str(ApiToken.objects.get(pk=place.rows["token_id"].pk).id))
    if "<str:reference>" in address:
        address = address.replace("<str:reference>", place.id(noun))
    body = json.dumps(next((said for word, said in BODIES.items() if word in address.split("/")), {}))
    address += f"?against={place.id('against')}" if address.endswith("/diff") else ""
    address += "?path=/x" if address.endswith("/find") else ""
    with transaction.atomic():
        answer = client.generic(method, f"/api/v1/backup/{address}", body, content_type="application/json")
        transaction.set_rollback(True)
    started = answer.status_code == 500 and address.endswith(
        ("/test", "/keys")
    )  # no runner starts inside a test's transaction
    return PASSED if started else answer.status_code


def expected(door: str, letter: str) -> tuple[set[int] | None, set[int] | None]:
    """(in scope, out of scope); None: whatever is neither 403 nor 404."""
    letters = DOORS[door]
    noun = door.split()[1].partition("/")[0]
    if letter.lower() in letters:
        return {404}, {404}
    if noun in SHARED and "PATCH" in door and letter in "OX":
        return {404}, {404}
    if letter not in letters:
        return {403}, {403}
    if "<" not in door:
        return None, None
    return None, None if noun in SHARED else {404}


def wrong(status: int, wanted: set[int] | None) -> bool:
    return status in (403, 404, 500) if wanted is None else status not in wanted


def test_every_door_is_in_the_table() -> None:
    assert set(declared()) == set(DOORS)


@pytest.mark.parametrize("letter", ROLES)
def test_every_door_of_the_api_knows_the_roles_and_their_scope(
    letter: str, ours: World, theirs: World, api_for: Callable[[User], APIClient]
) -> None:
    rita = person(ROLES[letter], ours.environment)
    ours.rows["token_id"] = ApiToken.objects.issue(rita, "own")[0]
    ours.rows["policies"] = theirs.rows["policies"] = policy()
    ours.rows["against"] = theirs.rows["against"] = ours.rows["backup_id"]
    client = api_for(rita)

    told = {door: (ask(client, door, ours), ask(client, door, theirs)) for door in DOORS}

    wanted = {door: expected(door, letter) for door in DOORS}
    bad = {
        door: (seen, wanted[door])
        for door, seen in told.items()
        if wrong(seen[0], wanted[door][0]) or wrong(seen[1], wanted[door][1])
    }
    assert not bad


@pytest.mark.parametrize("address", ["adopt", "<str:reference>/keys", "<str:reference>/keys/new-code"])
def test_only_an_administrator_of_the_whole_console_adopts_or_lets_somebody_in(
    ours: World, owner: User, api_for: Callable[[User], APIClient], address: str
) -> None:
    bounded, whole = person(ADMIN, ours.environment, name="rob"), User.objects.create_user("rita", is_staff=True)
    whole.groups.add(Group.objects.get(name=ADMIN))

    seen = {user.username: ask(api_for(user), f"POST repositories/{address}", ours) for user in (bounded, whole)}

    assert seen["rob"] == 403
    assert seen["rita"] not in (403, 404)


LISTS = ["list", "verifications", "storages", "repositories", "sources", "schedule/list", "recover/list"]


@pytest.mark.parametrize("address", LISTS)
def test_lists_hold_what_is_in_scope_and_nothing_else(
    address: str, ours: World, theirs: World, api_for: Callable[[User], APIClient]
) -> None:
    client = api_for(person(VIEWER, ours.environment))

    listed = client.get(f"/api/v1/backup/{address}", {"count": "true"} if "/" not in address[:4] else {})

    body = client.get(f"/api/v1/backup/{address}").json() if listed.status_code == 400 else listed.json()
    word = {"list": "backup_id", "verifications": "verification_id", "schedule/list": "schedule",
            "recover/list": "recovery_id"}.get(address, address)  # fmt: skip
    assert [row["id"] for row in body["results"]] == [ours.id(word)]
    assert "theirs" not in str(body)


# --- the admin --------------------------------------------------------------------------------------------------------


def registered() -> Iterator[tuple[str, Any]]:
    for model, page in admin.site._registry.items():
        yield model._meta.label_lower, page


def test_every_page_of_the_admin_is_scoped_and_in_the_table() -> None:
    pages = dict(registered())

    assert not [name for name, page in pages.items() if not isinstance(page, ScopedAdmin)]
    assert set(pages) - {"safes.safe"} == set(PAGES)


@pytest.mark.parametrize("letter", ROLES)
def test_every_page_of_the_admin_knows_the_roles_and_their_scope(
    letter: str, ours: World, theirs: World, client: Client
) -> None:
    rita = person(ROLES[letter], ours.environment)
    ours.rows["token_id"] = ApiToken.objects.issue(rita, "own")[0]
    client.force_login(rita)
    bad: dict[str, Any] = {}

    for name, (letters, word) in PAGES.items():
        base = f"/admin/{name.replace('.', '/')}/"
        found = [client.get(base)]
        found += [client.get(f"{base}{place.rows[word].pk}/change/") for place in (ours, theirs) if word]
        wanted = ([200] + ([200, 404] if word else [])) if letter in letters else [403] * len(found)
        if [answer.status_code for answer in found] != wanted or "theirs" in found[0].text:
            bad[name] = [answer.status_code for answer in found]

    assert not bad


FORMS = {"storage": "X", "repository": "X", "source": "X"}  # who adds one
SETTINGS = {"storage": ("X", "storages"), "source": ("X", "sources")}  # who changes the options; the thing


@pytest.mark.parametrize("letter", ROLES)
def test_the_forms_of_the_admin_know_the_roles_and_their_scope(
    letter: str, ours: World, theirs: World, client: Client
) -> None:
    client.force_login(person(ROLES[letter], ours.environment))

    adding = {noun: client.get(f"/admin/backups/{noun}/add/?kind=local") for noun in FORMS}
    settings = {
        noun: [
            client.get(f"/admin/backups/{noun}/{place.rows[word].pk}/options/").status_code for place in (ours, theirs)
        ]
        for noun, (_letters, word) in SETTINGS.items()
    }

    assert {noun: answer.status_code for noun, answer in adding.items()} == {
        noun: 200 if letter in letters else 403 for noun, letters in FORMS.items()
    }
    assert not [noun for noun, answer in adding.items() if "theirs" in answer.text]
    assert settings == {
        noun: [200, 404] if letter in letters else [403, 404] for noun, (letters, _word) in SETTINGS.items()
    }
