"""What every strategy promises: how one kind of source is read, and how it is judged when it is back."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict, TypeVar

from backups.engine.disk import Report
from backups.engine.entry import Entry
from backups.engine.reserved import NOTHING, Reserved

OptionsT = TypeVar("OptionsT")


def is_same(one: Path, other: Path) -> bool:
    """Are both one file or directory of this host, under whatever names? What is not there is known by its path."""
    try:
        return one == other or one.samefile(other)
    except OSError:
        return False


def followed(path: str | Path) -> Path:
    """The path with its links resolved; as it is when one of them keeps from us where it leads (/proc/1/root)."""
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return Path(path)


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

    reserved: Reserved = NOTHING  # of this host's files: what a run leaves alone, whatever the options say

    def __init__(self, options: OptionsT, workdir: Path) -> None:
        self.options, self.workdir = options, workdir

    @abstractmethod
    def check(self) -> None:
        """Silence, or SourceError: the source cannot be read as it is now. Changes nothing."""

    def check_way_back(self) -> None:
        """Silence, or SourceError: what would keep a recovery out of where the data came from. Asked when a source is
        tried out, never before a backup: a way back that is barred today is no reason to back nothing up."""

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
    def roots(cls, options: OptionsT) -> Sequence[Path]:
        """The files and directories of the host that are named: a run reads them, whatever is left out."""
        return []

    @classmethod
    def covers(cls, options: OptionsT, place: Path, *, directory: bool = True) -> bool:
        """Would a run come to this place of the host, a directory or (False) a file, whether it is there yet or not?"""
        return False

    @classmethod
    def restore_base(cls, facts: Mapping[str, Any]) -> bytes:
        """The subtree of the snapshot that becomes the target's root."""
        return str(facts.get("base", "")).encode().strip(b"/")

    @classmethod
    def validate(cls, target: str, facts: Mapping[str, Any]) -> Sequence[Finding]:
        """Look at what was restored to target, the place of restore_base(). Every byte has been compared already."""
        return []


class DatabaseStrategy(Strategy[OptionsT]):
    """A kind that lives on a server, and also comes back there into a new database beside the one it was.

    It is built up under a working name, looked at, and only then given its own. Everything raises TargetError with a
    sentence and the cure. What was built is known by a word (`known_as`) that the server itself gave to it, so that
    it can be told after any interruption whether the last step was done.
    """

    @classmethod
    @abstractmethod
    def name_error(cls, name: str) -> str:
        """Why a new database cannot be called that, wherever it will be; "" when it can."""

    @classmethod
    @abstractmethod
    def address(cls, options: OptionsT, name: str) -> str:
        """Where a database of that name is, for people; without secrets."""

    @abstractmethod
    def judge(self, name: str, facts: Mapping[str, Any], *, make_roles: bool) -> None:
        """Silence, or what stands in the way on this server. Changes nothing; needs only what was told at the capture.

        make_roles  roles that are missing will be made, without the right to sign in; else they stand in the way
        """

    @abstractmethod
    def build(
        self,
        build_as: str,
        directory: str,
        facts: Mapping[str, Any],
        *,
        make_roles: bool,
        tick: Callable[[], None] = lambda: None,
    ) -> tuple[str, list[Finding]]:
        """(known_as, findings): a database of that working name, made of the recovery point's files in directory.

        What an attempt before this one has left under the working name goes first. `tick` is called now and then and
        may raise; then, and whenever this raises, nothing stays.
        """

    @abstractmethod
    def rename(self, build_as: str, name: str) -> None:
        """The last step: one transaction of the server, in which nobody else can take the name."""

    @abstractmethod
    def discard(self, build_as: str) -> None:
        """Drop what stands under the working name; silence when there is nothing. Roles that were made stay."""

    @abstractmethod
    def name_of(self, known_as: str) -> str:
        """What the database that was built is called now; "" when it is gone."""
