"""A recovery into a new database beside the one it was taken of: on the source's own server, under a name of its own.

It is the same road as to a directory. The recovery point's files come into a private directory, the strategy builds a
database from them under a working name, everything is looked at, and the last step gives it the name it shall have.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.jobs import Lease
from backups.kinds import STRATEGIES
from backups.models import BackupPart, Source
from backups.services import sources
from backups.services.running import perform, workdir
from backups.strategies.base import DatabaseStrategy
from recovery.models import Recovery
from recovery.services import stages
from recovery.services.running import Run, Share

ROOM = 1.05  # of the files' size has to be free where they are laid down
PATIENCE = 120.0  # seconds a server gets for a question, or for giving a database its name

log = logging.getLogger(__name__)


# --- asking for it --------------------------------------------------------------------------------------------------


def possible(kind: str) -> bool:
    """Can sources of this kind come back as a new database? False also for a kind that does not load here."""
    try:
        return issubclass(STRATEGIES.load(kind), DatabaseStrategy)
    except Failure:
        return False


def judged(name: str, parts: Sequence[BackupPart], *, selected: bool) -> str:
    """Where the new database will be, for people. Refused, Invalid; what only the server knows is asked later."""
    if len(parts) != 1:
        words = "A new database is made of one part; name it (type “partial”, parts) or take a source."
        raise Invalid(words, errors={"parts": words})
    if selected:
        words = "A database comes back whole; leave include and exclude out and choose among its tables afterwards."
        raise Invalid(words, errors={"include": words})
    source = parts[0].source
    plugin = STRATEGIES.load(source.kind)
    if not issubclass(plugin, DatabaseStrategy):
        words = f"The source “{source}” is of kind “{source.kind}”, which has no server to make a new database on."
        raise Refused(f"{words} Recover to a new place.", code="target-incompatible", facts={"pointer": "/target/kind"})
    if wrong := plugin.name_error(name):
        words = f"The new database cannot be called that. {wrong}"
        raise Refused(words, code="target-incompatible", facts={"pointer": "/target/database"})
    return plugin.address(STRATEGIES.options(source.kind, {**source.options, **source.secrets}), name)


# --- carrying it out ------------------------------------------------------------------------------------------------


class DatabaseRun(Run):
    """One attempt."""

    SHARES: ClassVar[int] = 2  # reading the files out of the repository, and building the database from them

    def __init__(self, recovery: Recovery, lease: Lease) -> None:
        super().__init__(recovery, lease)
        self._source: Source = self.parts[0].part.source
        self._files, self._built, self._named = "", list[dict[str, Any]](), False

    @contextlib.contextmanager
    def stage(self) -> Iterator[None]:
        """A private directory for the files and a working name on the server; what an attempt before has left goes."""
        recovery = self.recovery
        discard(recovery)
        recovery.stage = f"aihub_{recovery.pk.hex}_{self.lease.epoch}"
        recovery.tree_inode = ""
        recovery.save(update_fields=["stage", "tree_inode"])
        with workdir(str(recovery.pk)) as self._files:
            found = os.stat(self._files)
            self.place = stages.Stage(self._files, found.st_dev, found.st_ino)
            try:
                yield
            finally:
                if not self._named:
                    with contextlib.suppress(Failure):  # told when the recovery has ended, and tried again there
                        discard(recovery)

    def prepare(self) -> None:
        """The points, the server, and room for the files."""
        super().prepare()
        part, recovery = self.parts[0].part, self.recovery
        free, needed = shutil.disk_usage(self._files).free, int((part.size_bytes or 0) * ROOM)
        if free < needed:
            words = f"The files of the recovery point need {needed} bytes in {self._files}, where {free} are free."
            raise Refused(f"{words} Make room on that disk.", code="target-incompatible")
        asked = {"name": recovery.target_database, "facts": part.facts, "make_roles": recovery.make_roles}
        _ask(recovery, "database_judge", **asked)

    def restore(self) -> None:
        """The files, and the database made of them."""
        super().restore()
        with workdir(f"build-{self.recovery.pk}") as place:
            job = {
                "job": "database_build", "source": sources.strategy_spec(self._source), "workdir": place,
                "build_as": self.recovery.stage, "directory": self._place(self.parts[0]),
                "facts": self.parts[0].part.facts, "make_roles": self.recovery.make_roles,
            }  # fmt: skip
            result = perform(job, lease=Share(self.lease, 1, self.SHARES, self._source.name))
        self._known_as = str(result["known_as"])
        self._built = [{"part": self._source.name, **finding} for finding in result["findings"]]

    def findings(self) -> list[dict[str, Any]]:
        """Of the files, and of the database."""
        return super().findings() + self._built

    def publish(self) -> None:
        """The point of no return: the name, then the rows."""
        self.lease.commit_guard()
        Recovery.objects.filter(pk=self.recovery.pk, stage=self.recovery.stage).update(tree_inode=self._known_as)
        _ask(self.recovery, "database_rename", build_as=self.recovery.stage, name=self.recovery.target_database)
        self._named = True
        self.close()

    def _place(self, part: Any) -> bytes:
        return os.fsencode(os.path.join(self._files, "tree"))


# --- afterwards -----------------------------------------------------------------------------------------------------


def named(recovery: Recovery) -> bool:
    """Was the last step done by somebody who then had no time to write it down? Another database there is not ours."""
    if not recovery.tree_inode:
        return False
    found = _ask(recovery, "database_called", known_as=recovery.tree_inode)
    return bool(found["name"] == recovery.target_database)


def discard(recovery: Recovery) -> None:
    """Drop what was built so far. Failure when the server cannot be asked."""
    if recovery.stage:
        _ask(recovery, "database_discard", build_as=recovery.stage)


def sweep(recovery: Recovery) -> bool:
    """The same after the end; False when something may have stayed."""
    try:
        discard(recovery)
    except Failure as failure:
        log.warning("the database %s could not be dropped: %s", recovery.stage, failure.message)
        return False
    return True


def _ask(recovery: Recovery, deed: str, **more: Any) -> dict[str, Any]:
    """A short piece of work on the server."""
    part = recovery.parts.select_related("part__source").get()
    with workdir(f"ask-{recovery.pk}") as place:
        job = {"job": deed, "source": sources.strategy_spec(part.part.source), "workdir": place, **more}
        return perform(job, patience=PATIENCE)
