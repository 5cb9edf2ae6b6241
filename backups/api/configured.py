"""/storages, /repositories, /sources, /policies: what people configure, by id or by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.response import Response

from aihub_backup.core.access import covers, everywhere, permits
from aihub_backup.core.api import names
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.failures import Denied
from aihub_backup.core.models import Environment
from aihub_backup.core.options import OptionsError
from backups.api.options import at_options
from backups.services import trials

BEYOND = "This would put it beyond your reach; ask somebody who may do that there."


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

    def changed(
        self,
        reference: str,
        permission: str,
        shape: Any,
        update: Callable[..., Any],
        *,
        test: Callable[..., Any] | None = None,
    ) -> Response:
        """Change it if the caller saw the present version. Read and written in one transaction; then tried out with
        `test` where it has other options now."""
        with transaction.atomic(), options_placed():
            locked = self.rows(permission).select_for_update(of=("self",))  # the version seen stays the present
            row = names.find(self.noun, reference, self.user, rows=locked)
            self.require_version(shape(row))
            update(row, by=self.actor, **self.given)
            self.must_reach(row, permission, BEYOND)
        row = self.one(str(row.pk), permission)
        return Response(shape(trials.if_moved(row, self.given, test, by=self.actor) if test else row))

    def must_reach(self, row: Any, permission: str, sentence: str) -> None:
        """Nobody puts something where they may not: Denied, which undoes the transaction, unless it lies in reach."""
        if not covers(self.user, permission, row):
            raise Denied(sentence)

    def must_permit(self, permission: str, environment: Environment, tags: dict[str, str] | None = None) -> None:
        """The same before anything was done: Denied unless something new may be in this environment."""
        if not permits(self.user, permission, environment.pk, tags):
            raise Denied(f"Your permission “{permission}” does not reach here: {environment}, tags {tags or 'none'}.")

    def must_hold_everywhere(self, permission: str) -> None:
        """Denied unless nothing bounds the permission: what it makes belongs to the whole console."""
        if not everywhere(self.user, permission):
            raise Denied(f"This belongs to the whole console; your permission “{permission}” reaches a part of it.")

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
