"""Tokens for programs: made, shown once, withdrawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.contrib.auth.models import Permission
from django.db import transaction
from django.utils import timezone
from knox.settings import knox_settings

from aihub_backup.core import audit
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Denied, Invalid
from aihub_backup.core.models import ApiToken, Environment, User
from aihub_backup.core.redaction import remember

MOST_DAYS = int(knox_settings.TOKEN_TTL.days)


class Made(NamedTuple):
    """A new token and the only sight of it."""

    token: ApiToken
    secret: str


def make(
    user: User,
    name: str,
    *,
    by: Actor,
    days: float | None = None,
    scopes: Iterable[str] = (),
    environments: Sequence[Environment] = (),
) -> Made:
    """A token of the user's, good for so many days (at most, and without a wish, 90), cut down to permissions and
    environments if given.

    Where the user came with a token, the new one reaches no further and lives no longer than that: Denied otherwise.
    Invalid names a wrong number of days or an unknown permission.
    """
    wanted, places = sorted(set(scopes)), sorted(str(environment.pk) for environment in environments)
    _check(days, wanted)
    expiry = _expiry(days, user.token)
    if user.token is not None:
        _check_parent(user.token, expiry, wanted, places)
    with transaction.atomic():
        row, secret = ApiToken.objects.issue(
            user, name, lifetime=expiry - timezone.now(), scopes=wanted, environments=places
        )
        audit.record("token.created", row, by=by, name=name, scopes=wanted, expires=row.expiry.isoformat())
    remember([secret])
    return Made(row, secret)


def revoke(token: ApiToken, *, by: Actor) -> None:
    """The token opens nothing from now on."""
    with transaction.atomic():
        audit.record("token.revoked", token, by=by, name=token.name)
        token.delete()


def permissions() -> set[str]:
    """Every permission there is, as "app.codename"."""
    rows = Permission.objects.values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in rows}


def _expiry(days: float | None, parent: ApiToken | None) -> datetime:
    """When it ends: as wished, else as late as may be."""
    wished = timezone.now() + timedelta(days=MOST_DAYS if days is None else days)
    bounded = days is None and parent is not None and parent.expiry is not None
    return min(wished, parent.expiry) if bounded and parent is not None else wished


def _check(days: float | None, scopes: list[str]) -> None:
    if days is not None and not 0 < days <= MOST_DAYS:
        sentence = f"Give more than 0, at most {MOST_DAYS}."
        raise Invalid(f"A token lives at most {MOST_DAYS} days.", errors={"days": sentence})
    unknown = [scope for scope in scopes if scope not in permissions()]
    if unknown:
        sentence = f"There is no permission “{unknown[0]}”; they look like “backups.run_backup”."
        raise Invalid(sentence, errors={"scopes": sentence})


def _check_parent(parent: ApiToken, expiry: datetime, scopes: list[str], environments: list[str]) -> None:
    """Else a short-lived, narrow token could make itself a long-lived, wide one."""
    longer = parent.expiry is not None and expiry > parent.expiry
    wider = parent.scopes and (not scopes or not set(scopes) <= set(parent.scopes))
    elsewhere = parent.environments and (not environments or not set(environments) <= set(parent.environments))
    if longer or wider or elsewhere:
        raise Denied("A token made with a token may not reach further or live longer than that one.")
