"""Who did what, when: rows that are only ever added."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, NoReturn

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.failures import Refused
from aihub_backup.core.reach import Reach


class AppendOnly(Refused):
    """Audit rows cannot be changed or deleted."""

    def __init__(self) -> None:
        super().__init__("Audit events are append-only; they cannot be changed or deleted.", code="immutable")


class ActorKind(models.TextChoices):
    """What acted."""

    USER = "user", _("person")
    TOKEN = "token", _("program")
    SCHEDULE = "schedule", _("schedule")
    SYSTEM = "system", _("console")
    CLI = "cli", _("command line")


class AuditQuerySet(models.QuerySet["AuditEvent"]):
    """Reads and adds; everything else is refused."""

    def update(self, **_fields: Any) -> NoReturn:
        """Refused."""
        raise AppendOnly

    def delete(self) -> NoReturn:
        """Refused."""
        raise AppendOnly

    def bulk_update(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused."""
        raise AppendOnly

    def update_or_create(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused."""
        raise AppendOnly


class AuditEvent(models.Model):
    """One deed. Written by `audit.record` in the transaction of the deed itself.

    Nothing here points at another table by a foreign key: what the event names may be deleted, the event stays.
    """

    REACH: ClassVar[Reach] = Reach(environment="environment", untagged=True)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(_("at"), db_index=True)
    action = models.CharField(_("action"), max_length=64, db_index=True)

    actor_kind = models.CharField(_("kind of actor"), max_length=16, choices=ActorKind.choices)
    actor_id = models.CharField(max_length=64, blank=True, db_index=True)
    actor_name = models.CharField(_("actor"), max_length=200)

    target_type = models.CharField(_("kind of target"), max_length=100)
    target_id = models.CharField(max_length=64)
    target_name = models.CharField(_("target"), max_length=255)
    environment = models.UUIDField(null=True, blank=True, db_index=True)

    facts = models.JSONField(_("facts"), default=dict, encoder=DjangoJSONEncoder)
    request_id = models.CharField(max_length=64, blank=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ("-at", "-id")
        base_manager_name = "objects"
        indexes = (
            models.Index(fields=("target_type", "target_id", "-at"), name="audit_by_target"),
            models.Index(fields=("environment", "-at", "-id"), name="audit_of_environment"),
            models.Index(fields=("-at", "-id"), name="audit_newest"),
            models.Index(fields=("actor_kind", "-at"), name="audit_by_kind_of_actor"),
        )

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name}: {self.action} {self.target_name}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Adds a new event; an existing one is refused."""
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refused."""
        raise AppendOnly
