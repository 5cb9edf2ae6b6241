"""/storages, /repositories, /sources, /policies: what people configure, by id or by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.response import Response

from aihub_backup.core.api import names
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.options import OptionsError
from backups.api.options import at_options


class Configured(Endpoint):
    """What the four kinds share."""

    noun: names.Noun
    related: tuple[str, ...] = ()

    def rows(self, permission: str) -> QuerySet[Any]:
        """Those the caller holds the permission for."""
        every = self.noun.rows(self.user, permission).select_related(*self.related)
        return every.order_by("name")

    def listing(self, shape: Callable[[Any], dict[str, Any]], permission: str) -> Response:
        """A page of them, by name."""
        rows = self.rows(permission)
        for name, lookup in {"q": "name__icontains", "kind": "kind__in", "environment": "environment"}.items():
            rows = rows.filter(**{lookup: self.asked[name]}) if name in self.asked else rows
        return self.numbered(self.narrowed(rows), shape)

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Further parameters of one kind."""
        return rows

    def one(self, reference: str, permission: str) -> Any:
        """The one of that id or name."""
        return names.find(self.noun, reference, self.user, rows=self.rows(permission))

    def changed(self, reference: str, permission: str, shape: Any, update: Callable[..., Any]) -> Response:
        """Change it if the caller saw the present version. Read and written in one transaction."""
        with transaction.atomic(), options_placed():
            locked = self.rows(permission).select_for_update(of=("self",))  # the version seen stays the present
            row = names.find(self.noun, reference, self.user, rows=locked)
            self.require_version(shape(row))
            update(row, by=self.actor, **self.given)
        return Response(shape(self.one(str(row.pk), permission)))

    def named(self, row: Any) -> str:
        """Its address."""
        return self.noun.address.format(id=row.pk)


@contextmanager
def options_placed() -> Iterator[None]:
    """What a plug-in says about its options is told at their place in the body."""
    try:
        yield
    except OptionsError as error:
        raise at_options(error) from None
