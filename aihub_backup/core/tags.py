"""Questions about JSON mappings of names to texts, for every database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connection
from django.db.models import BooleanField, F, Func, Q, Value
from django.db.models.sql.compiler import SQLCompiler


def has(field: str, name: str, value: str | None = None) -> Q:
    """Rows whose mapping holds the name, with the value if one is given."""
    if connection.vendor == "sqlite":
        return Q(HasTag(F(field), name, value))
    return Q(**{f"{field}__has_key": name}) if value is None else Q(**{f"{field}__contains": {name: value}})


def carry(field: str, tags: Mapping[str, str]) -> Q:
    """Rows whose mapping holds all of these."""
    found = Q(pk__isnull=False)
    for name, value in tags.items():
        found &= has(field, name, value)
    return found


class HasTag(Func):
    """Does a JSON mapping hold the name, with the value if one is given? Only for SQLite, whose JSON paths cannot
    spell every name: dots, quotes and digits mean something else in them."""

    output_field = BooleanField()

    def __init__(self, tags: F, name: str, value: str | None) -> None:
        super().__init__(tags, Value(name), *([] if value is None else [Value(value)]))

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **_context: Any) -> Any:
        """A look at every member."""
        compiled = [compiler.compile(expression) for expression in self.get_source_expressions()]
        also = " AND tag.value = %s" if len(compiled) > 2 else ""
        sql = f"EXISTS (SELECT 1 FROM json_each({compiled[0][0]}) AS tag WHERE tag.key = %s{also})"  # noqa: S608  # only a column's name goes in
        return sql, [parameter for _sql, parameters in compiled for parameter in parameters]
