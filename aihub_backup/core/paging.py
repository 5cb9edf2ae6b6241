"""Pages of lists in the API: page numbers for what people configure, cursors for what keeps growing.

Both have the shape {count, next, previous, results}; a cursor counts only when asked (`count=true`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.db import models
from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime

from aihub_backup.core.problems import FieldError, InvalidRequest

M = TypeVar("M", bound=models.Model)

PAGE_SIZE = 50
MOST = 500


@dataclass(frozen=True)
class Page:
    """Some rows of a list and the ways on and back (path and query), None at the ends."""

    rows: Sequence[Any]
    next: str | None
    previous: str | None
    count: int | None = None

    def shaped(self, shape: Callable[[Any], Any]) -> dict[str, Any]:
        """The answer, each row shaped."""
        results = [shape(row) for row in self.rows]
        return {"count": self.count, "next": self.next, "previous": self.previous, "results": results}


@dataclass(frozen=True)
class Address:
    """Where the list was asked for: links lead to the same place with one parameter changed."""

    path: str
    query: Mapping[str, str]

    def with_(self, name: str, value: object) -> str:
        """Path and query with this parameter set."""
        return f"{self.path}?{urlencode({**self.query, name: str(value)})}"


# --- by number ------------------------------------------------------------------------------------------------------


def by_number(rows: QuerySet[M], number: int, size: int, address: Address) -> Page:
    """The page of that number, from 1; a number behind the end is refused."""
    count = rows.count()
    last = max(1, -(-count // size))
    if number > last:
        raise _refused("page", f"There are only {last} pages.")
    start = (number - 1) * size
    following = address.with_("page", number + 1) if number < last else None
    before = address.with_("page", number - 1) if number > 1 else None
    return Page(list(rows[start : start + size]), following, before, count)


# --- by cursor ------------------------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A place between two rows of a list ordered by (time, id). `back` reads towards the beginning."""

    at: datetime
    id: UUID
    back: bool

    def __str__(self) -> str:
        written = json.dumps([self.at.isoformat(), str(self.id), self.back])
        return base64.urlsafe_b64encode(written.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Mark:
        """The mark from a link; refused when it is not one of ours."""
        try:
            at, row_id, back = _decoded(text)
            return cls(_moment(at), UUID(row_id), bool(back))
        except (ValueError, TypeError, AttributeError):
            raise refused_cursor() from None


def by_cursor(rows: QuerySet[M], cursor: str, size: int, address: Address, *, field: str, newest_first: bool) -> Page:
    """The page at the cursor ("" = the first) of rows ordered by (`field`, pk): stable while rows are added."""
    mark = Mark.read(cursor) if cursor else None
    back = mark is not None and mark.back
    falling = newest_first != back
    if mark is not None:
        rows = rows.filter(_behind(mark, field, falling))
    sign = "-" if falling else ""
    found = list(rows.order_by(f"{sign}{field}", f"{sign}pk")[: size + 1])
    more, found = len(found) > size, found[:size]
    if back:
        found.reverse()
    return _linked(found, field, address, on=more or back, before=more if back else mark is not None)


def _behind(mark: Mark, field: str, falling: bool) -> Q:
    word = "lt" if falling else "gt"
    return Q(**{f"{field}__{word}": mark.at}) | Q(**{field: mark.at, f"pk__{word}": mark.id})


def _linked(found: list[Any], field: str, address: Address, *, on: bool, before: bool) -> Page:
    if not found:
        return Page([], None, None)
    first, last = found[0], found[-1]
    following = address.with_("cursor", Mark(getattr(last, field), last.pk, False)) if on else None
    previous = address.with_("cursor", Mark(getattr(first, field), first.pk, True)) if before else None
    return Page(found, following, previous)


def encoded(value: Any) -> str:
    """A JSON-able position as an opaque cursor, for lists that are no table."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def decoded(cursor: str) -> Any:
    """The position that `encoded` wrote; refused when it is not one."""
    try:
        return _decoded(cursor)
    except ValueError:
        raise refused_cursor() from None


def refused_cursor() -> InvalidRequest:
    """What to say about a cursor that is not ours."""
    return _refused("cursor", "This cursor is not valid; take it from a link of an earlier page.")


def _decoded(text: str) -> Any:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(str(error)) from None
    return json.loads(raw)


def _moment(text: str) -> datetime:
    found = parse_datetime(text)
    if found is None or found.tzinfo is None or not 1970 <= found.year < 2200:
        raise ValueError(text)
    return found


def _refused(name: str, sentence: str) -> InvalidRequest:
    return InvalidRequest([FieldError(f"/{name}", "invalid", sentence, "query")])
