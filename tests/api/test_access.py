"""Who may do what at every address. An address or method that is not classified here fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from aihub_backup.core.api.endpoint import Endpoint, operation_of
from aihub_backup.core.api.routes import Nowhere
from aihub_backup.core.models import User
from tests.api.stories import Answer, Caller

NEEDS = {
    "POST create": "backups.run_backup",
    "GET list": "backups.view_backup",
    "GET status/<uuid:backup_id>": "backups.view_backup",
    "GET <uuid:backup_id>": "backups.view_backup",
    "DELETE <uuid:backup_id>": "backups.delete_backup",
    "POST <uuid:backup_id>/cancel": "backups.cancel_backup",
    "POST <uuid:backup_id>/hold": "backups.hold_backup",
    "POST <uuid:backup_id>/release": "backups.hold_backup",
    "GET <uuid:backup_id>/contents": "backups.browse_backup",
    "GET <uuid:backup_id>/diff": "backups.browse_backup",
    "GET <uuid:backup_id>/log": "backups.view_backup",
    "POST verify/<uuid:backup_id>": "backups.verify_backup",
    "GET verifications": "backups.view_verification",
    "GET verifications/<uuid:verification_id>": "backups.view_verification",
    "POST verifications/<uuid:verification_id>/cancel": "backups.verify_backup",
    "GET storages": "backups.view_storage",
    "POST storages": "backups.add_storage",
    "GET storages/<str:reference>": "backups.view_storage",
    "PATCH storages/<str:reference>": "backups.change_storage",
    "POST storages/<str:reference>/test": "backups.change_storage",
    "GET repositories": "backups.view_repository",
    "POST repositories": "backups.add_repository",
    "GET repositories/<str:reference>": "backups.view_repository",
    "POST repositories/adopt": "backups.add_repository",
    "GET repositories/<str:reference>/adoption": "backups.view_repository",
    "POST repositories/<str:reference>/adoption/cancel": "backups.add_repository",
    "GET repositories/<str:reference>/compact": "backups.change_repository",
    "POST repositories/<str:reference>/compact": "backups.change_repository",
    "GET repositories/<str:reference>/compaction": "backups.view_repository",
    "POST repositories/<str:reference>/compaction/cancel": "backups.change_repository",
    "POST repositories/<str:reference>/prove-kit": "backups.change_repository",
    "POST repositories/<str:reference>/waive-kit": "backups.change_repository",
    "POST repositories/<str:reference>/accept-history": "backups.change_repository",
    "GET repositories/<str:reference>/find": "backups.browse_backup",
    "GET repositories/<str:reference>/repair": "backups.view_repository",
    "POST repositories/<str:reference>/repair": "backups.change_repository",
    "POST repositories/<str:reference>/repair/cancel": "backups.change_repository",
    "GET repositories/<str:reference>/keys": "backups.view_repository",
    "POST repositories/<str:reference>/keys": "backups.change_repository",
    "POST repositories/<str:reference>/keys/new-code": "backups.change_repository",
    "POST repositories/<str:reference>/keys/change": "backups.change_repository",
    "POST repositories/<str:reference>/keys/remove": "backups.change_repository",
    "POST repositories/<str:reference>/keys/rotate": "backups.change_repository",
    "POST repositories/<str:reference>/keys/renew": "backups.change_repository",
    "GET sources": "backups.view_source",
    "POST sources": "backups.add_source",
    "GET sources/<str:reference>": "backups.view_source",
    "PATCH sources/<str:reference>": "backups.change_source",
    "DELETE sources/<str:reference>": "backups.delete_source",
    "POST sources/<str:reference>/test": "backups.change_source",
    "POST sources/<str:reference>/pause": "backups.change_source",
    "POST sources/<str:reference>/resume": "backups.change_source",
    "GET policies": "backups.view_policy",
    "POST policies": "backups.add_policy",
    "GET policies/<str:reference>": "backups.view_policy",
    "PATCH policies/<str:reference>": "backups.change_policy",
    "POST schedule": "backups.add_schedule",
    "GET schedule/list": "backups.view_schedule",
    "GET schedule/<str:reference>": "backups.view_schedule",
    "PATCH schedule/<str:reference>": "backups.change_schedule",
    "DELETE schedule/<str:reference>": "backups.delete_schedule",
    "POST schedule/<str:reference>/run": "backups.run_backup",
    "PUT schedule/<str:reference>/enable": "backups.change_schedule",
    "POST recover": "recovery.request_recovery",
    "GET recover/list": "recovery.view_recovery",
    "GET recover/status/<uuid:recovery_id>": "recovery.view_recovery",
    "POST recover/rollback/<uuid:recovery_id>": "recovery.rollback_recovery",
    "GET recover/<uuid:recovery_id>": "recovery.view_recovery",
    "DELETE recover/<uuid:recovery_id>": "recovery.cancel_recovery",
    "GET recover/<uuid:recovery_id>/log": "recovery.view_recovery",
    "GET tokens": "core.view_apitoken",
    "POST tokens": "core.add_apitoken",
    "GET tokens/<uuid:token_id>": "core.view_apitoken",
    "DELETE tokens/<uuid:token_id>": "core.delete_apitoken",
}
ELSEWHERE = {"api/v1/schema", "api/v1/docs"}  # for everybody who is signed in
METHODS = ("get", "post", "put", "patch", "delete")


def patterns(resolver: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (address, view class) below /api/."""
    for entry in resolver.url_patterns:
        address = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, address)
        elif isinstance(entry, URLPattern) and address.startswith("api/"):
            yield address, getattr(entry.callback, "cls", None)


