"""Does an answer look as the published schema says? Asked of every answer in these tests."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

_OPEN = {"Problem"}  # refusals carry members of their own beside the common ones


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    make: Any = SchemaGenerator
    found: dict[str, Any] = make().get_schema(request=None, public=True)
    return found


@cache
def _closed() -> dict[str, Any]:
    """The components, with every member that is not declared forbidden."""
    components = copy.deepcopy(document()["components"])
    for name, schema in components["schemas"].items():
        if "properties" in schema and name not in _OPEN:
            schema.setdefault("additionalProperties", False)
    return dict(components)


def check(response: Any) -> None:
    """AssertionError when the status, the media type or the body is not as declared."""
    route, method = response.resolver_match.route, response.request["REQUEST_METHOD"].lower()
    operations = document()["paths"].get("/" + re.sub(r"<\w+:(\w+)>", r"{\1}", route).removesuffix("/"))
    if operations is None or method not in operations:
        assert response.status_code in (401, 404, 405, 406), f"{method} {route} is not in the schema"
        return
    if response.status_code in (405, 500):  # the same at every address
        return
    declared = operations[method]["responses"]
    assert str(response.status_code) in declared, f"{method} {route} does not declare {response.status_code}"
    _check_body(response, declared[str(response.status_code)])


def _check_body(response: Any, declared: dict[str, Any]) -> None:
    if not response.content:
        assert "content" not in declared
        return
    media = response.headers["Content-Type"].partition(";")[0]
    assert media in declared["content"], f"{media} is not declared for {response.status_code}"
    schema = {**declared["content"][media]["schema"], "components": _closed()}
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(response.json())
    ]
    assert not errors, errors
