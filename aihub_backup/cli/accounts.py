"""Accounts and tokens, made by whoever may run commands on this machine."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from allauth.mfa.models import Authenticator
from django.db import transaction

from aihub_backup.core import audit, tokens
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import NotFound, Refused
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


@transaction.atomic
def new_account(name: str, by: Actor) -> str:
    """An account without any role; returns the one-time password. Refused when the name is taken."""
    if User.objects.filter(username=name).exists():
        raise Refused(f"There is an account “{name}” already; choose another name.", code="name-taken")
    password = secrets.token_urlsafe(15)
    user = User.objects.create_user(name, password=password)
    User.objects.filter(pk=user.pk).update(password_expired=True)
    audit.record("account.created", user, by=by)
    return password


@transaction.atomic
def forget_second_factor(user: User, by: Actor) -> None:
    """Take the second factor and its recovery codes away. NotFound when there is none."""
    if not Authenticator.objects.filter(user=user).delete()[0]:
        raise NotFound(f"{user} has no second factor.")
    audit.record("second_factor.remove", user, by=by)


def make_token(account: str, name: str, days: float, by: Actor, scopes: Sequence[str] = ()) -> str:
    """A token of the account for the REST API, cut down to permissions if given; NotFound when there is no such
    account, Invalid for a wrong number of days or an unknown permission."""
    user = User.objects.filter(username=account, is_active=True).first()
    if user is None:
        raise NotFound(f"There is no active account “{account}”.")
    return tokens.make(user, name, by=by, days=days, scopes=scopes).secret
