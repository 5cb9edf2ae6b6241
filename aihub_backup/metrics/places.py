"""What is told of each storage, and of each repository."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from uuid import UUID

from aihub_backup.core.failures import Refused
from aihub_backup.metrics.family import Family, Labels, gauge
from aihub_backup.metrics.settled import Counted
from backups.models import Repository, Storage
from backups.services import placing, repositories, usage

NAMES = ("storage", "site")


def families(past: Iterable[Counted]) -> Iterator[Family]:
    """All of them."""
    places = list(Storage.objects.select_related("site", "node", "repository"))
    rows = [place for place in places if place.enabled]
    used = _used(places, past)
    yield gauge(
        "aihub_storage_used_bytes", "Bytes of packs: as compaction measured them last, and what was added since", NAMES,
        ((_labels(row), used.get(row.pk, 0)) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_storage_capacity_bytes", "Used bytes and the room that is left (0 = unlimited)", NAMES,
        ((_labels(row), _capacity(row, used.get(row.pk, 0))) for row in rows),
    )  # fmt: skip
    yield gauge(
        "aihub_storage_up", "The last test reached it", NAMES,
        ((_labels(row), float(not row.test_error)) for row in rows if row.tested_at),
    )  # fmt: skip
    yield gauge(
        "aihub_repository_writable", "Backups may go into it (0 = they are refused)", ("repository",),
        (((row.name,), _writable(row)) for row in _in_use(places)),
    )  # fmt: skip


def _used(places: Iterable[Storage], past: Iterable[Counted]) -> dict[UUID, int]:
    """By storage."""
    sums: Counter[str] = Counter()
    for row in past:
        sums[row.repository] += row.added
    kept = ((place.pk, getattr(place, "repository", None)) for place in places)
    return {key: usage.filled(row, sums[row.pk.hex]) for key, row in kept if row is not None}


def _in_use(places: Iterable[Storage]) -> list[Repository]:
    """The repositories in them; they came with them, and know them, so that none costs a query."""
    found = [getattr(place, "repository", None) for place in places]
    return [row for row in found if row is not None and row.state in repositories.IN_USE]


def _writable(row: Repository) -> float:
    try:
        repositories.must_be_writable(row)
    except Refused:
        return 0.0
    return 1.0


def _capacity(storage: Storage, used: int) -> float:
    free = _free_here(storage) if storage.kind == "local" and placing.here(storage.node) else None
    free = storage.capabilities.get("free_bytes") if free is None else free
    return 0 if free is None else used + free


def _free_here(storage: Storage) -> int | None:
    """The room of a directory of this host, now; None when it is not there."""
    try:
        return shutil.disk_usage(storage.options["path"]).free
    except OSError:
        return None


def _labels(row: Storage) -> Labels:
    return row.name, row.site.name if row.site else ""
