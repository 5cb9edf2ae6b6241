"""Runs and the recovery points they leave."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Environment, Job
from aihub_backup.core.reach import Reach
from aihub_backup.core.states import Stateful
from backups.models.policy import Policy, VerifyLevel
from backups.models.problem import CarriesError
from backups.models.repository import Repository
from backups.models.source import Source


class BackupType(models.TextChoices):
    """What a person asks for; `services.scope` says which sources and which mode it means."""

    FULL = "full", _("full: every source")
    INCREMENTAL = "incremental", _("incremental: against the last backup")
    DIFFERENTIAL = "differential", _("differential: against the last full backup")
    DATABASE = "database", _("databases")
    FILES = "files", _("files")
    REDIS = "redis", _("Redis")
    CONFIG = "config", _("configuration")
    LOGS = "logs", _("logs")


class Trigger(models.TextChoices):
    """Through which door a request came."""

    API = "api", _("API")
    CONSOLE = "console", _("console")
    SCHEDULE = "schedule", _("schedule")
    COMMAND = "command", _("command line")
    SYSTEM = "system", _("system")


class BackupState(models.TextChoices):
    """Derived from the parts by `services.states.derived`, and kept so that lists can filter by it."""

    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    COMPLETED_WITH_WARNINGS = "completed_with_warnings", _("completed with warnings")
    PARTIAL = "partial", _("partial")
    FAILED = "failed", _("failed")
    CANCELLING = "cancelling", _("cancelling")
    CANCELLED = "cancelled", _("cancelled")
    MISSED = "missed", _("missed")
    EXPIRED = "expired", _("expired")
    DELETING = "deleting", _("being deleted")
    DELETED = "deleted", _("deleted")


class PartState(models.TextChoices):
    """Where one source's part is."""

    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    COMPLETED_WITH_WARNINGS = "completed_with_warnings", _("completed with warnings")
    FAILED = "failed", _("failed")
    CANCELLING = "cancelling", _("cancelling")
    CANCELLED = "cancelled", _("cancelled")
    EXPIRED = "expired", _("expired")
    DELETING = "deleting", _("being deleted")
    DELETED = "deleted", _("deleted")


class Mode(models.TextChoices):
    """What is read again, and against what changes are reported. Every snapshot is complete by itself."""

    FULL = "full", _("full")
    INCREMENTAL = "incremental", _("incremental")
    DIFFERENTIAL = "differential", _("differential")


def type_word(kind: str) -> str:
    """The type in one word; its label explains itself."""
    known = Mode if kind in Mode.values else BackupType
    return str(known(kind).label)


ACTIVE = frozenset({PartState.QUEUED, PartState.RUNNING, PartState.CANCELLING})
STORED = frozenset({PartState.COMPLETED, PartState.COMPLETED_WITH_WARNINGS})  # there is a recovery point
BAD = frozenset({BackupState.PARTIAL, BackupState.FAILED, BackupState.MISSED})
BACKUP_ACTIVE = frozenset({BackupState.QUEUED, BackupState.RUNNING, BackupState.CANCELLING})
BACKUP_STORED = frozenset({BackupState.COMPLETED, BackupState.COMPLETED_WITH_WARNINGS, BackupState.PARTIAL})


