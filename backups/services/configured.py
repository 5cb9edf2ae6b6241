"""Options of plug-ins in rows: validated by the kind, secrets kept apart from what may be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from django.db import models
from django.utils.translation import gettext as _

from aihub_backup.core.failures import Invalid
from aihub_backup.core.options import OptionsError, address_names, dump, split
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
    """The same for a change: what is absent, and a secret given as empty, stays as it is.

    OptionsError also when the address changes and a stored secret is not given again: whoever may change the address
    need not know the secret, and would have it sent to a server of their own.
    """
    kept = {**row.options, **row.secrets}
    secret = set(row.secrets)
    fresh = {name: value for name, value in given.items() if not (name in secret and value in (None, ""))}
    plain, hidden = values(table, row.kind, {**kept, **fresh})
    moved = [name for name in address_names(table.options_class(row.kind)) if _differs(name, row, given, plain)]
    _must_be_given_again(moved, [name for name in row.secrets if row.secrets[name] and name not in fresh])
    return plain, hidden


def followed(
    table: PluginTable[Any], row: Configured, given: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same where the console itself tells what is true now: an empty secret says that there is none."""
    return values(table, row.kind, {**row.options, **row.secrets, **given})


def _differs(name: str, row: Configured, given: Mapping[str, object], plain: Mapping[str, Any]) -> bool:
    """A field that was not given keeps its value, or the default of one that is newer than the row."""
    return name in given and plain[name] != row.options.get(name)


def _must_be_given_again(moved: Sequence[str], stored: Sequence[str]) -> None:
    if moved and stored:
        told = _(
            "Give this again together with the new %(fields)s: what is stored is sent only where it was given for."
        )
        raise OptionsError({name: told % {"fields": ", ".join(moved)} for name in stored})


def lay_over(row: models.Model, changes: Mapping[str, Any], *, allowed: Iterable[str]) -> None:
    """Set the fields; Invalid names those that cannot be changed."""
    errors = {name: _("This cannot be changed.") for name in changes if name not in set(allowed)}
    if errors:
        raise Invalid(_("These cannot be changed: %(fields)s.") % {"fields": ", ".join(errors)}, errors=errors)
    for name, value in changes.items():
        setattr(row, name, value)
