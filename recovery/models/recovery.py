"""One restore, from the wish to the proof."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Job, Node
from aihub_backup.core.reach import Reach
from aihub_backup.core.states import Stateful
from backups.models import Backup, BackupPart, Trigger
from backups.models.problem import CarriesError


class RecoveryType(models.TextChoices):
    """What is wanted back."""

    FULL = "full", _("full: every part")
    PARTIAL = "partial", _("partial: some parts or subtrees")
    POINT_IN_TIME = "point_in_time", _("point in time")
    SELECTIVE = "selective", _("selective: by pattern")


class Purpose(models.TextChoices):
    """What for."""

    RECOVERY = "recovery", _("recovery")
    ROLLBACK = "rollback", _("rollback")
    TEST = "test", _("restore test")


class TargetKind(models.TextChoices):
    """Where to."""

    NEW_PLACE = "new_place", _("a new place")
    NEW_DATABASE = "new_database", _("a new database")
    IN_PLACE = "in_place", _("in place")
    SOURCE = "source", _("another source")
    DOWNLOAD = "download", _("a download")


class RecoveryState(models.TextChoices):
    """Where it is. The job's state is its own."""

    DRAFT = "draft", _("draft")
    AWAITING_APPROVAL = "awaiting_approval", _("awaiting approval")
    REJECTED = "rejected", _("rejected")
    APPROVAL_EXPIRED = "approval_expired", _("approval expired")
    QUEUED = "queued", _("queued")
    PREPARING = "preparing", _("preparing")
    RESTORING = "restoring", _("restoring")
    VALIDATING = "validating", _("validating")
    COMPLETED = "completed", _("completed")
    COMPLETED_WITH_WARNINGS = "completed_with_warnings", _("completed with warnings")
    FAILED = "failed", _("failed")
    CANCELLING = "cancelling", _("cancelling")
    CANCELLED = "cancelled", _("cancelled")
    ROLLING_BACK = "rolling_back", _("rolling back")
    ROLLED_BACK = "rolled_back", _("rolled back")
    ROLLBACK_FAILED = "rollback_failed", _("rollback failed")


WORKING = frozenset({RecoveryState.PREPARING, RecoveryState.RESTORING, RecoveryState.VALIDATING})
ENDED_WELL = frozenset({RecoveryState.COMPLETED, RecoveryState.COMPLETED_WITH_WARNINGS})
BEFORE_THE_START = frozenset({RecoveryState.DRAFT, RecoveryState.AWAITING_APPROVAL, RecoveryState.QUEUED})
ACTIVE = BEFORE_THE_START | WORKING | {RecoveryState.CANCELLING, RecoveryState.ROLLING_BACK}

_S = RecoveryState
_ANY_END = frozenset({_S.FAILED, _S.CANCELLING, _S.CANCELLED, _S.QUEUED})  # queued: the attempt was lost, try again


