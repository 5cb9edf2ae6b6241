"""Finding the row somebody names by its id or its unique name."""

from __future__ import annotations

import uuid
from typing import TypeVar

from django.apps import apps
from django.db import models

from aihub_backup.core.failures import NotFound

M = TypeVar("M", bound=models.Model)


def find(rows: models.QuerySet[M], reference: object) -> M:
    """The row of the query set with this id, or with this unique `name` where the model has one.

    NotFound says what was looked for; an id that belongs to a thing of another kind is told as such.
    """
    key = as_uuid(reference)
    found = rows.filter(pk=key).first() if key else None
    if found is None and any(field.name == "name" for field in rows.model._meta.get_fields()):
        found = rows.filter(name=str(reference)).first()
    if found is None:
        raise NotFound(_sentence(rows.model, reference, key))
    return found


def as_uuid(reference: object) -> uuid.UUID | None:
    """The reference as an id; None when it is not written like one."""
    if isinstance(reference, uuid.UUID):
        return reference
    try:
        return uuid.UUID(str(reference))
    except ValueError:
        return None


def _sentence(model: type[models.Model], reference: object, key: uuid.UUID | None) -> str:
    noun = str(model._meta.verbose_name)
    other = _kind_of(key) if key else None
    if other is not None and other is not model:
        return f"There is no {noun} {key}: this is the id of a {other._meta.verbose_name}."
    return f"There is no {noun} “{str(reference)[:100]}”."


def _kind_of(key: uuid.UUID) -> type[models.Model] | None:
    """Which of our things has this id? Only kinds are told, never names: ids are known to whoever asks already."""
    for model in apps.get_app_config("backups").get_models():
        if model._base_manager.filter(pk=key).exists():
            return model
    return None
