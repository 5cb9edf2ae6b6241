"""Addresses without a trailing slash; the one with a slash works too, but the schema does not tell about it.

Django's own redirect to the slash would lose the body of a POST.
"""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, path
from rest_framework.request import Request

from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.failures import NotFound


def route(address: str, endpoint: type[Endpoint], name: str) -> list[URLPattern]:
    """Both spellings of one address."""
    view = endpoint.as_view()
    return [path(address, view, name=name), path(f"{address}/", view, name=f"{name}-slash")]


def routes(*rows: tuple[str, type[Endpoint], str]) -> list[URLPattern]:
    """Both spellings of every (address, endpoint, name)."""
    return [pattern for row in rows for pattern in route(*row)]


def without_slashes(endpoints: list[tuple[str, Any, str, Any]], **_facts: Any) -> list[tuple[str, Any, str, Any]]:
    """Schema hook: each address once."""
    return [row for row in endpoints if not row[0].endswith("/")]


class Nowhere(Endpoint):
    """Every address below the API that is none: a problem, not a page."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Strangers are asked to sign in first; so they learn nothing about what there is."""
        super().initial(request, *args, **kwargs)
        raise NotFound(f"There is nothing at {request.path}; /api/v1/schema lists every address.")
