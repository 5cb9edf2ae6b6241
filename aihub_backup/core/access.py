"""Which rows a person may see or touch: the one function that every queryset goes through."""

from __future__ import annotations

from typing import TypeVar

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import QuerySet

from aihub_backup.core.models import Environment, User

M = TypeVar("M", bound=models.Model)


def scope(queryset: QuerySet[M], user: User | AnonymousUser, permission: str) -> QuerySet[M]:
    """The rows for which the user holds the permission ("app.codename"); none without it.

    A token that is bound to environments sees only rows that lie wholly inside them. A model says where its
    environment is by a field `environment`, or by `ENVIRONMENT`, the lookup that leads there; rows of other models
    (policies, repositories) belong to the whole console.
    """
    if not user.is_active or not user.has_perm(permission):
        return queryset.none()
    token = user.token if isinstance(user, User) else None
    lookup = environment_lookup(queryset.model)
    if token is None or not token.environments or lookup is None:
        return queryset
    return _within(queryset, lookup, token.environments)


def _within(queryset: QuerySet[M], lookup: str, environments: list[str]) -> QuerySet[M]:
    """By sub-queries, because the lookup may lead to many rows: a set over two environments needs both."""
    rows = queryset.model._base_manager
    inside = rows.filter(**{f"{lookup}__in": environments})
    outside = rows.filter(**{f"{lookup}__in": Environment.objects.exclude(pk__in=environments)})
    return queryset.filter(pk__in=inside.values("pk")).exclude(pk__in=outside.values("pk"))


def environment_lookup(model: type[models.Model]) -> str | None:
    """How to come from a row to its environment; None when rows of this model have none."""
    declared: str | None = getattr(model, "ENVIRONMENT", None)
    if declared is not None:
        return declared
    try:
        model._meta.get_field("environment")
    except FieldDoesNotExist:
        return None
    return "environment"
