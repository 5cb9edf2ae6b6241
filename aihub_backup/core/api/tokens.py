"""/tokens: a program's way in, made by a person, shown once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core import tokens
from aihub_backup.core.access import scope
from aihub_backup.core.api import names
from aihub_backup.core.api.bodies import Body, Named, Paged, Text, Whole
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.api.schema import operation, page_of
from aihub_backup.core.failures import NotFound
from aihub_backup.core.models import ApiToken

ENVIRONMENT = names.register(
    names.Noun("environment", "core.Environment", "core.view_environment", "/admin/core/environment/{id}/change/", True)
)


class CreateToken(Body):
    """A new token. Without scopes it may do what its owner may."""

    name = Text(max_length=100)
    days = Whole(min_value=1, max_value=tokens.MOST_DAYS, required=False, help_text="As many as may be, if absent.")
    scopes = serializers.ListField(child=Text(max_length=150), default=list, help_text="Permissions it is cut down to.")
    environments = serializers.ListField(child=Named(ENVIRONMENT), default=list, help_text="Ids or names.")


class TokenShape(serializers.Serializer[Any]):
    """A token, without itself."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(source="token_key", help_text="How it begins.")
    scopes = serializers.ListField(child=serializers.CharField())
    environments = serializers.ListField(child=serializers.CharField())
    owner = serializers.CharField(source="user.username")
    created_at = serializers.DateTimeField(source="created")
    expires_at = serializers.DateTimeField(source="expiry", allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewTokenShape(TokenShape):
    """A token, this one time."""

    token = serializers.CharField(help_text="Shown once, stored nowhere.")


class Tokens(Endpoint):
    """The caller's own tokens; with core.manage_apitoken everybody's."""

    @operation(
        "token_list", needs="core.view_apitoken", answers={200: page_of(TokenShape)}, query=Paged, tag="tokens",
        summary="List tokens",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """Own tokens, newest first; with core.manage_apitoken everybody's."""
        rows = (
            scope(ApiToken.objects.all(), self.user, "core.view_apitoken").select_related("user").order_by("-created")
        )
        return self.numbered(rows, lambda row: dict(TokenShape(row).data))

    @operation(
        "token_create", needs="core.add_apitoken", answers={201: NewTokenShape}, body=CreateToken, tag="tokens",
        summary="Make a token", once=True,
        examples=[OpenApiExample("CI", {"name": "ci-nightly", "scopes": ["backups.run_backup"]}, request_only=True)],
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """The answer holds the token, this one time."""
        given = self.given
        made = tokens.make(
            self.user, given["name"], by=self.actor, days=given.get("days"),
            scopes=given["scopes"], environments=given["environments"],
        )  # fmt: skip
        shown = {**TokenShape(made.token).data, "token": made.secret}
        return self.created(shown, f"/api/v1/backup/tokens/{made.token.id}")


class Token(Endpoint):
    """One token."""

    @operation(
        "token_get", needs="core.view_apitoken", answers={200: TokenShape}, problems=(404,), tag="tokens",
        summary="One token",
    )  # fmt: skip
    def get(self, _request: Request, token_id: UUID) -> Response:
        """Everything but the token itself."""
        return Response(TokenShape(_token(self, token_id, "core.view_apitoken")).data)

    @operation(
        "token_revoke", needs="core.delete_apitoken", answers={204: None}, problems=(404,), tag="tokens",
        summary="Revoke a token",
    )  # fmt: skip
    def delete(self, _request: Request, token_id: UUID) -> Response:
        """It opens nothing from now on."""
        tokens.revoke(_token(self, token_id, "core.delete_apitoken"), by=self.actor)
        return Response(status=204)


def _token(endpoint: Endpoint, token_id: UUID, permission: str) -> ApiToken:
    rows = scope(ApiToken.objects.all(), endpoint.user, permission)
    found = rows.select_related("user").filter(id=token_id).first()
    if found is None:
        raise NotFound("There is no such token, or it is not yours.")
    return found
