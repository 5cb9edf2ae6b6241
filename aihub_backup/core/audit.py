"""Write down who did what, in the transaction of the deed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import override

from aihub_backup.core.models import AuditEvent
from aihub_backup.core.redaction import masked_facts
from aihub_backup.core.requests import request_id

_SECRET_WORDS = (
    "password", "passwd", "passphrase", "secret", "token", "credential", "private_key", "access_key", "recovery_code",
)  # fmt: skip


class Actor(NamedTuple):
    """Who acts: kind is user | token | schedule | system | cli."""

    user_id: str | None
    name: str
    kind: str

    @classmethod
    def of(cls, user: Any) -> Actor:
        """The signed-in person."""
        return cls(str(user.pk), user.get_username(), "user")


SYSTEM = Actor(None, "system", "system")


def record(action: str, target: models.Model, *, by: Actor | None, **facts: object) -> AuditEvent:
    """Add the event "who did `action` to `target`", with JSON-able facts (secrets are masked).

    Call it inside `transaction.atomic()` together with the change: otherwise RuntimeError, because a deed without its
    event, or an event without its deed, would be a lie.
    """
    using = AuditEvent.objects.db
    if not transaction.get_connection(using).in_atomic_block:
        raise RuntimeError("audit.record() belongs inside the transaction of the change it records.")
    who = by or SYSTEM
    return AuditEvent.objects.create(
        at=timezone.now(), action=action, actor_kind=who.kind, actor_id=who.user_id or "", actor_name=who.name[:200],
        target_type=target._meta.label_lower, target_id=_id(target), target_name=_name(target),
        environment=_environment(target), facts=_clean(facts), request_id=request_id(),
    )  # fmt: skip


def _id(target: models.Model) -> str:
    """The id that the API tells: a token's key is the digest of its secret, and its id is another column."""
    return str(getattr(target, "id", None) or target.pk)


def _name(target: models.Model) -> str:
    """In the console's own language, whoever reads it at the moment: the log is compared, searched and exported."""
    with override(settings.LANGUAGE_CODE):
        return str(target)[:255]


def _environment(target: models.Model) -> Any:
    if target._meta.label_lower == "core.environment":
        return target.pk
    return getattr(target, "environment_id", None)


def _clean(facts: Mapping[str, object]) -> dict[str, object]:
    return masked_facts(facts, _names_a_secret)


def _names_a_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)
