"""Who is asking: a bearer token, or the browser's session with its CSRF token."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.crypto import hash_token
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.request import Request

from aihub_backup.core.failures import Failure
from aihub_backup.core.models import ApiToken, User

if TYPE_CHECKING:
    from drf_spectacular.openapi import AutoSchema

SCHEME = "Bearer"
USE_NOTED_EVERY = timedelta(minutes=1)  # a write for each request would make every reader a writer


class Unauthenticated(Failure):
    """The credentials of a request are not good."""

    code = "unauthenticated"


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer aihub_…`. The row is found by the digest of the token, so no comparison leaks anything."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """The person and the token; None when the request brings no bearer token."""
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != SCHEME.lower().encode():
            return None
        if len(words) != 2:
            raise Unauthenticated("The Authorization header must be “Bearer”, a space, and the token.")
        token = _found(words[1].decode("latin-1"))
        _note_use(token)
        token.user.token = token
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """The challenge of a 401."""
        return SCHEME


class BrowserAuthentication(SessionAuthentication):
    """The session of a signed-in person; changes need the CSRF token."""


def _found(written: str) -> ApiToken:
    token = ApiToken.objects.select_related("user").filter(digest=hash_token(written)).first()
    if token is None:
        raise Unauthenticated("This token is not known; it may have been revoked.")
    if token.expired:
        raise Unauthenticated(f"This token has expired at {token.expiry:%Y-%m-%d %H:%M} UTC.", code="token-expired")
    if not token.user.is_active:
        raise Unauthenticated("The account of this token is disabled.")
    return token


def _note_use(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    """How the schema tells about tokens."""

    target_class = BearerAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """A bearer scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An API token: aihub_…"}


class BrowserScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    """How the schema tells about the browser's session."""

    target_class = BrowserAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """The session cookie."""
        words = "The browser's session; changes need X-CSRFToken too."
        return {"type": "apiKey", "in": "cookie", "name": "aihub_session", "description": words}
