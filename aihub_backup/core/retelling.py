"""What was stored in the console's own language, told in the reader's. The log keeps its words: they are searched."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from aihub_backup.core.deeds import THINGS, VERBS

_PLACE = re.compile(r"%\((\w+)\)s")
_BACKUP, _RECOVERY = "backups.backup", "recovery.recovery"  # kinds of targets, as the audit stores them
_DATED = re.compile(r"(?P<type>[a-z]+) (?P<at>\d{4}-\d\d-\d\d \d\d:\d\d)")

REASONS = (gettext_noop("asked for on the command line"),)  # what a door says where nobody gives a reason


def retold(stored: str, *known: str) -> str:
    """The stored sentence in the reader's language, where it was made of one of the known ones; else as it is.

    known: msgids with named places, such as “The recovery point of %(at)s was chosen.”
    """
    for sentence in known:
        found = _shape(sentence).fullmatch(stored)
        if found:
            return _(sentence) % found.groupdict()
    return stored


def target(name: str, kind: str) -> str:
    """The name of what something was done to: of backups without a label, and of recoveries, it begins with a type.
    Names that people gave to other kinds of things may look the same, and stay."""
    dated = _DATED.fullmatch(name) if kind == _BACKUP else None
    if dated:
        return f"{_(dated['type'])} {dated['at']}"
    head, arrow, place = name.partition(" → ") if kind == _RECOVERY else ("", "", "")
    return f"{_(head)}{arrow}{place}" if arrow and head else name


def reason(words: str) -> str:
    """Why somebody did it: their own words, unless a door said it for them."""
    return retold(words, *REASONS)


def actor(kind: str, name: str) -> str:
    """Who did it: people and schedules have names, the console itself has a word."""
    return _("system") if kind == "system" and name == "system" else name


def deed(action: str) -> str:
    """“backup.request” in words: the thing, then what was done; "" where a word is not known."""
    thing = next((one for one in sorted(THINGS, key=len, reverse=True) if action.startswith(f"{one}.")), "")
    verb = VERBS.get(action[len(thing) + 1 :]) if thing else None
    return _("%(thing)s: %(deed)s") % {"thing": THINGS[thing], "deed": verb} if verb else ""


@lru_cache
def _shape(sentence: str) -> re.Pattern[str]:
    parts: list[Any] = _PLACE.split(sentence)
    texts, names = parts[::2], parts[1::2]
    groups = [f"(?P<{name}>.+?)" for name in names] + [""]
    return re.compile("".join(re.escape(text) + group for text, group in zip(texts, groups, strict=True)), re.DOTALL)
