"""Declaring operations: one statement is the permission check, the reading of bodies, and the OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from aihub_backup.core.api.bodies import Body, Nothing, Query
from aihub_backup.core.api.endpoint import Deed, Operation, performing
from aihub_backup.core.problems import KINDS, MEDIA_TYPE, TYPES

Shape = type[serializers.BaseSerializer[Any]] | None
Answers = Mapping[int, Shape]

COMMON = (400, 401, 403, 406, 429, 503)
_pages: dict[type[Any], type[serializers.Serializer[Any]]] = {}


class FieldErrorShape(serializers.Serializer[Any]):
    """One wrong value."""

    pointer = serializers.CharField(help_text="JSON pointer into the body; /name of a query parameter or header.")
    location = serializers.ChoiceField(["body", "query", "header"])
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """RFC 9457. `code` and `type` are for programs and stay; `title` and `detail` are for people."""

    type = serializers.CharField(help_text=f"{TYPES} and the code: a page of this console that says what it means.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What happened, where, and the cure.")
    instance = serializers.CharField()
    code = serializers.CharField(help_text=f"One of: {', '.join(KINDS)}.")
    reason = serializers.CharField(required=False, help_text="A finer code, where there is one.")
    request_id = serializers.CharField()
    retryable = serializers.BooleanField(help_text="May the same request succeed later?")
    errors = FieldErrorShape(many=True, required=False)  # type: ignore[assignment]  # the metaclass takes it out
    links = serializers.DictField(child=serializers.CharField(), required=False)


class WorkError(serializers.Serializer[Any]):
    """Why finished work failed: a problem without an HTTP status."""

    type = serializers.CharField(required=False)
    code = serializers.CharField()
    detail = serializers.CharField()
    retryable = serializers.BooleanField()


class Progress(serializers.Serializer[Any]):
    """How far work is; unknown values are null. `percent` is 100 only when the work has ended well."""

    phase = serializers.CharField(allow_null=True)
    percent = serializers.FloatField(allow_null=True, min_value=0, max_value=100)
    bytes_done = serializers.IntegerField(allow_null=True)
    bytes_total = serializers.IntegerField(allow_null=True)
    bytes_kept = serializers.IntegerField(
        allow_null=True, help_text="Of bytes_done: brought back by an attempt that was lost, and proved by this one."
    )
    items_done = serializers.IntegerField(allow_null=True)
    items_total = serializers.IntegerField(allow_null=True)
    rate_bytes_per_second = serializers.FloatField(allow_null=True)
    eta_seconds = serializers.IntegerField(allow_null=True)
    heartbeat_at = serializers.DateTimeField(allow_null=True)
    indeterminate = serializers.BooleanField()


class Requester(serializers.Serializer[Any]):
    """Who asked for it."""

    type = serializers.CharField(help_text="user, token, schedule, system or cli.")
    name = serializers.CharField()


def operation(
    operation_id: str,
    *,
    needs: str,
    answers: Answers,
    summary: str,
    body: type[Body] = Nothing,
    query: type[Query] = Query,
    problems: Iterable[int] = (),
    examples: Sequence[OpenApiExample] = (),
    tagged: bool = False,
    once: bool = False,
    tag: str = "backups",
) -> Callable[[Deed], Deed]:
    """Declare a method of an Endpoint: its fixed id, the permission it needs, what it takes and what it answers."""
    declared = Operation(operation_id, needs, body, query, tagged, once)

    def declare(method: Deed) -> Deed:
        refusals = {*problems, *_MORE.get(method.__name__, ())}
        described = extend_schema(
            operation_id=operation_id, summary=summary, tags=[tag], examples=list(examples),
            description=f"{(method.__doc__ or '').strip()}\n\nPermission: `{needs}`.",
            request=None if body is Nothing else body, responses=_responses(answers, refusals, tagged),
            parameters=[*_queries(query), *_headers(answers, tagged, method.__name__)],
        )  # fmt: skip
        return described(performing(declared, method))

    return declare


def progress(facts: Mapping[str, Any], *, ended_well: bool, heartbeat_at: Any = None) -> dict[str, Any]:
    """The keys of `core.jobs.progress` as the API shows them."""
    ratio = facts.get("ratio")
    percent = 100.0 if ended_well else None if ratio is None else min(99.0, round(100 * ratio, 1))
    if ended_well:  # what was told last was told before the end
        facts = {**facts, "phase": None, **{f"{of}_done": facts.get(f"{of}_total") for of in ("bytes", "items")}}
    names = ("phase", "bytes_done", "bytes_total", "bytes_kept", "items_done", "items_total", "eta_seconds")
    return {
        **{name: facts.get(name) for name in names}, "percent": percent,
        "rate_bytes_per_second": facts.get("bytes_per_second"), "indeterminate": percent is None,
        "heartbeat_at": heartbeat_at or facts.get("heartbeat_at"),
    }  # fmt: skip


def page_of(shape: type[serializers.Serializer[Any]], *, sparse: bool = False) -> type[serializers.Serializer[Any]]:
    """The shape of a page of such rows; `sparse` ones may lack members, because `fields=` cuts them."""
    if shape not in _pages:
        members: dict[str, Any] = {
            "__doc__": "A page of a list.",
            "count": serializers.IntegerField(allow_null=True),
            "next": serializers.CharField(allow_null=True, help_text="Path and query of the next page."),
            "previous": serializers.CharField(allow_null=True),
            "results": (_row_of(shape) if sparse else shape)(many=True),
        }
        _pages[shape] = type(f"{shape.__name__}Page", (serializers.Serializer,), members)
    return _pages[shape]


def _row_of(shape: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The same shape in which nothing is required."""

    def get_fields(self: Any) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields: dict[str, serializers.Field[Any, Any, Any, Any]] = shape.get_fields(self)
        for field in fields.values():
            field.required = False
        return fields

    return type(f"{shape.__name__}Row", (shape,), {"__doc__": shape.__doc__, "get_fields": get_fields})


