"""What an environment may lose, and how long it may be away."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Environment

RPO_MINUTES, RTO_MINUTES = 60, 240  # where nobody has said anything else


class DRConfig(models.Model):
    """The objectives of one environment. A policy's own targets go before them; monitoring and automatic recovery are
    stored only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = models.OneToOneField(
        Environment, models.CASCADE, verbose_name=_("environment"), related_name="dr_config"
    )
    enabled = models.BooleanField(_("monitoring"), default=True)
    auto_recovery = models.BooleanField(_("automatic recovery"), default=False)
    rpo_minutes = models.PositiveIntegerField(_("RPO (minutes)"), default=RPO_MINUTES)
    rto_minutes = models.PositiveIntegerField(_("RTO (minutes)"), default=RTO_MINUTES)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("disaster recovery configuration")
        verbose_name_plural = _("disaster recovery configurations")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(rpo_minutes__gte=1, rto_minutes__gte=1), name="dr_objectives_positive"
            ),
        )

    def __str__(self) -> str:
        return f"{self.environment}: RPO {self.rpo_minutes} min, RTO {self.rto_minutes} min"
