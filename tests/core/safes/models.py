"""Rows that only the foundation's tests need."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import ClassVar

from django.db import models

from aihub_backup.core.secrets import SecretsField
from aihub_backup.core.states import Stateful


class Safe(models.Model):
    """Holds secrets."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, default="safe")
    secrets = SecretsField()
    spares = SecretsField()

    class Meta:
        app_label = "safes"


class Light(Stateful):
    """Goes round: red → green → amber → red; broken is final."""

    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {
        "red": frozenset({"green", "broken"}),
        "green": frozenset({"amber", "broken"}),
        "amber": frozenset({"red", "broken"}),
    }

    state = models.CharField(max_length=24, default="red")
    seen = models.IntegerField(default=0)
    place = models.CharField(max_length=20, default="corner")

    class Meta:
        app_label = "safes"
