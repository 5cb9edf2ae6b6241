"""Schemathesis over our OpenAPI document: what it makes up is asked of the console itself, in this process, by WSGI.

The document is narrowed before: where an address or a body names something, the names of what is really there are
offered, so that half of the questions come behind the first refusal. What a question did is undone after it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

from tests.api import conformity
from tests.roles.worlds import World

load_all_checks()
CHECKS = [
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance, openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance, openapi_checks.negative_data_rejection,
]  # fmt: skip
EXCUSED = (503, 507)  # a place that does not answer, or is full; whatever else of 5xx is a bug, documented or not
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
_ELSEWHERE = {"host": "127.0.0.1", "port": 1, "endpoint": "http://127.0.0.1:1", "bin_dir": "/usr/bin"}


class Tally:
    """What was asked and what came back."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: dict[tuple[str, str], str] = {}  # (operation, kind of failure) → the first one's words

    @property
    def cases(self) -> int:
        """How many questions."""
        return sum(self.statuses.values())


class Fuzzer:
    """One caller's questions; `token` is theirs, `place` a directory below which generated paths are laid."""

    def __init__(self, world: World, token: str, place: Path) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}
        self.place = place
        self.schema = schemathesis.openapi.from_dict(narrowed(conformity.document(), known(world)))
        self.schema.app = get_wsgi_application()
        self.tally = Tally()

    def operations(self) -> dict[str, Any]:
        """By their ids."""
        found: list[Any] = [one.ok() for one in self.schema.get_all_operations()]  # type: ignore[union-attr]  # ours are valid
        return {one.definition.raw["operationId"]: one for one in found}

    def told(self) -> dict[str, Any]:
        """Everything, for a report."""
        failures = {" ".join(key): words for key, words in self.tally.failures.items()}
        facts = {"operations": len(self.operations()), "cases": self.tally.cases, "failures": failures}
        return {**facts, "statuses": self.tally.statuses}

    def fuzz(self, operation: Any, mode: GenerationMode, examples: int, number: int = 0) -> None:
        """So many questions of that mode; findings are gathered, so that one does not hide the others."""

        @seed(number)
        @settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            self.ask(case)

        ask()

    def ask(self, case: Any) -> None:
        """One question, undone after it."""
        if case.operation.method != "get" and isinstance(case.body, (dict, list)):
            case.body = tamed(case.body, self.place)
        with undone():
            response = case.call(headers=self.headers)
        self.tally.statuses[response.status_code] += 1
        if response.status_code >= 500 and response.status_code not in EXCUSED:
            self._note(case, AssertionError(f"answered {response.status_code}: {response.text[:500]}"))
        try:
            case.validate_response(response, checks=CHECKS, headers=self.headers)
        except FailureGroup as group:
            for failure in group.exceptions:
                self._note(case, failure)

    def _note(self, case: Any, failure: Any) -> None:
        kind = failure.title if isinstance(failure, Failure) else type(failure).__name__
        words = f"{failure}\n{case.as_curl_command()}"
        self.tally.failures.setdefault((case.operation.definition.raw["operationId"], kind), words)


@contextmanager
def undone() -> Iterator[None]:
    """Nothing stays; and Django does not take the connection away after each answer, as its own client sees to."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        with _block():
            yield
            transaction.set_rollback(True)
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


def _block() -> transaction.Atomic:
    """As those of Django's own test cases: what must not be called inside of a transaction may be inside of this."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]  # the stubs do not know it
    return block


# --- what is there ----------------------------------------------------------------------------------------------------


def known(world: World) -> dict[str, list[str]]:
    """By the member or parameter that names it: things that are there, and one that is not."""
    words = (
        "backup_id",
        "verification_id",
        "recovery_id",
        "storages",
        "repositories",
        "sources",
        "policies",
        "schedule",
    )
    found = {word: [world.id(word)] for word in words}
    found["token_id"] = [str(world.rows["token_id"].id)]  # not its key, which is the digest
    found |= {
        "source": found["sources"], "repository": found["repositories"], "storage": found["storages"],
        "policy": found["policies"], "environment": [world.environment.name], "node": ["host"],
        "backup": found["backup_id"], "against": found["backup_id"],
    }  # fmt: skip
    return found


def narrowed(document: Mapping[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """The document with these names where something is named."""
    found: dict[str, Any] = copy.deepcopy(dict(document))
    for address, methods in found["paths"].items():
        for one in methods.values():
            for parameter in one.get("parameters", []):
                offered = names.get(_noun(address) if parameter["name"] == "reference" else parameter["name"])
                if offered and parameter["in"] in ("path", "query"):
                    parameter["schema"]["enum"] = offered
    for component in found["components"]["schemas"].values():
        if component.get("additionalProperties") is False:  # bodies are closed, answers are not
            for name, member in component["properties"].items():
                _offer(member, names.get(name))
    return found


def _offer(member: dict[str, Any], offered: list[str] | None) -> None:
    if offered is None:
        return
    if member.get("type") == "array":
        member["items"]["enum"] = offered
    elif member.get("type") == "string":
        member["enum"] = offered


def _noun(address: str) -> str:
    """“sources” of /api/v1/backup/sources/{reference}/test."""
    return address.partition("/{")[0].rpartition("/")[2]


def tamed(value: Any, place: Path) -> Any:
    """The same body, whose paths lie below `place` and whose hosts are this one: made-up ones are not touched."""
    if isinstance(value, dict):
        return {name: _ELSEWHERE.get(name, tamed(one, place)) for name, one in value.items()}
    if isinstance(value, list):
        return [tamed(one, place) for one in value]
    if isinstance(value, str) and value.startswith("/"):
        return f"{place}{value.replace('..', '__')}"
    return value
