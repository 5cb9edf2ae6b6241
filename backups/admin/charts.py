"""Small drawings, made on the server: nothing to load, and a text beside each for those who do not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
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
    shape = '<rect class="cell-{}" x="{}" y="{}" width="{}" height="{}"><title>{} {}</title></rect>'
    drawn = format_html_join("", shape, (_drawn(at, cell) for at, cell in enumerate(cells)))
    width = len(cells) * (WIDTH + GAP)
    return format_html(
        '<svg class="strip" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>',
        width, HEIGHT, width, HEIGHT, _summary(cells), drawn,
    )  # fmt: skip


def dots(states: Sequence[tuple[str, str]]) -> SafeString:
    """(tone, words) of the newest ones, newest right."""
    return format_html_join("", '<span class="dot dot-{}" title="{}"></span>', reversed(states))


def _drawn(at: int, cell: Cell) -> tuple[object, ...]:
    low = cell.state in ("none", "failed", "missed")
    height = 4 if cell.state == "none" else HEIGHT // 2 if low else HEIGHT
    x, y = at * (WIDTH + GAP), HEIGHT - height
    return cell.state, x, y, WIDTH, height, cell.day.isoformat(), WORDS[cell.state]


def _summary(cells: Sequence[Cell]) -> str:
    counted: Mapping[str, int] = {state: sum(cell.state == state for cell in cells) for state in WORDS}
    told = ", ".join(f"{count} {WORDS[state]}" for state, count in counted.items() if count)
    return _("%(days)d days: %(told)s") % {"days": len(cells), "told": told}