def declared() -> dict[str, str | None]:
    """Every "METHOD address" there is and what it needs."""
    found: dict[str, str | None] = {}
    for address, view in patterns(get_resolver()):
        short = address.removeprefix("api/v1/backup/").removesuffix("/")
        if view is None or not issubclass(view, Endpoint):
            assert short in ELSEWHERE, f"{address} is not one of our endpoints"
            continue
        for method in METHODS:
            if hasattr(view, method):
                operation = operation_of(view(), method.upper())
                found[f"{method.upper()} {short}"] = operation.needs if operation else None
    return found


def test_every_address_is_classified() -> None:
    assert declared() == NEEDS


def test_every_permission_exists(db: None) -> None:
    rows = Permission.objects.values_list("content_type__app_label", "codename")
    assert set(NEEDS.values()) <= {f"{app}.{codename}" for app, codename in rows}


def ask(client: APIClient, row: str) -> Answer:
    """Ask with an id that nobody has and without a body."""
    method, _, address = row.partition(" ")
    for name in ("backup_id", "verification_id", "recovery_id", "token_id"):
        address = address.replace(f"<uuid:{name}>", str(UUID(int=7)))
    address = address.replace("<str:reference>", "nobody")
    return Answer(client.generic(method, f"/api/v1/backup/{address}", "{}", content_type="application/json"))


@pytest.mark.parametrize("row", NEEDS)
def test_nobody_passes_without_the_permission(
    row: str, stranger: User, api_for: Callable[[User], APIClient], caller_with: Callable[..., Caller]
) -> None:
    others = sorted(set(NEEDS.values()) - {NEEDS[row]})
    holder_of_all_others = caller_with(*others)

    assert ask(APIClient(), row).status == 401
    assert ask(api_for(stranger), row)["permission"] == NEEDS[row]
    assert ask(holder_of_all_others.client, row).status == 403


@pytest.mark.parametrize("row", NEEDS)
def test_the_permission_alone_opens_the_door(row: str, caller_with: Callable[..., Caller]) -> None:
    answer = ask(caller_with(NEEDS[row]).client, row)

    assert answer.status in (200, 202, 400, 404), answer
    if "<" in row and answer.status != 400:
        assert answer.status == 404


def test_an_address_without_a_declaration_is_open_to_nobody(caller_with: Callable[..., Caller]) -> None:
    assert not [method for method in METHODS if hasattr(Nowhere, method)]


def test_the_schema_is_for_those_who_are_signed_in(stranger: User, api_for: Callable[[User], APIClient]) -> None:
    for address in ELSEWHERE:
        assert APIClient().get(f"/{address}").status_code == 401
        assert api_for(stranger).get(f"/{address}", headers={"Accept": "*/*"}).status_code == 200
