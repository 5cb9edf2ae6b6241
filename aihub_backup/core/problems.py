"""Errors of the API as RFC 9457 problems: one shape, one registry, one sentence that says what to do.

`code` (and `type`, which ends with it) is the contract with programs; `title` and `detail` are for people.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from aihub_backup.core.failures import Denied, Failure, Invalid, NotFound, Refused, Unavailable
from aihub_backup.core.redaction import scrub
from aihub_backup.core.requests import request_id

log = logging.getLogger(__name__)

TYPES = "/problems/"  # a relative reference: the console that refuses explains itself (`core.problem_pages`)
MEDIA_TYPE = "application/problem+json"
BASE = "non_field_errors"  # where serializers put what concerns a whole object


class Kind(NamedTuple):
    """An HTTP status and a title."""

    status: int
    title: str | Promise


KINDS: dict[str, Kind] = {
    "validation-error": Kind(400, _("Some values are not valid")),
    "bad-request": Kind(400, _("The request cannot be understood")),
    "unknown-parameter": Kind(400, _("There is no such parameter")),
    "malformed-json": Kind(400, _("The body is not valid JSON")),
    "invalid-pattern": Kind(400, _("A pattern cannot be understood")),
    "invalid-cron": Kind(400, _("The cron expression is not valid")),
    "unauthenticated": Kind(401, _("Sign in first")),
    "token-expired": Kind(401, _("The token has expired")),
    "permission-denied": Kind(403, _("You may not do this")),
    "four-eyes-required": Kind(403, _("A second person must agree")),
    "not-found": Kind(404, _("There is no such thing")),
    "method-not-allowed": Kind(405, _("This address does not do that")),
    "not-acceptable": Kind(406, _("The answer cannot be given in that format")),
    "state-conflict": Kind(409, _("The present state does not allow this")),
    "operation-in-progress": Kind(409, _("This is already going on")),
    "name-taken": Kind(409, _("The name is taken")),
    "place-taken": Kind(409, _("The place is taken")),
    "recovery-kit-unproven": Kind(409, _("The recovery kit was not proven yet")),
    "tampered": Kind(409, _("Records of the repository are gone")),
    "another-console": Kind(409, _("Another console may still be at work")),
    "taken-over": Kind(409, _("Another console took the repository over")),
    "in-use": Kind(409, _("Something still needs this")),
    "on-hold": Kind(409, _("This is on hold")),
    "immutable": Kind(409, _("This cannot be changed")),
    "last-restorable-point": Kind(409, _("This is the last restorable point")),
    "last-schedule-of-source": Kind(409, _("Nothing else makes backups of a source by itself")),
    "not-cancellable": Kind(409, _("This cannot be cancelled any more")),
    "rollback-unavailable": Kind(409, _("There is nothing to roll back to")),
    "event-already-open": Kind(409, _("An event is already open")),
    "target-busy": Kind(409, _("The target is in use")),
    "idempotency-in-progress": Kind(409, _("The same request is being answered")),
    "backup-deleted": Kind(410, _("The backup was deleted")),
    "version-mismatch": Kind(412, _("Somebody changed this meanwhile")),
    "content-too-large": Kind(413, _("The body is too large")),
    "unsupported-media-type": Kind(415, _("The body must be JSON")),
    "idempotency-key-reused": Kind(422, _("The idempotency key belongs to another request")),
    "not-restorable": Kind(422, _("This cannot be restored")),
    "not-possible": Kind(422, _("This could not be done")),
    "wrong-recovery-code": Kind(422, _("This code does not open the repository")),
    "wrong-secret": Kind(422, _("This secret does not open the repository")),
    "storage-refused": Kind(422, _("The storage refused us")),
    "not-available": Kind(422, _("This is not available here")),
    "source-not-ready": Kind(422, _("The source is not ready")),
    "point-in-time-out-of-range": Kind(422, _("There is no recovery point for that time")),
    "target-incompatible": Kind(422, _("The target cannot take this")),
    "plan-not-ready": Kind(422, _("The plan is not ready")),
    "precondition-required": Kind(428, _("Say which version you saw")),
    "throttled": Kind(429, _("Too many requests")),
    "secret-unreadable": Kind(500, _("A secret cannot be read")),
    "no-application-key": Kind(500, _("There is no application key")),
    "internal-error": Kind(500, _("Something unforeseen happened")),
    "storage-unavailable": Kind(503, _("The storage does not answer")),
    "worker-unavailable": Kind(503, _("No worker answers")),
    "storage-full": Kind(507, _("The storage is full")),
}

# What a Failure means when its own code is not in the registry (it is kept as `reason` then).
_BY_CLASS: tuple[tuple[type[Failure], str], ...] = (
    (NotFound, "not-found"),
    (Denied, "permission-denied"),
    (Unavailable, "storage-unavailable"),
    (Invalid, "validation-error"),
    (Refused, "state-conflict"),
)

_BY_STATUS = {
    401: "unauthenticated", 403: "permission-denied", 404: "not-found", 405: "method-not-allowed",
    406: "not-acceptable", 413: "content-too-large", 415: "unsupported-media-type", 429: "throttled",
}  # fmt: skip


class FieldError(NamedTuple):
    """One wrong value: `pointer` is a JSON pointer into the body, or the name of a query parameter after a slash."""

    pointer: str
    code: str
    detail: str
    location: str = "body"


class InvalidRequest(Invalid):
    """Values of a request that cannot be accepted, each with its place."""

    def __init__(self, fields: Sequence[FieldError], *, code: str = "validation-error") -> None:
        super().__init__(_summary(fields))
        self.code = code
        self.fields = tuple(fields)


def handler(error: Exception, context: dict[str, Any]) -> Response:
    """Any error of a request as a problem; also the unforeseen ones, whose words stay in the log."""
    set_rollback()
    request = context.get("request")
    path = getattr(request, "path", "")
    failure, headers = _understood(error)
    document = problem(failure, path)
    if document["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = Response(document, status=document["status"], headers=headers, content_type=MEDIA_TYPE)
    response.exception = True
    return response


def problem(failure: Failure, instance: str) -> dict[str, Any]:
    """The problem document of a failure."""
    code = code_of(failure)
    document: dict[str, Any] = {
        "type": TYPES + code, "title": str(KINDS[code].title), "status": KINDS[code].status,
        "detail": scrub(failure.message), "instance": instance, "code": code, "request_id": request_id(),
        "retryable": not failure.permanent,
    }  # fmt: skip
    if failure.code != code:
        document["reason"] = failure.code
    errors = [field._asdict() for field in _fields(failure)]
    facts = {name: value for name, value in failure.facts.items() if name not in ("pointer", "errors", "retry_after")}
    return {**facts, **document, **({"errors": errors} if errors else {})}


def embedded(code: str, message: str, permanent: bool | None) -> dict[str, Any]:
    """The error of finished work, told inside a resource: the same words as a problem, without an HTTP status."""
    return {"type": TYPES + code, "code": code, "detail": scrub(message), "retryable": permanent is False}


def code_of(failure: Failure) -> str:
    """The registered slug that fits the failure best."""
    if failure.code in KINDS:
        return failure.code
    known = next((slug for kind, slug in _BY_CLASS if isinstance(failure, kind)), None)
    return known or ("not-possible" if failure.permanent else "storage-unavailable")


# --- from foreign errors --------------------------------------------------------------------------------------------


def _understood(error: Exception) -> tuple[Failure, dict[str, str]]:
    if isinstance(error, Failure):
        return error, _retry_header(error)
    if isinstance(error, Http404):
        return NotFound("There is nothing at this address."), {}
    if isinstance(error, PermissionDenied):
        return Denied("You may not do this."), {}
    if isinstance(error, exceptions.APIException):
        return _from_framework(error)
    if isinstance(getattr(error, "permanent", None), bool):
        return _from_engine(error), {}
    log.error("a request ended with an unforeseen error", exc_info=error)
    return unforeseen(), {}


def unforeseen() -> Failure:
    """What a person is told of a bug; the rest is in the log."""
    words = "The console met an unforeseen error; its log has the details under this request id."
    return Failure(words, permanent=False, code="internal-error")


def _retry_header(failure: Failure) -> dict[str, str]:
    wait = failure.facts.get("retry_after")
    if wait is None and code_of(failure) in ("storage-unavailable", "worker-unavailable"):
        wait = 10
    return {} if wait is None else {"Retry-After": str(wait)}


def _from_framework(error: exceptions.APIException) -> tuple[Failure, dict[str, str]]:
    wait = getattr(error, "wait", None)
    headers = {"Retry-After": str(int(wait) + 1)} if wait else {}
    if isinstance(error, exceptions.ValidationError):
        return InvalidRequest(list(field_errors(error.detail))), headers
    code = "malformed-json" if isinstance(error, exceptions.ParseError) else _BY_STATUS.get(error.status_code)
    transient = error.status_code == 429
    return Failure(_sentence(error), permanent=not transient, code=code or "internal-error"), headers


def _sentence(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.NotAuthenticated):
        return "Sign in, or send a token in the header “Authorization”, behind the word “Bearer”."
    if isinstance(error, exceptions.UnsupportedMediaType):
        return "Send the body as JSON, with the header “Content-Type: application/json”."
    if isinstance(error, exceptions.NotAcceptable):
        return "Answers are JSON only; send “Accept: application/json” or no Accept header."
    return str(error.detail)


def _from_engine(error: Exception) -> Failure:
    """An error that tells whether trying again helps: a storage or a repository spoke."""
    temporary = not getattr(error, "permanent")  # noqa: B009  # the caller has seen that it is there
    code = "storage-unavailable" if temporary else "state-conflict"
    return Failure(str(error), permanent=not temporary, code=code)


# --- fields ---------------------------------------------------------------------------------------------------------


def _fields(failure: Failure) -> Iterator[FieldError]:
    if isinstance(failure, InvalidRequest):
        yield from failure.fields
    elif isinstance(failure, Invalid):
        for name, sentence in failure.errors.items():
            code = "invalid" if failure.code == Invalid.code else failure.code
            yield FieldError(f"/{escaped(name)}" if name else "", code, scrub(sentence))
    elif isinstance(told := failure.facts.get("errors"), Mapping):  # by a runner, about a plug-in's options
        for name, sentence in told.items():
            yield FieldError(f"/options/{escaped(str(name))}" if name else "/options", "invalid", scrub(str(sentence)))
    elif "pointer" in failure.facts:  # a refusal that is about one member of the body
        yield FieldError(str(failure.facts["pointer"]), code_of(failure), scrub(failure.message))


def field_errors(detail: Any, pointer: str = "", location: str = "body") -> Iterator[FieldError]:
    """Every leaf of a serializer's errors with its JSON pointer."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            step = "" if name == BASE else f"/{escaped(str(name))}"
            yield from field_errors(inner, pointer + step, location)
    elif isinstance(detail, (list, tuple)):
        for number, inner in enumerate(detail):
            nested = isinstance(inner, (Mapping, list, tuple))
            step = f"/{number}" if nested else ""
            yield from field_errors(inner, pointer + step, location) if inner else ()
    else:
        yield FieldError(pointer, str(getattr(detail, "code", "invalid")).replace("_", "-"), str(detail), location)


def escaped(name: str) -> str:
    """A member's name inside a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _summary(fields: Sequence[FieldError]) -> str:
    """One sentence for people who read only the detail."""
    told = [f"{field.pointer.lstrip('/') or field.location}: {field.detail}" for field in fields]
    return " ".join(told) or "Some values are not valid."
