"""Giving people roles and taking them away, with the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.contrib.auth.models import Group
from django.db import transaction

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Invalid, NotFound
from aihub_backup.core.models import Environment, Grant, User
from aihub_backup.core.roles import ROLES


def role(name: str) -> Group:
    """The role of that name, upper and lower case alike. Invalid names the six."""
    found = Group.objects.filter(name__iexact=name).first()
    if found is None:
        sentence = f"There is no role “{name[:80]}”; the roles are {', '.join(ROLES)}."
        raise Invalid(sentence, errors={"role": sentence})
    return found


def give(
    user: User,
    wanted: Group,
    *,
    by: Actor,
    environments: Sequence[Environment] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """The role within these environments, for sources that carry these tags; everywhere when neither is named.

    Whoever has a role may see the console's pages.
    """
    where = sorted(environment.name for environment in environments)
    with transaction.atomic():
        if environments or tags:
            made = Grant.objects.create(
                user=user, role=wanted, every_environment=not environments, tags=dict(tags or {})
            )
            made.environments.set(environments)
        else:
            user.groups.add(wanted)
        User.objects.filter(pk=user.pk).update(is_staff=True)
        record("role.give", user, by=by, role=wanted.name, environments=where, tags=dict(tags or {}))


def take(user: User, wanted: Group, *, by: Actor) -> None:
    """The role, wherever the person held it. NotFound when they do not hold it by themselves."""
    held = Grant.objects.filter(user=user, role=wanted)
    if not held.exists() and not user.groups.filter(pk=wanted.pk).exists():
        raise NotFound(f"{user} does not have the role “{wanted}”.")
    with transaction.atomic():
        held.delete()
        user.groups.remove(wanted)
        record("role.take", user, by=by, role=wanted.name)
