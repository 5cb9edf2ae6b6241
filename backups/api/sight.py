"""Who sees the names of what is inside backups."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Exists, Model, OuterRef, QuerySet

from aihub_backup.core.access import covers, scope
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.models import User

M = TypeVar("M", bound=Model)

NAMES = "backups.browse_backup"


def sees_names(endpoint: Endpoint, row: Model) -> bool:
    """May the caller see the names of what is inside this one?"""
    return covers(endpoint.user, NAMES, row)


def with_sight(rows: QuerySet[M], user: User) -> QuerySet[Any]:
    """The same for each row of a list, as its `names_seen`, in the list's own query."""
    seen = scope(rows.model._base_manager.filter(pk=OuterRef("pk")), user, NAMES)
    return rows.annotate(names_seen=Exists(seen))
