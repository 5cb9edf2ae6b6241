"""What every strategy promises: how one kind of source is read, and how it is judged when it is back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict, TypeVar

from backups.engine.disk import Report
from backups.engine.entry import Entry

OptionsT = TypeVar("OptionsT")


class Finding(TypedDict):
    """One thing that was looked at after a restore: what, whether it is as it was, and a sentence."""

    check: str
    passed: bool
    detail: str


class Strategy(ABC, Generic[OptionsT]):
    """How one kind of source is captured and judged after a restore. Knows tools and files; knows no models.

    kind     the word that is stored, for ever
    family   which of the four strategies people ask for it belongs to: database, files, redis, config, logs
    Options  a frozen dataclass of what the source needs (see aihub_backup.core.options)

    workdir is an empty, private directory that lives as long as the run: what capture() lays down there must stay,
    because entries are read after they were handed out. Everything raises SourceError with a sentence and the cure.
    """

    kind: ClassVar[str]
    family: ClassVar[str]
    Options: ClassVar[type[Any]]

    def __init__(self, options: OptionsT, workdir: Path) -> None:
        self.options, self.workdir = options, workdir

    @abstractmethod
    def check(self) -> None:
        """Silence, or SourceError: the source cannot be read as it is now. Changes nothing."""

    @abstractmethod
    def capture(self, report: Report) -> Iterator[Entry]:
        """The source as entries in depth-first byte order; what is odd about single items goes to report."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a restore has to know, as plain JSON values and without secrets. Complete after capture().

        roots        what was read, as absolute paths
        base         the directory that becomes the target's own in a restore
        consistency  application: the program's own consistent view; snapshot; crash: as after a power cut;
                     fuzzy: every file by itself
        tools        version by name of what has read it
        """

    @classmethod
    def covers(cls, options: OptionsT, place: Path) -> bool:
        """Would a run read this directory of the host? Backups that are kept there would then back themselves up."""
        return False

    @classmethod
    def restore_base(cls, facts: Mapping[str, Any]) -> bytes:
        """The subtree of the snapshot that becomes the target's root."""
        return str(facts.get("base", "")).encode().strip(b"/")

    @classmethod
    def validate(cls, target: str, facts: Mapping[str, Any]) -> Sequence[Finding]:
        """Look at what was restored to target, the place of restore_base(). Every byte has been compared already."""
        return []
