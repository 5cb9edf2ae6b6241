"""The cells of a list in the admin, as unfold draws them. What is the same in every row is made once.

unfold makes all headers anew for each row, to take the names of the columns from them: half of the time of a page.
Lists that are edited in place are left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote as encoded

from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import lookup_field, quote
from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.urls import NoReverseMatch
from django.utils.html import conditional_escape, escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from unfold.templatetags.unfold_list import CHECKBOX_CLASSES, LINK_CLASSES, ROW_CLASSES
from unfold.utils import display_for_field, display_for_value

Cell = Callable[[Any], str]  # from a row to HTML
CHECKBOX = "action_checkbox"
_SOME_ROW = "the-row"


def rows(changelist: Any, headers: Sequence[dict[str, Any]]) -> Iterator[SafeString]:
    """The cells of each row of the page, in one piece of HTML. `headers` are unfold's, one for each column."""
    found = list(changelist.result_list)
    cells = _cells(changelist, headers, found[0]) if found else []
    for row in found:
        yield mark_safe("".join([cell(row) for cell in cells]))  # noqa: S308  # each cell has escaped its value


def _cells(changelist: Any, headers: Sequence[dict[str, Any]], sample: Any) -> list[Cell]:
    made, linked = list[Cell](), False
    for at, name in enumerate(changelist.list_display):
        links = _links(changelist, name, first=not linked)
        tag = "th" if links and not linked else "td"
        linked = linked or links
        text = headers[at]["text"] if at or links else _("Select record")
        shown = _shown(changelist, name, sample)
        if links:
            shown = _linking(changelist, shown)
        made.append(_framed(tag, _classes(changelist.model, name), text, shown))
    return made


def _links(changelist: Any, name: Any, *, first: bool) -> bool:
    """Does the column lead to the row's page?"""
    names = changelist.list_display_links
    return names is not None and ((first and not names) or name in names)


def _framed(tag: str, classes: str, text: Any, shown: Cell) -> Cell:
    begin = format_html('<{} class="{}" data-label="{}">', tag, classes, text)
    end = f"</{tag}>"
    return lambda row: f"{begin}{shown(row)}{end}"


def _classes(model: type[models.Model], name: Any) -> str:
    if name == CHECKBOX:
        return " ".join(CHECKBOX_CLASSES)
    field = model._meta.get_field(name) if name in _fields(model) else None
    keep = ["nowrap"] if isinstance(field, models.DateField | models.TimeField | models.ForeignKey) else []
    return " ".join([f"field-{getattr(name, '__name__', name)}", *ROW_CLASSES, *keep])


def _fields(model: type[models.Model]) -> set[str]:
    return {field.name for field in model._meta.fields}


# --- what a cell shows ------------------------------------------------------------------------------------------------


def _shown(changelist: Any, name: Any, sample: Any) -> Cell:
    """The value of a column as HTML; a dash where a row that it leads to is not there."""
    admin = changelist.model_admin
    if name == CHECKBOX:
        return _ticked(admin)
    nothing = admin.get_empty_value_display()
    stored = name in _fields(changelist.model)
    told = _of_a_field(name, sample, nothing) if stored else _of_a_method(admin, name, sample)

    def shown(row: Any) -> str:
        try:
            return conditional_escape(told(row))
        except ObjectDoesNotExist:
            return conditional_escape(nothing)

    return shown


def _ticked(admin: Any) -> Cell:
    """The box that is ticked for an action: drawn once, with another value in every row."""
    before, value, after = admin.action_checkbox(SimpleNamespace(pk=_SOME_ROW)).partition(_SOME_ROW)
    assert value, "the box does not tell its row"
    return lambda row: f"{before}{escape(row.pk)}{after}"


def _of_a_field(name: str, sample: Any, nothing: str) -> Callable[[Any], Any]:
    field: Any = sample._meta.get_field(name)

    def of_value(value: Any) -> Any:
        return display_for_field(value, field, nothing)

    if isinstance(field, models.ForeignKey):
        return lambda row: nothing if (found := getattr(row, name)) is None else str(found)
    few = field.choices or isinstance(field, models.BooleanField)  # what shows them is drawn once a page, not a row
    told: Callable[[Any], Any] = cache(of_value) if few else of_value
    return lambda row: told(getattr(row, name))


def _of_a_method(admin: Any, name: Any, sample: Any) -> Callable[[Any], Any]:
    """Of what the admin or the model computes."""
    attribute = lookup_field(name, sample, admin)[1]
    nothing = getattr(attribute, "empty_value_display", admin.get_empty_value_display())
    boolean = bool(getattr(attribute, "boolean", False))
    own = name if callable(name) else getattr(admin, name, None) if name != "__str__" else None

    def told(row: Any) -> Any:
        value = own(row) if own else lookup_field(name, row, admin)[2]
        return value if isinstance(value, str) and not boolean else display_for_value(value, nothing, boolean)

    return told


# --- the way to the row's page ----------------------------------------------------------------------------------------


def _linking(changelist: Any, shown: Cell) -> Cell:
    """The same inside a link, which keeps the filters of the list."""
    try:
        before, after = _address(changelist)
    except NoReverseMatch:  # the rows have no page
        return shown
    classes, key = " ".join(LINK_CLASSES), changelist.pk_attname

    def linked(row: Any) -> str:
        address = f"{before}{encoded(str(quote(getattr(row, key))))}{after}"
        return f'<a href="{address}" class="{classes}" {_opener(changelist, row)}>{shown(row)}</a>'

    return linked


def _address(changelist: Any) -> tuple[str, str]:
    """Of every row's page what stands before and behind the row's key."""
    page = changelist.url_for_result(SimpleNamespace(**{changelist.pk_attname: _SOME_ROW}))
    facts = {"preserved_filters": changelist.preserved_filters, "opts": changelist.opts}
    before, key, after = str(add_preserved_filters(facts, page)).partition(_SOME_ROW)
    assert key, "the address does not tell its row"
    return escape(before), escape(after)


def _opener(changelist: Any, row: Any) -> str:
    """In a window that was opened to choose a row: what is chosen."""
    if not changelist.is_popup:
        return ""
    chosen = str(changelist.to_field) if changelist.to_field else changelist.lookup_opts.pk.attname
    return format_html(' data-popup-opener="{}"', row.serializable_value(chosen))
