"""One id for each request: taken from the caller or made, echoed, and bound to every log line of the request."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar

import structlog
from django.core.exceptions import BadRequest, ValidationError
from django.http import HttpRequest, HttpResponse

_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else could break log lines or headers

_current: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The id of the request in hand; empty outside one."""
    return _current.get()


class RequestIdMiddleware:
    """Reads or makes X-Request-ID."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request under its id."""
        given = request.headers.get("X-Request-ID", "")
        name = given if _ACCEPTED.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        token = _current.set(name)
        with structlog.contextvars.bound_contextvars(request_id=name):
            try:
                response = self.get_response(request)
            finally:
                _current.reset(token)
        response["X-Request-ID"] = name
        return response


class UnreadableValueMiddleware:
    """Values that no form of ours sends and that break Django's own widgets and lookups when they are shown again (a
    choice that is no UUID, a key with forty digits): a bad request, not a failure of ours."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """As ever."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Raises BadRequest in place of what such a value led to; it was not stored."""
        if request.method == "POST" and isinstance(exception, (ValidationError, OverflowError)):
            raise BadRequest("A value in this form cannot be read.") from exception
