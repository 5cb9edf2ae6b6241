"""What protection means."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import MaxValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.reach import Reach

MOST_MINUTES = 10_000_000  # of any target (19 years): what is counted with it stays a date
NOT_APPLIED = _("Stored; not applied by this version.")


class VerifyLevel(models.IntegerChoices):
    """How deep an integrity check looks."""

    NONE = 0, _("none")
    PRESENT = 1, _("1: objects are there, with their size")
    INTACT = 2, _("2: SHA-256 of every object")
    READABLE = 3, _("3: everything decrypted and hashed again")


class Policy(models.Model):
    """A promise: how long points are kept, how often they are proved, how much loss and downtime is allowed.

    Retention counts are points to keep of each step, 0 = none of that step; what any of the rules keeps stays, and
    without any rule nothing expires. The RPO target is applied by the verdict about a source; copies, restore tests and
    the RTO target are not kept by this version.
    """

    REACH: ClassVar[Reach] = Reach(shared=True)
    KEEPS: ClassVar[tuple[str, ...]] = (
        "keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly",
    )  # fmt: skip

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    description = models.TextField(_("description"), blank=True)

    keep_last = models.PositiveSmallIntegerField(_("keep last"), default=0)
    keep_hourly = models.PositiveSmallIntegerField(_("keep hourly"), default=0)
    keep_daily = models.PositiveSmallIntegerField(_("keep daily"), default=0)
    keep_weekly = models.PositiveSmallIntegerField(_("keep weekly"), default=0)
    keep_monthly = models.PositiveSmallIntegerField(_("keep monthly"), default=0)
    keep_yearly = models.PositiveSmallIntegerField(_("keep yearly"), default=0)
    retention_days = models.PositiveIntegerField(
        _("retention (days)"), null=True, blank=True,
        help_text=_("Points younger than this stay; counted back from the newest point of the source."),
    )  # fmt: skip
    immutable_days = models.PositiveIntegerField(_("immutable for (days)"), default=0)
    required_copies = models.PositiveSmallIntegerField(_("required copies"), default=1, help_text=NOT_APPLIED)

    verify_level = models.PositiveSmallIntegerField(
        _("verify after each backup"), choices=VerifyLevel.choices, default=VerifyLevel.NONE
    )
    verify_interval_hours = models.PositiveIntegerField(_("verify every (hours)"), null=True, blank=True)
    restore_test_interval_days = models.PositiveIntegerField(
        _("restore test every (days)"), null=True, blank=True, help_text=NOT_APPLIED
    )
    decode_every = models.PositiveSmallIntegerField(
        _("decode one frame in"), default=8,
        help_text=_("While backing up, one data frame in so many is decoded again before it counts; 1 means all."),
    )  # fmt: skip
    rpo_target_minutes = models.PositiveIntegerField(
        _("RPO target (minutes)"), null=True, blank=True,
        help_text=_(
            "A source whose newest restorable point is older counts as not protected; empty: as its environment says,"
            " else 60."
        ),
    )  # fmt: skip
    rto_target_minutes = models.PositiveIntegerField(
        _("RTO target (minutes)"), null=True, blank=True, help_text=NOT_APPLIED
    )
    max_attempts = models.PositiveSmallIntegerField(
        _("attempts"), default=3, validators=(MaxValueValidator(20),),
        help_text=_("How often a run is tried when it fails for a passing reason."),
    )  # fmt: skip

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("policy")
        verbose_name_plural = _("policies")
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(condition=models.Q(verify_level__lte=3), name="policy_verify_level_1_to_3"),
            models.CheckConstraint(condition=models.Q(decode_every__gte=1), name="policy_decode_every_positive"),
            models.CheckConstraint(condition=models.Q(max_attempts__gte=1), name="policy_tries_at_least_once"),
        )

    def __str__(self) -> str:
        return self.name
