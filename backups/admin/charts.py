"""Small drawings, made on the server: nothing to load, and a text beside each for those who do not see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups.services.strips import Cell

WIDTH, HEIGHT, GAP = 5, 18, 1  # pixels of a cell
WORDS = {
    "ok": gettext_lazy("ok"), "warning": gettext_lazy("warnings"), "failed": gettext_lazy("failed"),
    "missed": gettext_lazy("missed"), "none": gettext_lazy("nothing ran"),
}  # fmt: skip


def strip(cells: Sequence[Cell]) -> SafeString:
    """One cell a day, oldest left; low cells are bad days, so that colour is not all that tells them."""
    words = {state: escape(str(word)) for state, word in WORDS.items()}  # once a strip, not a cell: a page has 1,500
    drawn = "".join([_drawn(at, cell, words[cell.state]) for at, cell in enumerate(cells)])
    width = len(cells) * (WIDTH + GAP)
    return format_html(
        '<svg class="strip" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>',
        width, HEIGHT, width, HEIGHT, _summary(cells), mark_safe(drawn),  # noqa: S308  # our words, escaped
    )  # fmt: skip


def dots(states: Sequence[tuple[str, str]]) -> SafeString:
    """(tone, words) of the newest ones, newest right."""
    return format_html_join("", '<span class="dot dot-{}" title="{}"></span>', reversed(states))


def _drawn(at: int, cell: Cell, word: str) -> str:
    low = cell.state in ("failed", "missed")
    height = 4 if cell.state == "none" else HEIGHT // 2 if low else HEIGHT
    place = f'x="{at * (WIDTH + GAP)}" y="{HEIGHT - height}" width="{WIDTH}" height="{height}"'
    return f'<rect class="cell-{cell.state}" {place}><title>{cell.day.isoformat()} {word}</title></rect>'


def _summary(cells: Sequence[Cell]) -> str:
    counted = Counter(cell.state for cell in cells)
    told = ", ".join(f"{counted[state]} {word}" for state, word in WORDS.items() if counted[state])
    return _("%(days)d days: %(told)s") % {"days": len(cells), "told": told}
