"""Lists of the admin that stay quick however long their tables grow.

Django counts, groups and skips through whole tables: for the days above a list, for the choices of a filter, for a page
far behind. Here every one of them walks an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.filters import FieldListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db import connection, models
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.views import ChangeList as UnfoldList

if TYPE_CHECKING:
    _ChangeList = ChangeList
else:
    _ChangeList = UnfoldList


FEW = 1_000  # rows that a search shows: who looks for a needle reads no twenty pages, and says more of it


def _is_year(value: Any) -> bool:
    return str(value).isdecimal() and 1 <= int(str(value)[:6]) <= 9999


class LongList(_ChangeList):
    """A page far behind finds its ids in an index first, and reads the rows of these only. A search looks through the
    table once, in the order of the list, and ends where it has found enough: it counts what it shows, not all there is.
    """

    queryset: models.QuerySet[Any]
    found: models.QuerySet[Any, Any]  # keys of what a search shows, read

    def get_filters(self, request: HttpRequest) -> Any:
        """Of an address that somebody wrote: a year that no calendar has is a wrong filter, no error of ours."""
        for name, values in self.filter_params.items():
            if name.endswith("__year") and not all(_is_year(value) for value in values):
                raise IncorrectLookupParameters(name)
        return super().get_filters(request)

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> models.QuerySet[Any]:
        """What is listed; of a search what it shows, so that a deed on “all” of them is done to these."""
        rows = super().get_queryset(request, exclude_parameters)
        if not self.query or exclude_parameters:  # counts beside a filter tell of all there is
            return rows
        self.found = rows.values_list("pk", flat=True)[:FEW]
        return self._whole_rows(list(self.found)).order_by(*rows.query.order_by)

    def get_results(self, request: HttpRequest) -> None:
        """The rows of this page."""
        rows = self.queryset
        if self.query:
            self.queryset = self.found  # is counted and cut as it was read
        super().get_results(request)
        self.queryset = rows
        if self.query or (self.multi_page and self.page_num > 1):
            keys = self._keys()
            found = {row.pk: row for row in self._whole_rows(keys)}
            self.result_list = [found[key] for key in keys if key in found]
        if self.query and self.result_count == FEW:
            messages.info(request, _("These are the first %(count)d; there may be more.") % {"count": FEW})

    def _keys(self) -> list[Any]:
        """Of this page."""
        if not self.query:
            return list(self.result_list.values_list("pk", flat=True))
        return list(self.result_list if self.multi_page and not self.show_all else self.found)

    def _whole_rows(self, keys: list[Any]) -> models.QuerySet[Any]:
        """These, with all that the page shows. The keys were found within the person's reach, which is not asked again:
        of a viewer's rows it costs as much as finding them."""
        rows = self.model._default_manager.filter(pk__in=keys)
        return self.apply_select_related(self.model_admin.whole(rows))  # type: ignore[attr-defined]


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
        self.values = values(model, field.column)

    def expected_parameters(self) -> list[str | None]:
        """The column itself."""
        return [self.lookup_kwarg]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """All, then one after the other."""
        yield {
            "selected": self.lookup_val is None, "display": gettext_lazy("All"),
            "query_string": changelist.get_query_string(remove=[self.lookup_kwarg]),
        }  # fmt: skip
        for value in self.values:
            yield {
                "selected": self.lookup_val is not None and value in self.lookup_val, "display": value,
                "query_string": changelist.get_query_string({self.lookup_kwarg: value}),
            }  # fmt: skip


def values(model: type[models.Model], column: str) -> list[str]:
    """Each value of a column that leads an index, once, sorted. Neither database jumps by itself for DISTINCT; a
    recursion from each value to the next greater one does."""
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
