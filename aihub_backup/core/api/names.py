"""Objects by id or unique name, within what the caller may see; and what an id really is when it is not that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.apps import apps
from django.db import models
from django.db.models import QuerySet

from aihub_backup.core.access import scope
from aihub_backup.core.failures import NotFound
from aihub_backup.core.models import User

M = TypeVar("M", bound=models.Model)


@dataclass(frozen=True)
class Noun:
    """A kind of object of the API: its word, its model ("backups.Source"), who may see it, where it is."""

    word: str
    model: str
    permission: str
    address: str  # with {id}
    named: bool = False

    def rows(self, user: User, needs: str = "") -> QuerySet[Any]:
        """Those the user may see, or has the permission `needs` for."""
        return scope(apps.get_model(self.model)._default_manager.all(), user, needs or self.permission)


_nouns: dict[str, Noun] = {}


def register(noun: Noun) -> Noun:
    """Make the noun known; the urls module of its app does so."""
    _nouns[noun.word] = noun
    return noun


def find(noun: Noun, given: str, user: User, *, needs: str = "", rows: QuerySet[Any] | None = None) -> Any:
    """The object of that id or name; NotFound with a helpful sentence.

    Looked for among `rows`, else among those the user has the permission `needs` for, else those the user may see.
    """
    among = noun.rows(user, needs) if rows is None else rows
    found = _by_id(among, given) or (among.filter(name=given).first() if noun.named else None)
    if found is None:
        raise NotFound(explain(noun, given, user))
    return found


def explain(noun: Noun, given: str, user: User) -> str:
    """Why there is no such object, and what the id belongs to if it belongs to something else."""
    other = _elsewhere(noun, given, user)
    if other is not None:
        where = other.address.format(id=given)
        return f"{given} is the id of {_article(other.word)}, not of {_article(noun.word)}; see {where}."
    what = "id or name" if noun.named else "id"
    return f"There is no {noun.word} with the {what} “{given[:200]}”, or you may not see it."


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _elsewhere(noun: Noun, given: str, user: User) -> Noun | None:
    others = (other for other in _nouns.values() if other.word != noun.word)
    return next((other for other in others if _by_id(other.rows(user), given)), None)


def _by_id(rows: QuerySet[M], given: str) -> M | None:
    try:
        return rows.filter(pk=UUID(given)).first()
    except ValueError:
        return None
