"""Rows of a document. What is there already is left as it is."""

from __future__ import annotations

from django.db import models

from aihub_backup.core.audit import Actor
from aihub_backup.provisioning import making
from aihub_backup.provisioning.making import Outcome
from aihub_backup.provisioning.wishes import Data, Objectives, Place, Wishes
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Repository, RepositoryState, Source, Storage
from backups.services import configured, placing
from disaster.models import DRConfig


def told(wishes: Wishes) -> list[str]:
    """What would be made, in sentences; nothing is asked, nobody is reached."""
    found = [f"a storage of the kind {wishes.place.kind}, with a repository"] if wishes.place else []
    found += [f"a source “{one.name}” of the kind {one.kind}" for one in wishes.data]
    if wishes.objectives:
        found.append(f"objectives: RPO {wishes.objectives.rpo_minutes} min, RTO {wishes.objectives.rto_minutes} min")
    return found


def make(wishes: Wishes, *, by: Actor, kit: str) -> Outcome:
    """Make it all, one by one; what is refused is told and stops nothing else."""
    outcome = Outcome(refused=list(wishes.refusals))
    if wishes.place:
        with outcome.telling():
            _place(wishes.place, outcome, by, kit, wishes.waive_kit)
    for one in wishes.data:
        with outcome.telling():
            _data(one, outcome, by)
    if wishes.objectives:
        with outcome.telling():
            _targets(wishes.objectives, outcome, by)
    return outcome


def _place(wish: Place, outcome: Outcome, by: Actor, kit: str, waive: bool) -> None:
    plain, _ = configured.values(STORAGES, wish.kind, wish.options)
    storage = Storage.objects.filter(kind=wish.kind, options=plain).first()
    if storage is None:
        storage = making.place(wish, outcome, by=by)
    else:
        outcome.made.append(_there(storage))
    if there := Repository.objects.exclude(state=RepositoryState.CREATING).filter(storage=storage).first():
        outcome.made.append(_there(there))
    else:
        making.repository(storage, outcome, by=by, kit=kit, waive=waive)


def _data(wish: Data, outcome: Outcome, by: Actor) -> None:
    plain, _ = configured.values(STRATEGIES, wish.kind, wish.options)
    if there := Source.objects.filter(kind=wish.kind, options=plain).first():
        outcome.made.append(_there(there))
    else:
        making.data(wish, outcome, by=by)


def _targets(wish: Objectives, outcome: Outcome, by: Actor) -> None:
    if there := DRConfig.objects.filter(environment=placing.environment(None)).first():
        outcome.made.append(_there(there))
    else:
        making.targets(wish, outcome, by=by)


def _there(row: models.Model) -> str:
    return f"the {row._meta.verbose_name} “{row}” is there already and stays as it is"
