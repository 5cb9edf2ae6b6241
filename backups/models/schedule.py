"""When backups are made by themselves, and what became of each moment."""

from __future__ import annotations

import uuid
from typing import ClassVar
from zoneinfo import ZoneInfo

from django.core.validators import MaxValueValidator
from django.db import models
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from aihub_backup.core.models import Environment
from aihub_backup.core.reach import Reach
from backups.models.backup import Backup, BackupType
from backups.models.policy import Policy
from backups.models.source import Source

LONGEST_GRACE = 30 * 86_400  # seconds


class Misfire(models.TextChoices):
    """What happens to slots that were slept through."""

    RUN_ONCE = "run_once", _("one backup for the newest slot, as soon as possible")
    SKIP = "skip", _("only slots within the grace; what is older is missed")


class SlotState(models.TextChoices):
    """What became of a moment at which a backup was due."""

    DUE = "due", _("due")
    RUN = "run", _("run")
    MISSED = "missed", _("missed")
    SKIPPED = "skipped", _("skipped")


class Schedule(models.Model):
    """When what is backed up. Named `sources`, or those whose tags hold all of `tags`, or all that the type means.

    It owns one task of the scheduler and that task's crontab; only `services.schedules` writes them. Slots up to
    `decided_until` are written down already: nothing before that moment becomes due any more.
    """

    REACH: ClassVar[Reach] = Reach(through="sources", environment="environment", tags="tags")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    type = models.CharField(_("type"), max_length=16, choices=BackupType.choices)
    strategy = models.CharField(
        _("strategy"), max_length=16, blank=True,
        help_text=_("Narrows full, incremental and differential: database, files, redis, config or logs."),
    )  # fmt: skip
    sources = models.ManyToManyField(Source, blank=True, verbose_name=_("sources"), related_name="schedules")
    tags = models.JSONField(
        _("tags"), default=dict, blank=True, help_text=_("Instead of sources: those that carry all of these.")
    )
    environment = models.ForeignKey(
        Environment, models.PROTECT, null=True, blank=True, verbose_name=_("environment"), related_name="schedules",
        help_text=_("Only sources of this environment; empty: of all."),
    )  # fmt: skip
    cron_expression = models.CharField(
        _("cron expression"),
        max_length=200,
        help_text=_("Minute, hour, day, month, weekday: 0 2 * * * is daily 02:00."),
    )
    timezone = models.CharField(
        _("time zone"), max_length=63, default="UTC", help_text=_("A name such as Asia/Shanghai.")
    )
    policy = models.ForeignKey(
        Policy, models.PROTECT, null=True, blank=True, verbose_name=_("policy"), related_name="schedules",
        help_text=_("How long its backups are kept; empty: as the sources' policies say."),
    )  # fmt: skip
    enabled = models.BooleanField(_("enabled"), default=True)
    disabled_reason = models.CharField(_("why it is disabled"), max_length=500, blank=True)
    misfire = models.CharField(_("after an outage"), max_length=16, choices=Misfire.choices, default=Misfire.RUN_ONCE)
    grace_seconds = models.PositiveIntegerField(
        _("grace (seconds)"),
        default=3600,
        validators=[MaxValueValidator(LONGEST_GRACE)],
        help_text=_("How late a backup may begin before its slot is missed."),
    )
    decided_until = models.DateTimeField(default=now, editable=False)
    periodic_task = models.OneToOneField(PeriodicTask, models.PROTECT, editable=False, related_name="backup_schedule")
    crontab = models.OneToOneField(CrontabSchedule, models.PROTECT, editable=False, related_name="backup_schedule")

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone its expression is read in."""
        return ZoneInfo(self.timezone)


class ScheduleSlot(models.Model):
    """A moment at which a backup was due, and what became of it. There is one for each moment, whoever looks first."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    schedule = models.ForeignKey(Schedule, models.CASCADE, verbose_name=_("schedule"), related_name="slots")
    due_at = models.DateTimeField(_("due"))
    state = models.CharField(_("state"), max_length=16, choices=SlotState.choices, default=SlotState.DUE)
    backup = models.ForeignKey(
        Backup, models.PROTECT, null=True, blank=True, verbose_name=_("backup"), related_name="slots"
    )
    note = models.CharField(_("why"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created"), default=now)

    class Meta:
        verbose_name = _("slot of a schedule")
        verbose_name_plural = _("slots of schedules")
        ordering = ("-due_at", "-id")
        constraints = (models.UniqueConstraint(fields=("schedule", "due_at"), name="one_slot_per_moment"),)
        indexes = (models.Index(fields=("schedule", "state"), name="slot_of_schedule"),)

    def __str__(self) -> str:
        return f"{self.schedule} {self.due_at:%Y-%m-%d %H:%M} UTC"
