"""A source that holds the place its own backups go to would back those up too: each run more than the one before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aihub_backup.core.failures import Refused
from aihub_backup.core.options import OptionsError
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Repository, RepositoryState, Source, Storage
from backups.strategies.base import followed, is_same


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


def covers(source: Source, place: Path, *, directory: bool = True) -> bool:
    """Would a run of the source come to this place of its host, a directory or (False) a file?"""
    options = _options(source)
    return options is not None and bool(STRATEGIES.load(source.kind).covers(options, place, directory=directory))


def begins_in(source: Source, place: Path) -> bool:
    """Does it name this place of its host, or something inside it, under whatever name?"""
    found = [followed(root) for root in roots(source)]
    return any(is_same(above, place) for root in found for above in (root, *root.parents))


def roots(source: Source) -> Sequence[Path]:
    """The paths of its host that it names."""
    options = _options(source)
    return [] if options is None else STRATEGIES.load(source.kind).roots(options)


def _options(source: Source) -> Any:
    """None of what another version has stored: the run tells what is wrong, and reads nothing."""
    try:
        return STRATEGIES.options(source.kind, {**source.options, **source.secrets})
    except OptionsError:
        return None


def _directory(storage: Storage) -> Path | None:
    backend = STORAGES.load(storage.kind)
    if not backend.bound_to_node:
        return None
    path = backend.store_options(STORAGES.options(storage.kind, {**storage.options, **storage.secrets})).get("path")
    return Path(path) if path else None
