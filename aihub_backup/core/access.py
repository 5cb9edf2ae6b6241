"""Which rows a person may see or touch: the one function that every queryset goes through.

Reached is what the person's roles reach, and of that what the token in use leaves. A model tells by `REACH` where its
rows belong; rows of a model that tells nothing are for those alone whose permission holds everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any, TypeVar

from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet

from aihub_backup.core import tags
from aihub_backup.core.models import Grant, User
from aihub_backup.core.reach import Bound, Reach, own_form

M = TypeVar("M", bound=models.Model)
Anybody = User | AnonymousUser

_TRUE, _FALSE = Q(pk__isnull=False), Q(pk__in=())


def scope(queryset: QuerySet[M], user: Anybody, *permissions: str) -> QuerySet[M]:
    """The rows for which the user holds one of the permissions ("app.codename"); none without."""
    found = [_within(queryset.model, user, permission) for permission in permissions]
    if None in found:
        return queryset
    reached = [one for one in found if one is not None and one is not _FALSE]
    return queryset.filter(reduce(or_, reached)) if reached else queryset.none()


def _within(model: type[models.Model], user: Anybody, permission: str) -> Q | None:
    """The condition that a row is reached; None: every row is."""
    held, reach = bounds(user, permission), reach_of(model)
    if not held:
        return _FALSE
    if reach.owner and not everywhere(user, reach.all_need):
        return Q(**{reach.owner: user.pk})
    if any(one.everything for one in held) or (reach.shared and _only_looks(permission)):
        return None
    return _reached(model, held, user, _only_looks(permission))


def covers(user: Anybody, permission: str, row: models.Model) -> bool:
    """Does the user hold the permission for this row, as the database has it?"""
    return scope(type(row)._base_manager.filter(pk=row.pk), user, permission).exists()


def permits(user: Anybody, permission: str, environment: object, tags: Mapping[str, str] | None = None) -> bool:
    """Does the user hold the permission for something new in this environment (id), with these tags if it has any?"""
    given = None if tags is None else dict(tags)
    return any(one.holds(environment, given) for one in bounds(user, permission))


def everywhere(user: Anybody, permission: str) -> bool:
    """Does the user hold the permission without any bound?"""
    return any(one.everything for one in bounds(user, permission))


def bounds(user: Anybody, permission: str) -> list[Bound]:
    """Where the user holds the permission; empty when nowhere. The token in use, if any, has cut them down."""
    if not isinstance(user, User) or not user.is_active:
        return []
    token = user.token
    if token is not None and not token.allows(permission):
        return []
    own = [replace(one, own=True) for one in _held(user, own_form(permission))]
    found = [*_held(user, permission), *own]
    if token is None or not token.environments:
        return found
    return [_cut(one, frozenset(token.environments)) for one in found]


def reach_of(model: type[models.Model]) -> Reach:
    """Where its rows belong."""
    declared: Reach = getattr(model, "REACH", Reach())
    return declared


class GrantBackend(BaseBackend):
    """Tells Django which permissions grants give somewhere; `bounds` knows where. Signs nobody in."""

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Those of every granted role."""
        if not isinstance(user_obj, User) or not user_obj.is_active or obj is not None:
            return set()
        return {name for _bound, names in _grants(user_obj) for name in names}

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Any of the app's?"""
        return any(name.startswith(f"{app_label}.") for name in self.get_all_permissions(user_obj))


# --- what is held -----------------------------------------------------------------------------------------------------


def _held(user: User, permission: str) -> list[Bound]:
    if ModelBackend().has_perm(user, permission):
        return [Bound()]
    return [bound for bound, names in _grants(user) if permission in names]


def _grants(user: User) -> list[tuple[Bound, frozenset[str]]]:
    """Read once for each request, as Django does with permissions."""
    if user.grants_read is None:
        mine = Grant.objects.filter(Q(user=user) | Q(group__user=user)).distinct()
        rows = mine.prefetch_related("environments", "role__permissions__content_type")
        user.grants_read = [(row.bound, _permissions(row)) for row in rows]
    return user.grants_read


def _permissions(grant: Grant) -> frozenset[str]:
    return frozenset(f"{one.content_type.app_label}.{one.codename}" for one in grant.role.permissions.all())


def _cut(bound: Bound, environments: frozenset[str]) -> Bound:
    left = environments if bound.environments is None else environments & bound.environments
    return replace(bound, environments=left)


def _only_looks(permission: str) -> bool:
    return permission.partition(".")[2].startswith("view_")


