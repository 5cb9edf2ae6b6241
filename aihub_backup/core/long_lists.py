"""Lists of the admin that stay quick however long their tables grow.

Django counts, groups and skips through whole tables: for the days above a list, for the choices of a filter, for a page
far behind. Here every one of them walks an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.filters import FieldListFilter
from django.contrib.admin.views.main import ChangeList
from django.db import connection, models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.views import ChangeList as UnfoldList

if TYPE_CHECKING:
    _ChangeList = ChangeList
else:
    _ChangeList = UnfoldList


class LongList(_ChangeList):
    """A page far behind finds its ids in an index first, and reads the rows of these only."""

    def get_results(self, request: HttpRequest) -> None:
        """The rows of this page."""
        super().get_results(request)
        if self.multi_page and self.page_num > 1:
            keys = list(self.result_list.values_list("pk", flat=True))
            rows = {row.pk: row for row in self._whole_rows(keys)}
            self.result_list = [rows[key] for key in keys if key in rows]

    def _whole_rows(self, keys: list[Any]) -> models.QuerySet[Any]:
        """These, with all that the page's own queryset lays beside them."""
        return self.apply_select_related(self.root_queryset.filter(pk__in=keys))


class ValuesFilter(FieldListFilter):
    """The values of a column without choices, each found by a jump in the column's index; nothing else is read.

    Whoever sees the list sees them all, wherever they occur: only for words of the program (queues, actions), no names.
    """

    def __init__(
        self, field: Any, request: HttpRequest, params: dict[str, list[str]], model: type[models.Model],
        model_admin: admin.ModelAdmin[Any], field_path: str,
    ) -> None:  # fmt: skip
        self.lookup_kwarg = field_path
        self.lookup_val = params.get(field_path)  # the base class takes it out of the parameters
        super().__init__(field, request, params, model, model_admin, field_path)
        self.values = list(_values(model, field.column))

    def expected_parameters(self) -> list[str | None]:
        """The column itself."""
        return [self.lookup_kwarg]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """All, then one after the other."""
        yield {
            "selected": self.lookup_val is None, "display": _("All"),
            "query_string": changelist.get_query_string(remove=[self.lookup_kwarg]),
        }  # fmt: skip
        for value in self.values:
            yield {
                "selected": self.lookup_val is not None and value in self.lookup_val, "display": value,
                "query_string": changelist.get_query_string({self.lookup_kwarg: value}),
            }  # fmt: skip


def _values(model: type[models.Model], column: str) -> list[str]:
    """Neither database jumps by itself for DISTINCT; a recursion from each value to the next greater one does."""
    quote = connection.ops.quote_name
    name, table = quote(column), quote(model._meta.db_table)
    sql = (  # only names of our own columns go in
        f"WITH RECURSIVE found(value) AS (SELECT MIN({name}) FROM {table} UNION ALL"  # noqa: S608
        f" SELECT (SELECT MIN({name}) FROM {table} WHERE {name} > found.value) FROM found"
        " WHERE found.value IS NOT NULL)"
        " SELECT value FROM found WHERE value IS NOT NULL"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [value for (value,) in cursor.fetchall()]
