"""The published OpenAPI: complete, closed, without secrets, usable offline. Every other story checks answers by it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

from django.contrib.staticfiles import finders
from django.core.management import call_command
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types
from rest_framework.test import APIClient

from tests.api import conformity
from tests.api.stories import Caller
from tests.api.test_access import NEEDS, ask

OPERATIONS = {
    "backup_cancel", "backup_contents", "backup_create", "backup_delete", "backup_diff", "backup_get",
    "backup_hold", "backup_list", "backup_log", "backup_release", "backup_status", "backup_verify", "policy_change",
    "policy_create", "policy_get", "policy_list", "recover_cancel", "recover_create", "recover_get", "recover_list",
    "recover_log", "recover_rollback", "recover_status", "repository_accept_history", "repository_adopt",
    "repository_adoption", "repository_adoption_cancel", "repository_compact",
    "repository_compact_preview", "repository_compaction", "repository_compaction_cancel", "repository_create",
    "repository_find", "repository_get", "repository_keys", "repository_key_add", "repository_key_change",
    "repository_key_new_code", "repository_key_remove", "repository_key_renew", "repository_key_rotate",
    "repository_list", "repository_prove_kit", "repository_repair", "repository_repair_cancel",
    "repository_repair_status", "repository_waive_kit", "source_archive",
    "schedule_change", "schedule_create", "schedule_delete", "schedule_enable", "schedule_get", "schedule_list",
    "schedule_run", "source_change", "source_create", "source_get", "source_list", "source_pause", "source_resume",
    "source_test",
    "storage_change", "storage_create", "storage_get", "storage_list", "storage_test", "token_create", "token_get",
    "token_list", "token_revoke", "verification_cancel", "verification_list", "verification_status",
}  # fmt: skip


def operations() -> Iterator[dict[str, Any]]:
    """Every operation of the document."""
    for path in conformity.document()["paths"].values():
        yield from (one for method, one in path.items() if method != "parameters")


def test_the_command_finds_nothing_to_complain_about() -> None:
    out, complaints = StringIO(), StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out, stderr=complaints)

    assert "openapi: 3.1.0" in out.getvalue()
    assert complaints.getvalue() == ""


def test_operations_have_fixed_names() -> None:
    assert {one["operationId"] for one in operations()} == OPERATIONS
    assert len(OPERATIONS) == len(NEEDS)


def test_there_is_one_shape_of_problem() -> None:
    shapes = set()
    for one in operations():
        for status, answer in one["responses"].items():
            if status[0] in "45":
                assert list(answer["content"]) == ["application/problem+json"]
                shapes.add(answer["content"]["application/problem+json"]["schema"]["$ref"])

    assert shapes == {"#/components/schemas/Problem"}


def test_every_operation_says_who_may_and_what_for() -> None:
    for one in operations():
        assert one["summary"]
        assert "Permission: `" in one["description"]
        assert one["security"] == [{"token": []}, {"session": []}]


def test_bodies_are_closed() -> None:
    components = conformity.document()["components"]["schemas"]
    for one in operations():
        body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if body:
            assert components[body["$ref"].rpartition("/")[2]]["additionalProperties"] is False


def test_synonyms_are_told() -> None:
    components = conformity.document()["components"]["schemas"]

    assert {"backup_type", "strategy_name"} <= set(components["CreateBackup"]["properties"])
    assert "recovery_type" in components["RequestRecovery"]["properties"]


def test_options_of_plugins_are_described() -> None:
    components = conformity.document()["components"]["schemas"]
    kinds = {one["title"]: one for one in components["CreateSource"]["properties"]["options"]["anyOf"]}

    assert {"strategy files", "strategy sqlite"} <= set(kinds)
    assert kinds["strategy files"]["required"] == ["paths"]
    for shape in ("SourceShape", "StorageShape"):
        assert "writeOnly" not in json.dumps(components[shape])


def test_examples_are_valid() -> None:
    seen = 0
    for one in operations():
        content = one.get("requestBody", {}).get("content", {}).get("application/json", {})
        schema = {**content.get("schema", {}), "components": conformity.document()["components"]}
        for example in content.get("examples", {}).values():
            seen += 1
            assert not list(Draft202012Validator(schema).iter_errors(example["value"])), example
    assert seen >= 8


def test_it_is_served_to_those_who_are_signed_in(api: APIClient) -> None:
    served = api.get("/api/v1/schema", headers={"Accept": "application/vnd.oai.openapi+json"})

    assert served.status_code == 200
    assert set(served.json()["paths"]) == set(conformity.document()["paths"])


def test_the_documentation_page_needs_no_other_host(api: APIClient) -> None:
    page = api.get("/api/v1/docs", headers={"Accept": "text/html"}).content.decode()

    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    files = re.findall(r"(?:src|href)=\"/static/([^\"]+)\"", page)
    assert files
    assert all(finders.find(name) for name in files)


def test_the_walk_and_the_schema_know_the_same_addresses(call: Caller) -> None:
    for row in NEEDS:
        assert ask(call.client, row).status != 405