class Backup(models.Model):
    """One run and the recovery point it leaves; one part for each source. Of several sources: a recovery set."""

    REACH: ClassVar[Reach] = Reach(
        through="parts__source", environment="environment", untagged=True, requester="requested_by_id",
        alone=("state", (BackupState.QUEUED, BackupState.MISSED)),
    )  # fmt: skip

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    type = models.CharField(_("type"), max_length=16, choices=BackupType.choices)
    state = models.CharField(_("state"), max_length=24, choices=BackupState.choices, default=BackupState.QUEUED)
    label = models.CharField(_("label"), max_length=200, blank=True)
    tags = models.JSONField(_("tags"), default=dict, blank=True)
    environment = models.ForeignKey(
        Environment, models.PROTECT, null=True, blank=True, verbose_name=_("environment"), related_name="backups",
        help_text=_("Empty when its sources belong to several."),
    )  # fmt: skip
    policy = models.ForeignKey(
        Policy, models.PROTECT, null=True, blank=True, verbose_name=_("policy"), related_name="backups"
    )
    verify_level = models.PositiveSmallIntegerField(
        _("verify afterwards"), choices=VerifyLevel.choices, default=VerifyLevel.NONE
    )
    trigger = models.CharField(_("trigger"), max_length=16, choices=Trigger.choices, default=Trigger.SYSTEM)
    requested_by_kind = models.CharField(max_length=16, default="system")
    requested_by_id = models.CharField(max_length=64, blank=True)
    requested_by_name = models.CharField(_("requested by"), max_length=200)

    # Name of each source that a run over many could not take → why, in English: the others were not to wait for it.
    left_out = models.JSONField(_("left out"), default=dict, blank=True)

    hold_until = models.DateTimeField(_("held until"), null=True, blank=True)
    hold_reason = models.CharField(_("reason of the hold"), max_length=500, blank=True)

    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    deleted_at = models.DateTimeField(_("deleted"), null=True, blank=True)

    class Meta:
        verbose_name = _("backup")
        verbose_name_plural = _("backups")
        ordering = ("-created_at", "-id")
        indexes = (
            models.Index(fields=("-created_at", "-id"), name="backup_newest"),
            models.Index(fields=("state", "-created_at"), name="backup_by_state"),
            models.Index(fields=("requested_by_name",), name="backup_by_requester"),  # a search looks each name up once
        )
        constraints = (
            models.CheckConstraint(condition=models.Q(verify_level__lte=3), name="backup_verify_level_1_to_3"),
        )
        permissions = (
            ("run_backup", _("Can run a backup")),
            ("cancel_backup", _("Can cancel a backup")),
            ("verify_backup", _("Can verify a backup")),
            ("browse_backup", _("Can see names inside a backup")),
            ("hold_backup", _("Can hold a backup")),
            ("cancel_own_backup", _("Can cancel a backup that they asked for")),
            ("download_backup", _("Can download what is inside a backup")),
        )

    def __str__(self) -> str:
        return self.label or f"{self.type_word} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def type_word(self) -> str:
        """Its type in one word: the label of the type explains itself."""
        return type_word(self.type)

    @property
    def active(self) -> bool:
        """Still going to change by itself."""
        return self.state in BACKUP_ACTIVE

    @property
    def held(self) -> bool:
        """May nobody delete it now?"""
        return self.hold_until is not None and self.hold_until > timezone.now()


