"""Rows of a document. What is there already is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import models, transaction

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.provisioning import kits, making
from aihub_backup.provisioning.making import Outcome
from aihub_backup.provisioning.wishes import Data, Objectives, Place, Wishes
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Repository, RepositoryState, Source, Storage
from backups.services import configured, placing, storages
from backups.services.saving import free_name
from disaster.models import DRConfig


def told(wishes: Wishes, *, by: Actor, kit: str) -> Outcome:
    """What `make` would make, leave and refuse on this console as it is now: the same deeds, taken back at the end.
    Nobody is reached, so that a place that does not answer is not known yet."""
    with transaction.atomic():
        outcome = _done(wishes, _Errand(by, kit, wishes.waive_kit, rehearsed=True))
        transaction.set_rollback(True)
    return outcome


def make(wishes: Wishes, *, by: Actor, kit: str) -> Outcome:
    """Make it all, one by one; what is refused is told and stops nothing else."""
    return _done(wishes, _Errand(by, kit, wishes.waive_kit))


@dataclass(frozen=True)
class _Errand:
    """For whom, where the recovery kit goes, and whether it is only rehearsed."""

    by: Actor
    kit: str
    waive: bool
    rehearsed: bool = False
    outcome: Outcome = field(default_factory=Outcome)


def _done(wishes: Wishes, errand: _Errand) -> Outcome:
    outcome = errand.outcome
    outcome.refused += wishes.refusals
    repository = None
    if wishes.place:
        with outcome.telling():
            repository = _place(wishes.place, errand)
    for one in wishes.data:
        with outcome.telling():
            _data(one, errand, repository)
    if wishes.objectives:
        with outcome.telling():
            _targets(wishes.objectives, errand)
    return outcome


def _place(wish: Place, errand: _Errand) -> Repository:
    """Both or none; the repository. The kit's file is looked at first: it is what fails most often."""
    plain, _ = configured.values(STORAGES, wish.kind, wish.options)
    storage = Storage.objects.filter(kind=wish.kind, options=plain).first()
    repository = Repository.objects.exclude(state=RepositoryState.CREATING).filter(storage=storage).first()
    if storage is None or repository is None:
        kits.must_be_new(errand.kit)
    if storage is None:
        storage = making.place(wish, errand.outcome, by=errand.by, test=not errand.rehearsed)
        with _taken_back_with(storage, errand):
            return _repository(storage, repository, errand)
    errand.outcome.there.append(_there(storage))
    return _repository(storage, repository, errand)


@contextmanager
def _taken_back_with(storage: Storage, errand: _Errand) -> Iterator[None]:
    """A storage that was made for a repository which then could not be made goes too."""
    told = len(errand.outcome.made)
    try:
        yield
    except Failure:
        if storages.take_back(storage, by=errand.by):
            del errand.outcome.made[told - 1 :]
        raise


def _repository(storage: Storage, there: Repository | None, errand: _Errand) -> Repository:
    if there is not None:
        errand.outcome.there.append(_there(there))
        return there
    if not errand.rehearsed:
        return making.repository(storage, errand.outcome, by=errand.by, kit=errand.kit, waive=errand.waive)
    errand.outcome.made.append(f"a repository in the storage “{storage}”; its recovery kit is {errand.kit}")
    # A row without anything on a disk, so that sources are judged against it; it is taken back with all the rest.
    name = free_name(Repository, kits.NAME)
    return Repository.objects.create(name=name, storage=storage, state=RepositoryState.OK)


def _data(wish: Data, errand: _Errand, repository: Repository | None) -> None:
    plain, _ = configured.values(STRATEGIES, wish.kind, wish.options)
    if there := Source.objects.filter(kind=wish.kind, options=plain).first():
        errand.outcome.there.append(_there(there))
    else:
        making.data(wish, errand.outcome, by=errand.by, test=not errand.rehearsed, repository=repository)


def _targets(wish: Objectives, errand: _Errand) -> None:
    if there := DRConfig.objects.filter(environment=placing.environment(None)).first():
        errand.outcome.there.append(_there(there))
    else:
        making.targets(wish, errand.outcome, by=errand.by)


def _there(row: models.Model) -> str:
    return f"the {row._meta.verbose_name} “{row}” is there already and stays as it is"
