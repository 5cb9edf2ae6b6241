"""Options of plug-ins in bodies and answers: the schema comes from the plug-in, secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from aihub_backup.core.api.bodies import Choice
from aihub_backup.core.failures import Failure
from aihub_backup.core.options import OptionsError
from aihub_backup.core.plugins import PluginTable
from aihub_backup.core.problems import FieldError, InvalidRequest, escaped

if TYPE_CHECKING:
    from drf_spectacular.openapi import AutoSchema
    from drf_spectacular.utils import Direction


class PluginOptions(serializers.Field[dict[str, Any], Any, dict[str, Any], Any]):
    """A mapping; which members it has depends on the kind. The service validates it."""

    def __init__(self, table: PluginTable[Any], **options: Any) -> None:
        super().__init__(**options)
        self.table = table

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The mapping as it is."""
        if not isinstance(data, Mapping):
            raise ValidationError("This must be an object: a mapping of the kind's options to values.")
        return dict(data)

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        """The mapping as it is; secrets are not in it."""
        return value


class Kind(Choice):
    """A kind of the table; third parties may have added some."""

    def __init__(self, table: PluginTable[Any], **options: Any) -> None:
        super().__init__(choices=table.choices(), **options)
        self.table = table

    def to_internal_value(self, data: Any) -> str:
        """The word."""
        if not isinstance(data, str) or data not in self.table:
            self.fail("invalid_choice", input=str(data)[:100], known=", ".join(self.table.kinds()))
        return data


def at_options(error: OptionsError) -> InvalidRequest:
    """The plug-in's complaints, each at its place in the body."""
    return InvalidRequest([
        FieldError(f"/options/{escaped(name)}" if name else "/options", "invalid", sentence)
        for name, sentence in error.errors.items()
    ])  # fmt: skip


class PluginOptionsSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # registers itself
    """One object schema for each kind that can be loaded."""

    target_class = PluginOptions

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, Any]:
        """anyOf the kinds, because what fits depends on the member beside it; answers leave the secrets out."""
        return {"anyOf": [_schema(self.target.table, kind, direction) for kind in _loadable(self.target.table)]}


def _loadable(table: PluginTable[Any]) -> list[str]:
    return [kind for kind in table.kinds() if _loads(table, kind)]


def _loads(table: PluginTable[Any], kind: str) -> bool:
    try:
        table.options_class(kind)
    except Failure:
        return False
    return True


def _schema(table: PluginTable[Any], kind: str, direction: Direction) -> dict[str, Any]:
    found = {**table.schema(kind), "title": f"{table.noun} {kind}", "description": table.label(kind)}
    if direction == "response":
        shown = {name: one for name, one in found["properties"].items() if not one.get("writeOnly")}
        found |= {"properties": shown, "required": [name for name in found["required"] if name in shown]}
    return found
