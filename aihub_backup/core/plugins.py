"""Tables of plug-ins: kind → label and dotted path, imported on first use. No Django: every room may read them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from aihub_backup.core import options as option_values
from aihub_backup.core.failures import Failure, NotFound

P = TypeVar("P")
Row = tuple[str, str] | tuple[str, str, str]


class PluginTable(Generic[P]):
    """The kinds of one thing ("storage", "strategy", …). A row is: kind → (label, dotted path of the class), and as a
    third member, where somebody wrote it, one sentence for those who choose.

    Third parties add kinds by entry points of the group `aihub_backup.<noun>s` ("s3x = their.module:Class"); a kind of
    our own always wins over a foreign one of the same name.
    """

    def __init__(self, noun: str, rows: Mapping[str, Row]) -> None:
        self.noun = noun
        self._own = dict(rows)

    @property
    def group(self) -> str:
        """The entry-point group that third parties use."""
        plural = f"{self.noun[:-1]}ies" if self.noun.endswith("y") else f"{self.noun}s"
        return f"aihub_backup.{plural}"

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group) if point.name not in self._own}

    def __contains__(self, kind: object) -> bool:
        return kind in self._own or kind in self._foreign

    def kinds(self) -> list[str]:
        """Every kind, our own first, in table order."""
        return [*self._own, *sorted(self._foreign)]

    def choices(self) -> list[tuple[str, str]]:
        """(kind, label) for forms; imports nothing."""
        return [(kind, self.label(kind)) for kind in self.kinds()]

    def label(self, kind: str) -> str:
        """The kind in a person's words; the bare kind where nobody knows it (a plug-in that was removed)."""
        return self._own[kind][0] if kind in self._own else kind.replace("_", " ").capitalize()

    def about(self, kind: str) -> str:
        """One sentence for whoever chooses among the kinds; "" where nobody wrote one. Imports nothing."""
        return self._own[kind][-1] if len(self._own.get(kind, ())) > 2 else ""

    def load(self, kind: str) -> type[P]:
        """The plug-in's class. Failure when the kind is unknown or its module cannot be imported."""
        try:
            return self._import(kind)
        except (ImportError, AttributeError) as error:
            raise Failure(
                f"The {self.noun} kind “{kind}” cannot be loaded: {error}."
                " Install what it needs or choose another kind.",
                code="plugin-broken",
            ) from error

    def options(self, kind: str, values: Mapping[str, object]) -> Any:
        """The kind's validated Options instance; OptionsError with a sentence for each wrong field."""
        return option_values.parse(self.options_class(kind), values)

    def options_class(self, kind: str) -> type[Any]:
        """The dataclass that describes the kind's options."""
        plugin: Any = self.load(kind)
        return cast(type[Any], plugin.Options)

    def schema(self, kind: str) -> dict[str, Any]:
        """JSON Schema of the kind's options, secrets write-only."""
        return option_values.schema(self.options_class(kind))

    def _import(self, kind: str) -> type[P]:
        if kind in self._own:
            return cast(type[P], resolve(self._own[kind][1]))
        if kind in self._foreign:
            return cast(type[P], self._foreign[kind].load())
        known = ", ".join(self.kinds()) or "none"
        raise NotFound(f"There is no {self.noun} kind “{kind}”. Known kinds: {known}.")


def resolve(path: str) -> Any:
    """Import "package.module.Name" or "package.module:Name"."""
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return getattr(import_module(module), name)
