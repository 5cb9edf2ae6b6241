"""Options of plug-ins in rows: validated by the kind, secrets kept apart from what may be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from django.db import models

from aihub_backup.core.failures import Invalid
from aihub_backup.core.options import dump, split
from aihub_backup.core.plugins import PluginTable


class Configured(Protocol):
    """A row of a plug-in kind."""

    kind: Any
    options: Any
    secrets: Any


def values(table: PluginTable[Any], kind: str, given: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(plain, secrets) as they are stored, complete with defaults. OptionsError names every wrong field."""
    return split(table.options_class(kind), dump(table.options(kind, given)))


def changed(
    table: PluginTable[Any], row: Configured, given: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same for a change: what is absent, and a secret given as empty, stays as it is."""
    kept = {**row.options, **row.secrets}
    secret = set(row.secrets)
    fresh = {name: value for name, value in given.items() if not (name in secret and value in (None, ""))}
    return values(table, row.kind, {**kept, **fresh})


def lay_over(row: models.Model, changes: Mapping[str, Any], *, allowed: Iterable[str]) -> None:
    """Set the fields; Invalid names those that cannot be changed."""
    errors = {name: "This cannot be changed." for name in changes if name not in set(allowed)}
    if errors:
        raise Invalid(f"These cannot be changed: {', '.join(errors)}.", errors=errors)
    for name, value in changes.items():
        setattr(row, name, value)
