"""`core.showing` for templates."""

from __future__ import annotations

from typing import Any

from django.template import Library
from django.utils.safestring import SafeString

from aihub_backup.core import retelling, showing

register = Library()

register.filter("state", showing.state)
register.filter("badge", showing.badge)
register.filter("tone", showing.tone)
register.filter("size", showing.size)
register.filter("moment", showing.moment)
register.filter("duration", showing.duration)
register.filter("bar", showing.bar)
register.filter("plain", showing.plain)
register.filter("deed", retelling.deed)
register.filter("reason", retelling.reason)
register.filter("retold_target", retelling.target)


@register.filter
def who(event: Any) -> str:
    """Who did it."""
    return retelling.actor(event.actor_kind, event.actor_name)


@register.filter
def took(row: Any) -> SafeString | str:
    """How long the row's work took, or takes so far."""
    return showing.span(row.started_at, row.finished_at)
