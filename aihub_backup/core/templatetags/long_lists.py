"""What templates of lists may call: the rows, and the days above them.

The days come from the calendar, since the first row: Django would group the whole table for them.
"""

from __future__ import annotations

import calendar
from datetime import date
from typing import Any

from django.db.models import Min
from django.template import Context, Library
from django.utils import formats, timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from unfold.templatetags.unfold_list import result_headers

from aihub_backup.core import list_cells

register = Library()


@register.inclusion_tag("aihub/rows.html", takes_context=True)
def result_rows(context: Context, changelist: Any) -> dict[str, Any]:
    """The table of a list."""
    headers = list(result_headers(changelist))
    return {
        "cl": changelist, "result_headers": headers, "rows": list(list_cells.rows(changelist, headers)),
        "num_sorted_fields": sum(bool(one["sortable"] and one["sorted"]) for one in headers),
        "has_add_permission": changelist.model_admin.has_add_permission(context["request"]),
    }  # fmt: skip


@register.inclusion_tag("admin/date_hierarchy.html")
def days(changelist: Any) -> dict[str, Any]:
    """Years and months; of a year its months; of a month its days; and the way back."""
    field = changelist.date_hierarchy
    year, month, day = (_number(changelist.params.get(f"{field}__{step}")) for step in ("year", "month", "day"))
    if not _real(year, month or 1, day or 1):
        return _told(changelist, None, _recent(_first(changelist)))
    if not month:
        return _told(changelist, (_("All dates"), {}), [_month(year, one) for one in range(1, 13)])
    if not day:
        last = calendar.monthrange(year, month)[1]
        return _told(changelist, (str(year), {"year": year}), [_day(year, month, one) for one in range(1, last + 1)])
    return _told(changelist, _month(year, month), [(_day(year, month, day)[0], None)])


Choice = tuple[str, dict[str, int] | None]


def _first(changelist: Any) -> date:
    """The day of the oldest row there is, one jump in an index. Of rows out of reach it tells no more than this."""
    oldest = changelist.model._base_manager.aggregate(oldest=Min(changelist.date_hierarchy))["oldest"]
    return timezone.localdate(oldest) if oldest else timezone.localdate()


def _recent(first: date) -> list[Choice]:
    """The earlier years, and the months of this one."""
    today = timezone.localdate()
    years: list[Choice] = [(str(year), {"year": year}) for year in range(first.year, today.year)]
    begin = first.month if first.year == today.year else 1
    return [*years, *(_month(today.year, month) for month in range(begin, today.month + 1))]


def _month(year: int, month: int) -> Choice:
    name = formats.date_format(date(year, month, 1), "YEAR_MONTH_FORMAT")
    return capfirst(name), {"year": year, "month": month}


def _day(year: int, month: int, day: int) -> Choice:
    name = formats.date_format(date(year, month, day), "MONTH_DAY_FORMAT")
    return capfirst(name), {"year": year, "month": month, "day": day}


def _told(changelist: Any, back: Choice | None, choices: list[Choice]) -> dict[str, Any]:
    field = changelist.date_hierarchy

    def link(steps: dict[str, int] | None) -> str | None:
        if steps is None:
            return None
        wanted = {f"{field}__{name}": str(value) for name, value in steps.items()}
        return str(changelist.get_query_string(wanted, [f"{field}__"]))

    told = [{"title": title, "link": link(steps)} for title, steps in choices]
    return {"show": True, "back": back and {"title": back[0], "link": link(back[1])}, "choices": told}


def _real(year: int, month: int, day: int) -> bool:
    try:
        return bool(date(year, month, day))
    except ValueError:
        return False


def _number(text: Any) -> int:
    return int(text) if str(text or "").isdecimal() else 0
