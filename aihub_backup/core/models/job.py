"""The one table of long work. The rules of moving live in `core.jobs`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models.place import Node
from aihub_backup.core.states import Stateful


class JobState(models.TextChoices):
    """Where a job is."""

    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    COMMITTING = "committing", _("committing")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    CANCELLING = "cancelling", _("cancelling")
    CANCELLED = "cancelled", _("cancelled")


LEASED = frozenset({JobState.RUNNING, JobState.COMMITTING, JobState.CANCELLING})  # somebody holds it
ACTIVE = LEASED | {JobState.QUEUED}
FINISHED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


class Job(Stateful):
    """One piece of long work. The row owns the work: whoever holds the lease with the present `epoch` may act for it.

    `progress` holds the keys of `core.jobs.progress`; times in it are ISO 8601, sizes bytes, rates bytes per second.
    """

    State = JobState
    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
        JobState.RUNNING: frozenset(
            {
                JobState.COMMITTING,
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.QUEUED,
                JobState.CANCELLING,
                JobState.CANCELLED,
            }
        ),
        JobState.COMMITTING: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.QUEUED}),
        JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=64)
    target_id = models.UUIDField(_("target"), null=True, blank=True, db_index=True)
    state = models.CharField(_("state"), max_length=24, choices=JobState.choices, default=JobState.QUEUED)
    queue = models.CharField(_("queue"), max_length=80)
    node = models.ForeignKey(Node, models.PROTECT, null=True, blank=True, verbose_name=_("node"), related_name="jobs")
    priority = models.SmallIntegerField(_("priority"), default=0, help_text=_("Higher runs first."))

    lease_owner = models.CharField(max_length=255, blank=True)
    lease_epoch = models.BigIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    suspected_heartbeat_at = models.DateTimeField(null=True, blank=True)

    progress = models.JSONField(_("progress"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    cancel_requested = models.BooleanField(_("cancel requested"), default=False)
    cancel_requested_by = models.CharField(max_length=200, blank=True)

    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    not_before = models.DateTimeField(_("not before"), default=timezone.now)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(_("error"), blank=True)
    error_permanent = models.BooleanField(null=True, blank=True)

    rung_at = models.DateTimeField(null=True, blank=True)
    rings = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ("-created_at",)
        indexes = (
            models.Index(fields=("state", "queue", "-priority", "created_at"), name="job_next"),
            models.Index(fields=("state", "lease_expires_at"), name="job_leases"),
            models.Index(fields=("-created_at", "-id"), name="job_newest"),
            models.Index(fields=("kind", "-created_at"), name="job_by_kind"),
            models.Index(fields=("queue", "-created_at"), name="job_by_queue"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def active(self) -> bool:
        """Still queued or held by somebody."""
        return self.state in ACTIVE

    @property
    def finished(self) -> bool:
        """In a state that it will never leave."""
        return self.state in FINISHED

    @property
    def doorbell(self) -> str:
        """The broker queue that rings for this job."""
        return self.node.queue if self.node else self.queue