class Recovery(CarriesError, Stateful):
    """One restore. `include` and `exclude` are patterns; `stats` are the engine's counts, sizes are bytes.

    Everything is built up in `stage`, a directory beside the target, and gets the target's name in one step at the
    end; `tree_inode` tells afterwards whether that happened. `findings` are what validation looked at: {"part",
    "check", "passed", "detail"}. `notices` are sentences about what was understood (the point that was chosen, for
    example). `left_behind` says what a failed one left.

    With a new database as its target it is the same: `stage` is the database's working name, `tree_inode` the word its
    server knows it by, and `target_path` where it will be, for people and for the rule that each target is used once.
    """

    REACH: ClassVar[Reach] = Reach(through="parts__part__source", requester="requested_by_id")
    State = RecoveryState
    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {
        _S.DRAFT: frozenset({_S.AWAITING_APPROVAL, _S.QUEUED, _S.CANCELLED}),
        _S.AWAITING_APPROVAL: frozenset({_S.QUEUED, _S.REJECTED, _S.APPROVAL_EXPIRED, _S.CANCELLED}),
        _S.QUEUED: frozenset({_S.PREPARING, _S.VALIDATING, _S.FAILED, _S.CANCELLED}),  # an attempt before got so far
        _S.PREPARING: _ANY_END | {_S.RESTORING},
        _S.RESTORING: _ANY_END | {_S.VALIDATING},
        _S.VALIDATING: _ANY_END | {_S.COMPLETED, _S.COMPLETED_WITH_WARNINGS},
        _S.CANCELLING: frozenset({_S.CANCELLED, _S.FAILED}),
        _S.COMPLETED: frozenset({_S.ROLLING_BACK}),
        _S.COMPLETED_WITH_WARNINGS: frozenset({_S.ROLLING_BACK}),
        _S.FAILED: frozenset({_S.ROLLING_BACK}),
        _S.ROLLING_BACK: frozenset({_S.ROLLED_BACK, _S.ROLLBACK_FAILED}),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    type = models.CharField(_("type"), max_length=16, choices=RecoveryType.choices)
    purpose = models.CharField(_("purpose"), max_length=16, choices=Purpose.choices, default=Purpose.RECOVERY)
    state = models.CharField(
        _("state"), max_length=24, choices=RecoveryState.choices, default=RecoveryState.QUEUED, db_index=True
    )
    backup = models.ForeignKey(Backup, models.PROTECT, verbose_name=_("backup"), related_name="recoveries")
    point_in_time = models.DateTimeField(_("wanted point in time"), null=True, blank=True)
    include = models.JSONField(_("only these"), default=list, blank=True)
    exclude = models.JSONField(_("without these"), default=list, blank=True)
    job = models.OneToOneField(
        Job, models.PROTECT, null=True, blank=True, verbose_name=_("job"), related_name="recovery"
    )

    target_kind = models.CharField(
        _("kind of target"), max_length=16, choices=TargetKind.choices, default=TargetKind.NEW_PLACE
    )
    target_path = models.TextField(_("target"), blank=True)
    target_database = models.CharField(_("name of the new database"), max_length=100, blank=True)
    make_roles = models.BooleanField(_("make missing roles"), default=False)
    node = models.ForeignKey(
        Node, models.PROTECT, null=True, blank=True, verbose_name=_("node"), related_name="recoveries"
    )
    stage = models.TextField(_("stage"), blank=True, editable=False)
    tree_inode = models.CharField(max_length=32, blank=True, editable=False)

    reason = models.TextField(_("reason"))
    trigger = models.CharField(_("trigger"), max_length=16, choices=Trigger.choices, default=Trigger.SYSTEM)
    requested_by_kind = models.CharField(max_length=16, default="system")
    requested_by_id = models.CharField(max_length=64, blank=True)
    requested_by_name = models.CharField(_("requested by"), max_length=200)

    notices = models.JSONField(_("notices"), default=list, blank=True)
    findings = models.JSONField(_("findings of the validation"), default=list, blank=True, encoder=DjangoJSONEncoder)
    items = models.BigIntegerField(_("items"), null=True, blank=True)
    size_bytes = models.BigIntegerField(_("size"), null=True, blank=True)
    warnings_count = models.PositiveIntegerField(_("warnings"), default=0)
    errors_count = models.PositiveIntegerField(_("items with errors"), default=0)
    left_behind = models.TextField(_("left behind"), blank=True)

    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("recovery")
        verbose_name_plural = _("recoveries")
        ordering = ("-created_at", "-id")
        indexes = (
            models.Index(fields=("-created_at", "-id"), name="recovery_newest"),
            models.Index(fields=("state", "-created_at"), name="recovery_by_state"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("node", "target_path"), name="one_active_recovery_per_target",
                condition=models.Q(state__in=sorted(ACTIVE)) & ~models.Q(target_path=""),
            ),
        )  # fmt: skip
        permissions = (
            ("request_recovery", _("Can recover to a new place")),
            ("recover_inplace", _("Can recover in place")),
            ("rollback_recovery", _("Can roll a recovery back")),
            ("cancel_recovery", _("Can cancel a recovery")),
            ("rollback_own_recovery", _("Can roll a recovery back that they asked for")),
        )

    def __str__(self) -> str:
        return f"{self.get_type_display()} → {self.target_path or self.get_target_kind_display()}"

    @property
    def asker(self) -> Actor:
        """Who asked for it."""
        return Actor(self.requested_by_id or None, self.requested_by_name, self.requested_by_kind)

    @property
    def active(self) -> bool:
        """Still going to change by itself."""
        return self.state in ACTIVE

    @property
    def progress(self) -> dict[str, Any]:
        """How far its job is (keys: `core.jobs.progress`)."""
        return dict(self.job.progress) if self.job else {}


class RecoveryPart(models.Model):
    """One recovery point that is brought back, and where in the target it goes ("" = the target itself).

    `item_errors` holds the first oddities as {path, action, message, severity}; the counts are of all.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    recovery = models.ForeignKey(Recovery, models.CASCADE, related_name="parts", verbose_name=_("recovery"))
    part = models.ForeignKey(BackupPart, models.PROTECT, related_name="recoveries", verbose_name=_("backup part"))
    place = models.CharField(_("place in the target"), max_length=255, blank=True)
    position = models.PositiveSmallIntegerField(default=0)
    restored_at = models.DateTimeField(_("restored"), null=True, blank=True)
    stats = models.JSONField(_("counts"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    item_errors = models.JSONField(_("oddities"), default=list, blank=True, encoder=DjangoJSONEncoder)

    class Meta:
        verbose_name = _("recovery part")
        verbose_name_plural = _("recovery parts")
        ordering = ("position",)
        constraints = (models.UniqueConstraint(fields=("recovery", "part"), name="each_part_once_in_a_recovery"),)

    def __str__(self) -> str:
        return f"{self.part} → {self.place or '.'}"