def close_bodies(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Schema hook: unknown members are refused, so the schema says so; synonyms are named."""
    components = result.get("components", {}).get("schemas", {})
    for kind in _descendants(Body):
        found = components.get(kind.__name__) or components.get(f"Patched{kind.__name__}")
        if found is not None:
            found["additionalProperties"] = False
            _add_synonyms(found, kind)
    return result


def _add_synonyms(schema: dict[str, Any], kind: type[Body]) -> None:
    for other, ours in kind.SYNONYMS.items():
        if ours in schema["properties"]:
            schema["properties"][other] = {**schema["properties"][ours], "description": f"The same as `{ours}`."}


def _descendants(kind: type[Body]) -> list[type[Body]]:
    below = kind.__subclasses__()
    return below + [deeper for child in below for deeper in _descendants(child)]


def _responses(answers: Answers, problems: Iterable[int], tagged: bool) -> dict[Any, Any]:
    told: dict[Any, Any] = {status: OpenApiResponse(shape, _WORDS[status]) for status, shape in answers.items()}
    if tagged:
        told[304] = OpenApiResponse(None, _WORDS[304])
    for status in sorted({*COMMON, *problems}):
        told[status, MEDIA_TYPE] = OpenApiResponse(Problem, _WORDS[status])
    return told


def _queries(query: type[Query]) -> list[Any]:
    return [query] if query().fields else []


def _headers(answers: Answers, tagged: bool, method: str) -> list[OpenApiParameter]:
    told = []
    if method == "post":
        words = "A name for this request: repeating it within 48 hours gets the first answer and does nothing again."
        told.append(OpenApiParameter("Idempotency-Key", OpenApiTypes.STR, OpenApiParameter.HEADER, description=words))
    if tagged:
        told.append(OpenApiParameter("If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER))
        told.append(OpenApiParameter("ETag", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[200, 304]))
    placed = [status for status in answers if status in (201, 202)]
    if placed:
        words = "Where the made thing, or the state of the work, is."
        told.append(
            OpenApiParameter("Location", OpenApiTypes.STR, OpenApiParameter.HEADER, response=placed, description=words)
        )
    if 202 in answers:
        told.append(OpenApiParameter("Retry-After", OpenApiTypes.INT, OpenApiParameter.HEADER, response=[202]))
    return told


# A repeated POST may come too early, or with another body.
_MORE = {"post": (409, 413, 415, 422), "patch": (413, 415), "put": (413, 415)}

_WORDS = {
    200: "Done, or the present state.", 201: "Made.", 202: "Accepted; the work goes on.", 204: "Done.",
    304: "Unchanged since that ETag.", 400: "Something in the request is not valid.", 401: "Not signed in.",
    403: "The permission is missing.", 404: "Not there, or not for you.", 406: "JSON only.",
    413: "Too large.", 409: "The present state does not allow it.", 410: "It was deleted.", 412: "Changed meanwhile.",
    415: "JSON only.", 422: "Understood, but it cannot be done.", 429: "Too many requests.",
    503: "Something we need does not answer.", 507: "The storage is full.",
}  # fmt: skip
