"""What people do with policies."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Invalid
from backups.models import MOST_MINUTES, Policy
from backups.services import configured, saving

_FIXED = ("id", "created_at", "updated_at")
MOST_DAYS = 36_500  # a hundred years: what is counted with it stays a date
MOST_POINTS = 10_000  # to keep of one step
BOUNDS = {  # of every door; those that may be empty are not bound then
    **dict.fromkeys(Policy.KEEPS, (0, MOST_POINTS)),
    "retention_days": (1, MOST_DAYS), "immutable_days": (0, MOST_DAYS), "required_copies": (1, 20),
    "verify_interval_hours": (1, 100_000), "restore_test_interval_days": (1, MOST_DAYS), "decode_every": (1, 10_000),
    "rpo_target_minutes": (1, MOST_MINUTES), "rto_target_minutes": (1, MOST_MINUTES), "max_attempts": (1, 20),
}  # fmt: skip
CHANGEABLE = tuple(field.name for field in Policy._meta.concrete_fields if field.name not in _FIXED)


def create(name: str, *, by: Actor, **fields: Any) -> Policy:
    """Add a policy; fields are the model's. Invalid names every wrong field, Refused when the name is taken."""
    policy = Policy(name=name)
    configured.lay_over(policy, fields, allowed=CHANGEABLE)
    _check(policy)
    with transaction.atomic():
        saving.write(policy)
        record("policy.create", policy, by=by, **fields)
    return policy


def update(policy: Policy, *, by: Actor, **changes: Any) -> Policy:
    """Change some fields; Invalid names every wrong one."""
    before = {name: getattr(policy, name) for name in changes if name in CHANGEABLE}
    configured.lay_over(policy, changes, allowed=CHANGEABLE)
    _check(policy)
    with transaction.atomic():
        saving.write(policy, changes)
        record("policy.update", policy, by=by, before=before, after=changes)
    return policy


def keep_days(days: int, *, by: Actor) -> Policy:
    """The policy “keep N days”, made when it is not there."""
    if days < 1:
        words = _("Backups are kept for at least one day.")
        raise Invalid(words, errors={"retention_days": _("This must be at least 1.")})
    name = f"keep {days} days" if days > 1 else "keep 1 day"
    known = Policy.objects.filter(name=name, retention_days=days).first()
    return known or create(name, by=by, retention_days=days)


def _check(policy: Policy) -> None:
    saving.checked(policy)
    if policy.retention_days == 0:
        sentence = _(
            "0 days would keep nothing; give at least 1, or leave it empty so that nothing expires by its age."
        )
        raise Invalid(sentence, errors={"retention_days": sentence})
    for name, (least, most) in BOUNDS.items():
        value = getattr(policy, name)
        if value is not None and not least <= value <= most:
            told = _("%(field)s must be from %(least)d to %(most)d; it is %(value)d.")
            sentence = told % {"field": name, "least": least, "most": most, "value": value}
            raise Invalid(sentence, errors={name: sentence})
