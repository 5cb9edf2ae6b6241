"""Rows from wishes, through the services. Each deed is told in a sentence; what is refused stops nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aihub_backup.core.audit import Actor
from aihub_backup.core.commands import typed
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.provisioning import kits
from aihub_backup.provisioning.wishes import Data, Objectives, Place, Rhythm
from backups.models import BackupType, OwnProtection, Repository, Schedule, Source, Storage
from backups.services import console, placing, repositories, schedules, sources, storages
from backups.services.saving import free_name
from disaster.models import DRConfig
from disaster.services import objectives


@dataclass
class Outcome:
    """What was made, what was there and stays, what was not made and why, what should be mended soon; where the
    recovery kit lies ("" = none was made)."""

    made: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    kit_file: str = ""

    @contextmanager
    def telling(self) -> Iterator[None]:
        """A failure inside becomes a sentence."""
        try:
            yield
        except Failure as failure:
            self.refused.append(failure.message)


def place(wish: Place, outcome: Outcome, *, by: Actor, test: bool = True) -> Storage:
    """The storage; with `test` made ready and probed."""
    made = storages.create(free_name(Storage, "primary"), wish.kind, wish.options, by=by, test=test)
    outcome.made.append(f"the storage “{made}”: {storages.place(made)}")
    return made


def repository(
    storage: Storage, outcome: Outcome, *, by: Actor, kit: str, waive: bool, cure: str = kits.CHOSEN
) -> Repository:
    """A repository in the storage. Its kit goes to the new file `kit`; Refused before anything is made if it cannot
    (`cure`: what helps where the file is there already)."""
    with kits.new_file(kit, cure) as file:
        made = repositories.create(free_name(Repository, kits.NAME), storage, by=by, waive_kit=waive)
        why = kits.written(file, made.text)
    if why:
        raise Refused(f"The recovery kit of “{made.repository}” could not be written to {kit}: {why}.")
    outcome.kit_file = kit
    outcome.made.append(f"the repository “{made.repository}”; its recovery kit is {kit}: print it, keep it elsewhere")
    if not waive:
        outcome.made.append(
            f"no backup yet: prove first that the kit is kept, with {typed('repository', 'prove', made.repository)}"
        )
    return made.repository


def own(repository: Repository, outcome: Outcome, *, by: Actor) -> OwnProtection:
    """The console's own database as a source, its keys sealed beside it; its first backup is asked for at once."""
    made = console.protect(repository, by=by)
    outcome.made.append(f"the source “{made.source}”, the console's own database; its keys are sealed beside it")
    return made


def data(wish: Data, outcome: Outcome, *, by: Actor, test: bool = True, repository: Repository | None = None) -> Source:
    """The source; with `test` after a look at it. repository: where its backups go; None: to the only one."""
    name = free_name(Source, wish.name)
    made = sources.create(name, wish.kind, wish.options, by=by, test=test, repository=repository)
    outcome.made.append(f"the source “{made}” ({made.kind})")
    return made


def rhythm(wish: Rhythm, outcome: Outcome, *, by: Actor) -> Schedule:
    """Everything, at these times."""
    made = schedules.create(
        free_name(Schedule, "everything"), BackupType.FULL, wish.cron_expression, by=by,
        retention_days=wish.retention_days,
    )  # fmt: skip
    outcome.made.append(f"the schedule “{made}” ({made.cron_expression} UTC), kept for {wish.retention_days} days")
    return made


def targets(wish: Objectives, outcome: Outcome, *, by: Actor) -> DRConfig:
    """The environment's objectives."""
    made = objectives.create(placing.environment(None), by=by, **vars(wish))
    outcome.made.append(f"the objectives of {made}; monitoring and automatic recovery are stored, not acted on yet")
    return made
