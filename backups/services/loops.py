"""A source that holds the place its own backups go to would back those up too: each run more than the one before."""

from __future__ import annotations

from pathlib import Path

from aihub_backup.core.failures import Refused
from aihub_backup.core.options import OptionsError
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Repository, RepositoryState, Source, Storage


def refuse(source: Source, repository: Repository | None) -> None:
    """Refused (“source-not-ready”) when a run of the source would read the directory the repository is in."""
    if repository is None:
        return
    place = _directory(repository.storage)
    if place is None or not covers(source, place):
        return
    raise Refused(
        f"The source “{source}” holds {place}, where its own backups are kept (storage “{repository.storage}”): each"
        " run would back up those before it. Leave that directory out, or choose a repository elsewhere.",
        code="source-not-ready",
    )


def expected(source: Source) -> Repository | None:
    """Where its backups go when nobody says otherwise; None when that is not known yet."""
    if source.repository is not None:
        return source.repository
    found = list(Repository.objects.exclude(state=RepositoryState.RETIRED).select_related("storage")[:2])
    return found[0] if len(found) == 1 else None


def covers(source: Source, place: Path) -> bool:
    """Would a run of the source read this place of its host?"""
    strategy = STRATEGIES.load(source.kind)
    try:
        options = STRATEGIES.options(source.kind, {**source.options, **source.secrets})
    except OptionsError:  # stored by another version: the run tells what is wrong, and reads nothing
        return False
    return bool(strategy.covers(options, place))


def _directory(storage: Storage) -> Path | None:
    backend = STORAGES.load(storage.kind)
    if not backend.bound_to_node:
        return None
    path = backend.store_options(STORAGES.options(storage.kind, {**storage.options, **storage.secrets})).get("path")
    return Path(path) if path else None
