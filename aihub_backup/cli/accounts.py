"""Accounts and tokens, made by whoever may run commands on this machine."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from django.db import transaction

from aihub_backup.core import audit, tokens
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import NotFound
from aihub_backup.core.models import User

FIRST_ACCOUNT = "admin"


@transaction.atomic
def first_account(by: Actor) -> dict[str, str] | None:
    """Make the first account with a one-time password nobody chose; None when there are accounts already."""
    if User.objects.exists():
        return None
    password = secrets.token_urlsafe(15)
    user = User.objects.create_superuser(FIRST_ACCOUNT, password=password)
    User.objects.filter(pk=user.pk).update(password_expired=True)
    audit.record("account.created", user, by=by)
    return {"name": FIRST_ACCOUNT, "password": password}


def make_token(account: str, name: str, days: float, by: Actor, scopes: Sequence[str] = ()) -> str:
    """A token of the account for the REST API, cut down to permissions if given; NotFound when there is no such
    account, Invalid for a wrong number of days or an unknown permission."""
    user = User.objects.filter(username=account, is_active=True).first()
    if user is None:
        raise NotFound(f"There is no active account “{account}”.")
    return tokens.make(user, name, by=by, days=days, scopes=scopes).secret
