"""`aihub source kinds`, `aihub storage kinds`: what there is to add, and the options of each kind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from aihub_backup.cli import output
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import verb
from aihub_backup.core.failures import Failure
from aihub_backup.core.plugins import PluginTable


def add_verb(verbs: Any) -> None:
    """“kinds [KIND]”."""
    verb(verbs, "kinds", "every kind and its options").add_argument("kind", nargs="?", help="this one only")


def show(options: argparse.Namespace, table: PluginTable[Any]) -> int:
    """One kind, or all. NotFound when there is no such kind."""
    if options.kind:
        found = {options.kind: _facts(table, options.kind)}
    else:
        found = {kind: _facts_or_why_not(table, kind) for kind in table.kinds()}
    if options.json:
        output.result_json(found)
    else:
        output.result("\n\n".join("\n".join(_lines(kind, facts)) for kind, facts in found.items()))
    return Exit.OK


def _facts(table: PluginTable[Any], kind: str) -> dict[str, Any]:
    return {"label": str(table.label(kind)), "about": str(table.about(kind)), "options": table.schema(kind)}


def _facts_or_why_not(table: PluginTable[Any], kind: str) -> dict[str, Any]:
    """One plug-in that does not load hides none of the others."""
    try:
        return _facts(table, kind)
    except Failure as failure:
        return {"label": str(table.label(kind)), "about": str(failure), "options": {"properties": {}, "required": []}}


def _lines(kind: str, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{kind}: {facts['label']}. {facts['about']}"
    required = facts["options"]["required"]
    rows = [(f"  {name}", _need(name in required, told), _words(told)) for name, told in _options(facts)]
    yield output.table(("  option", "default", ""), rows)


def _options(facts: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(facts["options"]["properties"].items())


def _need(required: bool, told: Mapping[str, Any]) -> str:
    """What happens when it is left out."""
    if required:
        return "required"
    return "" if told.get("default") in (None, "", [], {}) else json.dumps(told["default"], ensure_ascii=False)


def _words(told: Mapping[str, Any]) -> str:
    choices = f"One of {', '.join(map(str, told['enum']))}." if "enum" in told else ""
    remarks = (
        "Give it with --secret-file." if told.get("writeOnly") else "",
        "Repeat --option for each." if told.get("type") == "array" else "",
    )
    return " ".join(filter(None, (f"{told['title']}.", told.get("description", ""), choices, *remarks)))