# --- from bounds to rows ----------------------------------------------------------------------------------------------


# The conditions name ids that are found from the few (sources of an environment) to the many (their backups), and what
# has to be asked for each row is asked by EXISTS: so a database walks its indexes, however long the history is.


def _reached(model: type[models.Model], held: Sequence[Bound], user: Anybody, looks: bool) -> Q:
    reach, own = reach_of(model), [one for one in held if one.own]
    found = _placed(model, [one for one in held if not one.own], looks)
    if own and reach.requester:
        found |= _placed(model, own, looks) & Q(**{reach.requester: str(user.pk)})
    return found


def _placed(model: type[models.Model], held: Sequence[Bound], looks: bool) -> Q:
    """The rows that lie within one of the bounds, or wholly within them together if they belong to several others."""
    reach = reach_of(model)
    if any(one.environments is None and not one.tags for one in held):
        return _TRUE
    inside = _through(model, reach, held, looks) if reach.through else _here(reach, held)
    return inside & ~Q(**{reach.whole: True}) if reach.whole and not looks else inside


def _through(model: type[models.Model], reach: Reach, held: Sequence[Bound], looks: bool) -> Q:
    """Judged by the rows it belongs to."""
    place = _at(model, reach.through)
    within = place._base_manager.filter(_placed(place, held, looks))
    if not _many(model, reach.through):
        return Q(**{f"{reach.through}__in": within.values("pk")})
    return Q(pk__in=_holders(model, reach, within)) | Q(pk__in=_alone(model, reach, held))


def _alone(model: type[models.Model], reach: Reach, held: Sequence[Bound]) -> QuerySet[Any, Any]:
    """Ids of rows that belong to no other, and are judged by themselves."""
    rows = model._base_manager.filter(_here(reach, held)).order_by()
    if reach.alone:  # they are few, and all others need not be asked
        rows = rows.filter(**{f"{reach.alone[0]}__in": sorted(reach.alone[1])})
    return rows.exclude(Exists(_links(model, reach, isnull=False))).values("pk")


def _holders(model: type[models.Model], reach: Reach, within: QuerySet[Any]) -> QuerySet[Any, Any]:
    """Ids of the rows that belong to places within, and to none beyond: found from the places' side, as they are few.
    Each of a row's few places is looked for among those within; looking for each of the many elsewhere would take a
    second."""
    between, back, rest = _steps(model, reach.through)
    inside = _each(rest, {"in": within.values("pk")})
    links = between._base_manager.order_by()
    beyond = links.filter(**{back: OuterRef(back)}, **_each(rest, {"isnull": False})).exclude(**inside)
    return links.filter(**inside).exclude(Exists(beyond)).values(back)


def _links(model: type[models.Model], reach: Reach, **condition: Any) -> QuerySet[Any]:
    """Of a row of an outer query: what leads from it to a place like that."""
    between, back, rest = _steps(model, reach.through)
    return between._base_manager.filter(**{back: OuterRef("pk")}, **_each(rest, condition))


def _steps(model: type[models.Model], lookup: str) -> tuple[type[models.Model], str, str]:
    """(the rows between, their way back to the model, their way on to the place)."""
    first, _, rest = lookup.partition("__")
    field: Any = model._meta.get_field(first)
    if field.many_to_many:
        return field.remote_field.through, field.m2m_field_name(), field.m2m_reverse_field_name()
    return field.related_model, field.field.name, rest


def _each(lookup: str, condition: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{lookup}__{name}": value for name, value in condition.items()}


def _here(reach: Reach, held: Sequence[Bound]) -> Q:
    """Judged by the row's own environment and tags."""
    found = _FALSE
    if reach.environment:
        for one in held:
            found |= _FALSE if one.tags and reach.untagged else _fits(reach, one)
    return found


def _fits(reach: Reach, bound: Bound) -> Q:
    place = _TRUE if bound.environments is None else Q(**{f"{reach.environment}__in": sorted(bound.environments)})
    return place & tags.carry(reach.tags, bound.tags) if reach.tags else place


def _at(model: type[models.Model], lookup: str) -> type[models.Model]:
    """The model to which a lookup leads."""
    for name in lookup.split("__"):
        related: Any = model._meta.get_field(name).related_model
        model = related
    return model


def _many(model: type[models.Model], lookup: str) -> bool:
    """Does it lead to several rows?"""
    field: Any = model._meta.get_field(lookup.partition("__")[0])
    return bool(field.one_to_many or field.many_to_many)
