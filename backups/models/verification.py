"""Integrity checks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Job
from aihub_backup.core.reach import Reach
from aihub_backup.core.states import Stateful
from backups.models.backup import BackupPart, Trigger
from backups.models.problem import CarriesError
from backups.models.source import Source
from backups.models.storage import Storage


class VerificationState(models.TextChoices):
    """Where a check is. `failed` means that damage was found; `error` that nothing could be found out."""

    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    PASSED = "passed", _("passed")
    FAILED = "failed", _("failed")
    ERROR = "error", _("could not be carried out")
    CANCELLING = "cancelling", _("cancelling")
    CANCELLED = "cancelled", _("cancelled")


VERIFICATION_ACTIVE = frozenset({VerificationState.QUEUED, VerificationState.RUNNING, VerificationState.CANCELLING})
CONCLUSIVE = (VerificationState.PASSED, VerificationState.FAILED)  # it found something out, for good


class Verification(CarriesError, Stateful):
    """An integrity check of a part in a storage, at level 1, 2 or 3 (`VerifyLevel`).

    `problems` holds the first ones as {object, paths, message}; `problems_count` counts all, and `damaged` names every
    damaged pack by its SHA-256 as hex: the next backup relies on none of them.
    """

    REACH: ClassVar[Reach] = Reach(through="source")
    State = VerificationState
    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {
        VerificationState.QUEUED: frozenset(
            {VerificationState.RUNNING, VerificationState.ERROR, VerificationState.CANCELLED}
        ),
        VerificationState.RUNNING: frozenset({
            VerificationState.PASSED, VerificationState.FAILED, VerificationState.ERROR, VerificationState.QUEUED,
            VerificationState.CANCELLING, VerificationState.CANCELLED,
        }),
        VerificationState.CANCELLING: frozenset({VerificationState.CANCELLED, VerificationState.ERROR}),
    }  # fmt: skip

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    part = models.ForeignKey(BackupPart, models.PROTECT, verbose_name=_("backup part"), related_name="verifications")
    # The part's, which never changes: so that a thousand sources' newest checks are found without looking at all parts.
    source = models.ForeignKey(
        Source, models.PROTECT, editable=False, db_index=False, verbose_name=_("source"), related_name="verifications"
    )
    storage = models.ForeignKey(Storage, models.PROTECT, verbose_name=_("storage"), related_name="verifications")
    job = models.OneToOneField(
        Job, models.PROTECT, null=True, blank=True, verbose_name=_("job"), related_name="verification"
    )
    level = models.PositiveSmallIntegerField(_("level"))
    state = models.CharField(
        _("state"), max_length=24, choices=VerificationState.choices, default=VerificationState.QUEUED
    )
    trigger = models.CharField(_("trigger"), max_length=16, choices=Trigger.choices, default=Trigger.SYSTEM)
    requested_by_kind = models.CharField(max_length=16, default="system")
    requested_by_id = models.CharField(max_length=64, blank=True)
    requested_by_name = models.CharField(_("requested by"), max_length=200)

    problems = models.JSONField(_("problems"), default=list, blank=True, encoder=DjangoJSONEncoder)
    problems_count = models.PositiveIntegerField(_("problems found"), default=0)
    damaged = models.JSONField(default=list, blank=True, editable=False)
    objects_checked = models.BigIntegerField(_("objects checked"), null=True, blank=True)
    bytes_checked = models.BigIntegerField(_("bytes checked"), null=True, blank=True)

    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")
        ordering = ("-created_at", "-id")
        indexes = (
            models.Index(fields=("part", "-created_at"), name="verification_of_part"),
            models.Index(fields=("part", "state", "-finished_at"), name="verification_results_of_part"),
            models.Index(fields=("source", "-finished_at", "-id", "state"), name="verification_of_source"),
            models.Index(fields=("-created_at", "-id"), name="verification_newest"),
            models.Index(fields=("state", "-created_at"), name="verification_by_state"),
        )
        constraints = (
            models.CheckConstraint(condition=models.Q(level__range=(1, 3)), name="verification_level_1_to_3"),
            models.UniqueConstraint(
                fields=("part", "storage", "level"), condition=models.Q(state__in=sorted(VERIFICATION_ACTIVE)),
                name="one_active_verification",
            ),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.part} L{self.level}"

    def save(self, *args: Any, **options: Any) -> None:
        """With the source of the part."""
        if self._state.adding:
            self.source_id = self.part.source_id
        super().save(*args, **options)

    @property
    def active(self) -> bool:
        """Still going to change by itself."""
        return self.state in VERIFICATION_ACTIVE

    @property
    def environment_id(self) -> uuid.UUID:
        """The environment of the part's source."""
        return self.part.environment_id
