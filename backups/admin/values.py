"""Columns that are shown and not edited: sizes with their unit, mappings and lists as lines instead of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from django.contrib import admin
from django.db import models
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from aihub_backup.core import showing


@cache
def in_words(field: models.Field[Any, Any]) -> Any:
    """The column's name, or where the admin would show raw numbers or JSON a function of the row that shows words: the
    same one each time, because Django compares them."""
    if isinstance(field, models.JSONField):
        return _shower(field, lines)
    return _shower(field, showing.size) if field.name.endswith("_bytes") else field.name


def lines(value: Any) -> SafeString:
    """A mapping as name = value, a list as one each, a line each."""
    return format_html_join("", '<div class="mono">{}</div>', ((line,) for line in _lines(value)))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (f"{name} = {showing.plain(one)}" for name, one in value.items())
    elif isinstance(value, list):
        yield from map(showing.plain, value)
    else:
        yield showing.plain(value)


def _shower(field: models.Field[Any, Any], shown: Any) -> Any:
    def told(row: Any) -> Any:
        return shown(getattr(row, field.name))

    told.__name__ = field.name
    return admin.display(description=field.verbose_name)(told)