class BackupPart(CarriesError, Stateful):
    """One source inside a Backup: one job, one snapshot. The id of the part is the id of the snapshot.

    `stats` are the engine's counts (`engine.Stats.pack()`); sizes are bytes. `item_errors` holds the first ones as
    {path, action, message, severity}; the counts are of all.
    """

    REACH: ClassVar[Reach] = Reach(through="source")
    State = PartState
    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {
        PartState.QUEUED: frozenset({PartState.RUNNING, PartState.FAILED, PartState.CANCELLED}),
        PartState.RUNNING: frozenset({
            PartState.COMPLETED, PartState.COMPLETED_WITH_WARNINGS, PartState.FAILED, PartState.QUEUED,
            PartState.CANCELLING, PartState.CANCELLED,
        }),
        PartState.CANCELLING: frozenset({PartState.CANCELLED, PartState.FAILED}),
        PartState.COMPLETED: frozenset({PartState.EXPIRED, PartState.DELETING}),
        PartState.COMPLETED_WITH_WARNINGS: frozenset({PartState.EXPIRED, PartState.DELETING}),
        PartState.EXPIRED: frozenset({PartState.DELETING}),
        PartState.FAILED: frozenset({PartState.DELETING}),
        PartState.CANCELLED: frozenset({PartState.DELETING}),
        PartState.DELETING: frozenset({
            PartState.DELETED, PartState.COMPLETED, PartState.COMPLETED_WITH_WARNINGS,  # back: it may not be deleted
        }),
    }  # fmt: skip

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    backup = models.ForeignKey(Backup, models.PROTECT, verbose_name=_("backup"), related_name="parts")
    source = models.ForeignKey(Source, models.PROTECT, verbose_name=_("source"), related_name="parts")
    repository = models.ForeignKey(Repository, models.PROTECT, verbose_name=_("repository"), related_name="parts")
    job = models.OneToOneField(
        Job, models.PROTECT, null=True, blank=True, verbose_name=_("job"), related_name="backup_part"
    )
    state = models.CharField(_("state"), max_length=24, choices=PartState.choices, default=PartState.QUEUED)
    mode = models.CharField(_("mode"), max_length=16, choices=Mode.choices, default=Mode.FULL)
    base = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, verbose_name=_("compared with"), related_name="followers"
    )

    stats = models.JSONField(_("counts"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    facts = models.JSONField(_("facts told by the strategy"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    items = models.BigIntegerField(_("items"), null=True, blank=True)
    size_bytes = models.BigIntegerField(_("size"), null=True, blank=True)
    stored_bytes = models.BigIntegerField(_("added to the repository"), null=True, blank=True)
    item_errors = models.JSONField(_("oddities"), default=list, blank=True, encoder=DjangoJSONEncoder)
    warnings_count = models.PositiveIntegerField(_("warnings"), default=0)
    errors_count = models.PositiveIntegerField(_("items with errors"), default=0)
    log_record = models.CharField(_("log record"), max_length=200, blank=True, editable=False)

    data_as_of = models.DateTimeField(_("data as of"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("backup part")
        verbose_name_plural = _("backup parts")
        ordering = ("created_at", "id")
        indexes = (
            # Lists and verdicts of many sources read nothing but these: the last columns save reading the rows.
            # None begins with the state: most parts are completed, and SQLite takes such an index for a narrow one.
            models.Index(
                fields=("source", "-data_as_of", "-id", "state", "repository", "size_bytes"), name="part_newest_points"
            ),
            models.Index(
                fields=("source", "-created_at", "-id", "state", "data_as_of", "finished_at"),
                name="part_runs_of_source",
            ),
            models.Index(
                fields=("repository", "state", "stored_bytes", "size_bytes"), name="part_points_of_repository"
            ),
            models.Index(fields=("-created_at", "-id", "source", "state"), name="part_newest"),
            models.Index(fields=("finished_at",), name="part_ended"),
            # How many points a source has.
            models.Index(
                fields=("source",),
                name="part_points_kept",
                condition=models.Q(data_as_of__isnull=False, state__in=sorted(STORED)),
            ),
            # Asked of each backup: does it lie in that repository? Without it SQLite looks through the repository.
            models.Index(fields=("backup", "repository"), name="part_place_of_backup"),
        )
        constraints = (
            models.UniqueConstraint(fields=("backup", "source"), name="one_part_per_source_in_a_backup"),
            models.UniqueConstraint(
                fields=("source",), condition=models.Q(state__in=sorted(ACTIVE)), name="one_active_part_per_source"
            ),
        )

    def __str__(self) -> str:
        return f"{self.source} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def snapshot_id(self) -> str:
        """The id under which the repository knows it."""
        return str(self.pk)

    @property
    def environment_id(self) -> uuid.UUID:
        """The environment of its source."""
        return self.source.environment_id

    @property
    def promise(self) -> Policy | None:
        """The policy it is judged by: the backup's, and where its sources have several its own source's."""
        return self.backup.policy or self.source.policy

    @property
    def stored(self) -> bool:
        """Is there a recovery point?"""
        return self.state in STORED

    @property
    def progress(self) -> dict[str, Any]:
        """How far its job is (keys: `core.jobs.progress`)."""
        return dict(self.job.progress) if self.job else {}
