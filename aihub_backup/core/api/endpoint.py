"""One address of the API: who may ask, what may be said, how it is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from django.db.models import QuerySet
from django.utils.http import parse_etags
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aihub_backup.core import paging
from aihub_backup.core.api import idempotency
from aihub_backup.core.api.authentication import BearerAuthentication, BrowserAuthentication
from aihub_backup.core.api.bodies import Body, Nothing, Query
from aihub_backup.core.api.parsers import JsonParser
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Denied, Refused
from aihub_backup.core.models import ApiToken, User
from aihub_backup.core.paging import Address, Page
from aihub_backup.core.problems import InvalidRequest, field_errors

Deed = Callable[..., Response]
POLL_SECONDS = 2


@dataclass(frozen=True)
class Operation:
    """What one method of one address is. `needs` is the permission ("app.codename") without which nobody passes."""

    id: str
    needs: str
    body: type[Body] = Nothing
    query: type[Query] = Query
    tagged: bool = False  # the answer carries an ETag
    once: bool = False  # see `idempotency.answered`


class Needs(BasePermission):
    """Only with the operation's permission; an address that declares none is open to nobody."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Denied names the missing permission, so that people know what to ask for."""
        operation = operation_of(view, str(request.method))
        if operation is None:
            return True  # there is no such method here; the answer will be 405
        if not request.user.has_perm(operation.needs):
            facts = {"permission": operation.needs}
            raise Denied(f"You need the permission “{operation.needs}” for this.", facts=facts)
        return True


class Endpoint(APIView):
    """The base of every view. Methods are declared with `schema.operation`."""

    authentication_classes = (BearerAuthentication, BrowserAuthentication)
    permission_classes = (IsAuthenticated, Needs)
    parser_classes = (JsonParser,)
    renderer_classes = (JSONRenderer,)
    http_method_names = tuple(name for name in APIView.http_method_names if name != "options")
    volatile: tuple[str, ...] = ()  # members that change though nobody changed the row: no part of its version
    given: dict[str, Any]
    asked: dict[str, Any]

    @property
    def user(self) -> User:
        """Who asks."""
        user = self.request.user
        assert isinstance(user, User)
        return user

    @property
    def actor(self) -> Actor:
        """Who asks, as the audit knows them."""
        token = self.request.auth
        if isinstance(token, ApiToken):
            return Actor(str(self.user.pk), f"{token.name or 'token'} ({self.user.get_username()})", "token")
        return Actor.of(self.user)

    @property
    def address(self) -> Address:
        """Where the request went, for the links of a list."""
        return Address(self.request.path, self.request.query_params.dict())

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        """No cache may keep what belongs to one person; a known version is not sent again."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Cache-Control"] = "no-store"
        operation = operation_of(self, str(request.method))
        if operation is not None and operation.tagged and final.status_code == 200:
            final["ETag"] = self._version(final.data)
            return final if self.volatile else _conditional(request, final)
        return final

    # --- answers ---

    @staticmethod
    def accepted(data: Any, location: str) -> Response:
        """202: the work goes on at `location`."""
        return Response(data, status=202, headers={"Location": location, "Retry-After": str(POLL_SECONDS)})

    @staticmethod
    def created(data: Any, location: str) -> Response:
        """201."""
        return Response(data, status=201, headers={"Location": location})

    @staticmethod
    def going_on(data: dict[str, Any]) -> Response:
        """200 with the state of long work; Retry-After while it is not finished."""
        headers = {} if data.get("finished_at") else {"Retry-After": str(POLL_SECONDS)}
        return Response(data, headers=headers)

    def scrolled(
        self, rows: QuerySet[Any], shape: Callable[[Any], dict[str, Any]], *, field: str = "created_at"
    ) -> Response:
        """A page by cursor of rows that keep growing, as the parameters of `Scrolled` ask for it."""
        asked = self.asked
        newest_first = str(asked.get("ordering", "-")).startswith("-")
        found = paging.by_cursor(
            rows, asked["cursor"], asked["page_size"], self.address, field=field, newest_first=newest_first
        )
        return self.page(replace(found, count=rows.count()) if asked["count"] else found, shape)

    def numbered(self, rows: QuerySet[Any], shape: Callable[[Any], dict[str, Any]]) -> Response:
        """A page by number of what people configure, as the parameters of `Paged` ask for it."""
        return self.page(paging.by_number(rows, self.asked["page"], self.asked["page_size"], self.address), shape)

    def page(self, page: Page, shape: Callable[[Any], dict[str, Any]]) -> Response:
        """A page of a list, cut to the members that `fields=` names."""
        return Response(page.shaped(lambda row: self._cut(shape(row))))

    def require_version(self, present: Any) -> None:
        """If-Match: Refused (412) unless it names the version that `present` (what GET would answer) is."""
        wanted = self.request.headers.get("If-Match")
        if wanted is None or wanted.strip() == "*":
            return
        if self._version(present) not in parse_etags(wanted):
            raise Refused(
                "Somebody changed this since you read it; read it again and repeat the change.", code="version-mismatch"
            )

    def _version(self, data: Any) -> str:
        return etag({name: value for name, value in data.items() if name not in self.volatile})

    def _cut(self, data: dict[str, Any]) -> dict[str, Any]:
        fields = self.asked.get("fields")
        return {name: data[name] for name in fields if name in data} if fields else data


def operation_of(view: APIView, method: str) -> Operation | None:
    """What the view declares for the method (HEAD is GET); None when it does not have it."""
    name = "get" if method == "HEAD" else method.lower()
    return getattr(getattr(view, name, None), "operation", None)


def performing(operation: Operation, method: Deed) -> Deed:
    """The method with everything around it: parameters and body are read, a repeated POST is not done twice."""

    @wraps(method)
    def perform(view: Endpoint, request: Request, **path: Any) -> Response:
        view.asked = _read(operation.query, Query.flat(request.query_params), view, "query")
        view.given = {}
        if request.method in ("POST", "PUT", "PATCH"):
            view.given = _read(operation.body, request.data, view, "body", partial=request.method == "PATCH")
        if request.method != "POST":
            return method(view, request, **path)
        return idempotency.answered(request, operation.once, lambda: method(view, request, **path))

    setattr(perform, "operation", operation)  # noqa: B010  # a plain assignment would need an ignore from mypy
    return perform


def etag(data: Any) -> str:
    """The version of a representation."""
    return f'"{hashlib.sha256(JSONRenderer().render(data)).hexdigest()[:32]}"'


def _conditional(request: Request, response: Response) -> Response:
    if response["ETag"] in parse_etags(request.headers.get("If-None-Match", "")):
        response.status_code, response.data = 304, None
    return response


def _read(kind: type[Body], data: Any, view: Endpoint, location: str, *, partial: bool = False) -> dict[str, Any]:
    body = kind(data=data, partial=partial, context={"user": view.user, "view": view})
    if body.is_valid():
        return dict(body.validated_data)
    errors = list(field_errors(body.errors, location=location))
    unknown = location == "query" and all(error.code == "unknown-parameter" for error in errors)
    raise InvalidRequest(errors, code="unknown-parameter" if unknown else "validation-error")
