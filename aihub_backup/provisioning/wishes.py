"""What a configuration from outside asks for, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aihub_backup.core.options import OptionsError, parse, secret_names
from aihub_backup.core.plugins import PluginTable
from aihub_backup.core.redaction import Redacted, remember


@dataclass(frozen=True)
class Place:
    """A storage of a kind, with its options; secrets among them are not shown."""

    kind: str
    options: Redacted


@dataclass(frozen=True)
class Data:
    """A source: what it may be called, its kind, its options."""

    name: str
    kind: str
    options: Redacted


@dataclass(frozen=True)
class Rhythm:
    """When everything is backed up, and for how many days it is kept."""

    cron_expression: str
    retention_days: int


@dataclass(frozen=True)
class Objectives:
    """What may be lost and how long it may take, in minutes."""

    enabled: bool = True
    auto_recovery: bool = False
    rpo_minutes: int = 60
    rto_minutes: int = 240


@dataclass
class Wishes:
    """All that was understood. `refusals` are sentences about values that make no sense; `unknown` are names."""

    place: Place | None = None
    data: list[Data] = field(default_factory=list)
    rhythm: Rhythm | None = None
    objectives: Objectives | None = None
    waive_kit: bool = False  # accept backups though nobody has proved the recovery kit
    refusals: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def options(table: PluginTable[Any], kind: str, given: Mapping[str, object], names: Mapping[str, str]) -> Redacted:
    """The options, if the kind takes them. ValueError with a sentence for each wrong one, under its name outside."""
    declared = table.options_class(kind)
    remember(value for name, value in given.items() if name in secret_names(declared))
    try:
        parse(declared, given)
    except OptionsError as error:
        told = (f"{names.get(name, name)}: {sentence}" if name else sentence for name, sentence in error.errors.items())
        raise ValueError(" ".join(told)) from None
    return Redacted(given)


def known(table: PluginTable[Any], kind: str) -> frozenset[str]:
    """The names of the kind's options."""
    return frozenset(table.options_class(kind).__dataclass_fields__)
