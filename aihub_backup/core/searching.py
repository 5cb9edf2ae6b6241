"""Searching long lists of the admin.

Django compares every column with every word as text: ids too, and names behind a join. Here an id is looked for only
where the word is one, names of other rows are found among those, and of a column that may be empty that is asked first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.utils.text import smart_split, unescape_string_literal

_NOTHING = Q(pk__in=())


def matching(model: type[models.Model], fields: Iterable[str], term: str) -> Q:
    """Rows that hold every word of the term in one of the fields; words in quotes are one.

    Fields are written as in `search_fields`: “name” contains it, “=id” is it, “source__name” leads over one relation.
    """
    names, found = list(fields), Q()
    for word in words(term):
        found &= reduce(or_, filter(None, (_says(model, name, word) for name in names)), _NOTHING)
    return found


def words(term: str) -> Iterator[str]:
    """One after the other."""
    for word in smart_split(term):
        quoted = word.startswith(('"', "'")) and len(word) > 1 and word[0] == word[-1]
        yield unescape_string_literal(word) if quoted else word


def contains(model: type[models.Model], name: str, word: str) -> Q:
    """The word is somewhere in that column, in whatever case."""
    field: Any = model._meta.get_field(name)
    said = Q(**{f"{name}__icontains": word})
    return ~Q(**{name: ""}) & said if field.blank else said


def _says(model: type[models.Model], name: str, word: str) -> Q | None:
    if name.startswith("="):
        return _is(model, name.removeprefix("="), word)
    first, _, rest = name.partition("__")
    return _elsewhere(model, first, rest, word) if rest else contains(model, name, word)


def _is(model: type[models.Model], name: str, word: str) -> Q | None:
    """None: the word is no id, so that no row can have it."""
    if not isinstance(_field(model, name), models.UUIDField):
        return Q(**{f"{name}__iexact": word})
    try:
        return Q(**{name: UUID(word)})
    except ValueError:
        return None


def _elsewhere(model: type[models.Model], first: str, rest: str, word: str) -> Q:
    relation: Any = model._meta.get_field(first)
    if relation.many_to_many:
        holders = model._base_manager.filter(**{f"{first}__{rest}__icontains": word})
        return Q(pk__in=holders.order_by().values("pk"))
    related = relation.related_model._base_manager.filter(**{f"{rest}__icontains": word})
    return Q(**{f"{first}__in": related.order_by().values("pk")})


def _field(model: type[models.Model], name: str) -> Any:
    """The one at the end of the path."""
    first, _, rest = name.partition("__")
    field: Any = model._meta.get_field(first)
    return _field(field.related_model, rest) if rest else field
