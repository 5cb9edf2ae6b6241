"""What was asked of a damaged repository, and what came of it."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Job
from aihub_backup.core.reach import Reach
from backups.models.repository import Repository
from backups.models.storage import Storage


class Repair(models.Model):
    """A repair of a repository from copies in other storages, or the preview of one. Where it is, its job tells.

    `found` is what the runner told (`backups.runner.repairing`); empty until it ended well.
    """

    REACH: ClassVar[Reach] = Reach(through="repository")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    repository = models.ForeignKey(
        Repository, models.PROTECT, verbose_name=_("repository"), related_name="repairs"
    )  # fmt: skip
    copies = models.ManyToManyField(Storage, verbose_name=_("copies"), related_name="+", blank=True)
    preview = models.BooleanField(_("preview"), default=False, help_text=_("Nothing is written."))
    job = models.OneToOneField(Job, models.PROTECT, verbose_name=_("job"), related_name="repair")
    reason = models.TextField(_("reason"), blank=True)
    requested_by_kind = models.CharField(max_length=16, default="system")
    requested_by_id = models.CharField(max_length=64, blank=True)
    requested_by_name = models.CharField(_("requested by"), max_length=200)
    found = models.JSONField(_("found"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("repair")
        verbose_name_plural = _("repairs")
        ordering = ("-created_at", "-id")
        indexes = (models.Index(fields=("repository", "-created_at"), name="repair_of_repository"),)

    def __str__(self) -> str:
        return f"{self.repository}, {self.created_at:%Y-%m-%d %H:%M}"
