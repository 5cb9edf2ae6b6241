"""How pages show states, moments, sizes and progress: always a word beside the colour, always the unit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from aihub_backup.core import sizes

NOTHING = "–"
MOST = 99  # percent: the last one belongs to the stored end

_TONES = {
    "good": ("completed", "passed", "ok", "run", "protected"),
    "warn": ("completed_with_warnings", "warning", "rolled_back", "awaiting_approval", "due"),
    "bad": ("failed", "error", "partial", "missed", "tampered", "taken_over", "rollback_failed", "rejected",
            "critical"),
    "busy": ("queued", "running", "committing", "cancelling", "deleting", "creating", "preparing", "restoring",
             "validating", "rolling_back"),
}  # fmt: skip
TONE_OF = {state: tone for tone, states in _TONES.items() for state in states}
_SIGNS = {"good": "check_circle", "warn": "warning", "bad": "error", "busy": "progress_activity", "idle": "circle"}


def tone(state: str) -> str:
    """good, warn, bad, busy or idle."""
    return TONE_OF.get(state, "idle")


def badge(state: str, words: object) -> SafeString:
    """A state as sign and word in its colour."""
    return _drawn(tone(state), str(words))


@lru_cache(maxsize=1_000, typed=True)  # lists draw the same few again and again; a safe text is no plain one
def _drawn(kind: str, words: str) -> SafeString:
    return format_html(
        '<span class="badge {}"><span class="material-symbols-outlined" aria-hidden="true">{}</span>{}</span>',
        f"badge-{kind}", _SIGNS[kind], words,
    )  # fmt: skip


def state(row: Any) -> SafeString:
    """The badge of a row that has a `state` with choices."""
    return badge(row.state, state_words(row))


def state_words(row: Any) -> str:
    """Its state in the reader's language. Django would put all choices into words, each time, to find one."""
    return _words(row._meta.get_field("state"), row.state, get_language())


@lru_cache(maxsize=1_000)
def _words(field: models.Field[Any, Any], state: str, _language: str | None) -> str:
    return str(dict(field.flatchoices).get(state, state))


def size(count: object) -> str:
    """Bytes for people, as the command line writes them; a dash where nobody knows them."""
    return sizes.in_words(count) if isinstance(count, int | float) else NOTHING


def moment(at: datetime | None) -> SafeString | str:
    """The time with its zone, then how long ago or until: the reader's clock may be another one."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    return format_html(
        '<span class="keep">{}</span><span class="aside">{}</span>', f"{local:%Y-%m-%d %H:%M %Z}", relative(at)
    )


def plain(value: object) -> str:
    """What a fact of an event says, without the marks of a programming language."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={plain(one)}" for name, one in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or NOTHING
    return str(value)


def relative(at: datetime | None) -> str:
    """“5 minutes ago”, or “in 5 minutes”; nothing for what has not come yet."""
    if at is None:
        return ""
    now = timezone.now()
    if at > now:
        return _("in %(time)s") % {"time": timeuntil(at, now, depth=1)}
    if now - at < timedelta(minutes=1):
        return _("just now")
    return _("%(time)s ago") % {"time": timesince(at, now, depth=1)}


def span(begun: datetime | None, ended: datetime | None) -> str:
    """How long it took, or takes so far: “1 h 02 min”, “41 s”."""
    if begun is None:
        return NOTHING
    return duration(((ended or timezone.now()) - begun).total_seconds())


def duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return _("%(hours)d h %(minutes)02d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)02d s") % {"minutes": minutes, "seconds": whole % 60}
    return _("%(seconds)d s") % {"seconds": whole}


def percent(progress: Mapping[str, Any]) -> int | None:
    """0 to 99; None while nobody knows the whole."""
    ratio = progress.get("ratio")
    return None if ratio is None else min(MOST, int(100 * ratio))


def bar(progress: Mapping[str, Any], words: object) -> SafeString:
    """How far work is, as a bar; an endless one while the whole is not known."""
    share = percent(progress)
    if share is None:
        return format_html(
            '<span class="bar bar-unknown" role="progressbar" aria-label="{}"><span></span></span>'
            '<span class="aside">{}</span>', words, words,
        )  # fmt: skip
    return format_html(
        '<span class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{}"'
        ' aria-label="{}"><span style="width:{}%"></span></span><span class="aside">{} %, {}</span>',
        share, words, share, share, words,
    )  # fmt: skip
