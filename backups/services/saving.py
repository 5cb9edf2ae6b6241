"""Writing rows that people configure: the model's own checks, told in our words."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models
from django.utils.translation import gettext as _

from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.letters import unseen

_UNCHECKED = ("secrets", "state")  # sealed, and moved by move_to alone


def checked(row: models.Model, *, besides: Iterable[str] = ()) -> None:
    """Invalid with a sentence for each wrong field; Refused (“name-taken”) when the name is another row's.

    `besides` are fields that the caller fills in later.
    """
    if sentence := _name_error(str(getattr(row, "name", ""))):
        raise Invalid(_not_valid(row, f"name: {sentence}"), errors={"name": sentence})
    names = {field.name for field in row._meta.get_fields()}
    try:
        row.full_clean(exclude=names & {*_UNCHECKED, *besides})
    except ValidationError as error:
        raise _refusal(row, error) from None


def _name_error(name: str) -> str:
    if name in (".", ".."):
        return _("“.” and “..” lead elsewhere in a path; choose another name.")
    if any(unseen(letter) for letter in name):  # a terminal would obey them, and a reader be deceived
        return _("This holds characters that nobody sees; leave them out.")
    return ""


def write(row: models.Model, changed: Iterable[str] | None = None) -> None:
    """Save inside the caller's transaction; a race for a unique value is told like the check would have told it.

    Of a row that exists only the fields that `changed` are written: what others changed meanwhile stays theirs.
    """
    try:
        row.save(update_fields=None if changed is None else {*changed, "updated_at"})
    except IntegrityError:
        raise taken(row) from None


def free_name(model: type[models.Model], wanted: str) -> str:
    """The name, with a number behind it when another row has it."""
    names = (wanted if number == 1 else f"{wanted} {number}" for number in count(1))
    return next(name for name in names if not model._base_manager.filter(name=name).exists())


def taken(row: models.Model) -> Refused:
    """Somebody else has the name."""
    told = _("There is a %(noun)s “%(name)s” already; choose another name.")
    return Refused(told % {"noun": row._meta.verbose_name, "name": getattr(row, "name", row)}, code="name-taken")


def _refusal(row: models.Model, error: ValidationError) -> Refused:
    found = error.error_dict
    if any(one.code == "unique" for one in found.get("name", ())):
        return taken(row)
    errors = {"" if name == NON_FIELD_ERRORS else name: " ".join(ones[0].messages) for name, ones in found.items()}
    listed = " ".join(f"{name}: {sentence}" if name else sentence for name, sentence in errors.items())
    return Invalid(_not_valid(row, listed), errors=errors)


def _not_valid(row: models.Model, why: str) -> str:
    return _("The %(noun)s is not valid. %(why)s") % {"noun": row._meta.verbose_name, "why": why}
