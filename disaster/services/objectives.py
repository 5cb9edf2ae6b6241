"""What people say about an environment's objectives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Invalid
from aihub_backup.core.models import Environment
from backups.models import MOST_MINUTES
from backups.services import objectives as targets
from backups.services import saving
from disaster.models import RPO_MINUTES, RTO_MINUTES, DRConfig


def create(
    environment: Environment,
    *,
    by: Actor,
    enabled: bool = True,
    auto_recovery: bool = False,
    rpo_minutes: int = RPO_MINUTES,
    rto_minutes: int = RTO_MINUTES,
) -> DRConfig:
    """Write the environment's objectives down. Invalid (a target out of bounds, or there are objectives already)."""
    check(rpo_minutes, rto_minutes)
    facts = {
        "enabled": enabled, "auto_recovery": auto_recovery, "rpo_minutes": rpo_minutes, "rto_minutes": rto_minutes,
    }  # fmt: skip
    made = DRConfig(environment=environment, **facts)
    saving.checked(made)
    with transaction.atomic():
        saving.write(made)
        record("disaster.objectives.create", made, by=by, **facts)
    return made


def rpo() -> Mapping[UUID, timedelta]:
    """The RPO targets of all environments that have objectives."""
    rows = DRConfig.objects.values_list("environment", "rpo_minutes")
    return {key: targets.span(minutes) for key, minutes in rows}


def check(rpo_minutes: int, rto_minutes: int) -> None:
    """Invalid, at its field, when a target is below a minute or above MOST_MINUTES."""
    given = {"rpo_minutes": rpo_minutes, "rto_minutes": rto_minutes}
    errors = {
        name: f"{name} must be from 1 to {MOST_MINUTES} minutes; it is {value}."
        for name, value in given.items() if not 1 <= value <= MOST_MINUTES
    }  # fmt: skip
    if errors:
        raise Invalid(" ".join(errors.values()), errors=errors)
