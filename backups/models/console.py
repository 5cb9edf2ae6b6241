"""How the console protects itself."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.reach import Reach
from backups.models.repository import Repository
from backups.models.schedule import Schedule
from backups.models.source import Source

ONLY = 1  # there is one console


class OwnProtection(models.Model):
    """The source that is the console's own database, its daily schedule, and the repository that holds its keys.

    One row, made once; while it is there, its source and its schedule stay. `keys_digest` tells whether the keys in use
    are the sealed ones, and nothing about them.
    """

    REACH: ClassVar[Reach] = Reach(through="source")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveSmallIntegerField(unique=True, default=ONLY, editable=False)
    source = models.OneToOneField(
        Source, models.PROTECT, verbose_name=_("source"), related_name="own_protection", editable=False
    )
    schedule = models.OneToOneField(
        Schedule, models.PROTECT, verbose_name=_("schedule"), related_name="own_protection", editable=False
    )
    repository = models.ForeignKey(
        Repository, models.PROTECT, verbose_name=_("repository"), related_name="own_protections", editable=False
    )
    keys_record = models.CharField(_("log record of the keys"), max_length=100, blank=True, editable=False)
    keys_digest = models.CharField(max_length=64, blank=True, editable=False)
    keys_sealed_at = models.DateTimeField(_("keys sealed"), null=True, blank=True, editable=False)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("protection of the console")
        verbose_name_plural = _("protection of the console")
        constraints = (models.CheckConstraint(condition=models.Q(number=ONLY), name="one_protection_of_the_console"),)

    def __str__(self) -> str:
        return f"{self.source} → {self.repository}"

    @property
    def environment_id(self) -> uuid.UUID:
        """The environment of its source."""
        return self.source.environment_id
