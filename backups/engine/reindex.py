"""Index objects that take the place of others."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from backups.engine import format as fmt
from backups.engine.errors import ObjectDamaged, ObjectMissing
from backups.engine.index import read_index, seal_table
from backups.engine.repository import Repository
from backups.engine.segment import frame_type
from backups.engine.table import PACK, Rows, Table, by_id

BLOBS_AT_ONCE = 1 << 18  # rows of an index object written here; bounds the memory, about 60 MB


def supersede(repository: Repository, gone: set[bytes], stale: Collection[str] = ()) -> list[str]:
    """Write index objects for the packs beside these (SHA-256) of all index objects that name one of them; the names of
    those whose place they take.

    stale  index objects that are written anew also when they name none of these, as soon as no pack that they name
           stays under an older master key: until then each pack that goes brings it about
    """
    old: list[str] = []

    def tables() -> Iterator[Table]:
        for name, table in _objects(repository):
            if not gone.isdisjoint(_digests(table)) or (name in stale and not _outdated(table, repository.ring.epoch)):
                old.append(name)
                yield _part(table, lambda pack: pack not in gone)

    _write_all(repository, tables())
    return old


def _outdated(table: Table, newest: int) -> bool:
    """Does it name a pack under an older master key?"""
    return any(epoch < newest for _, _, epoch, _, _ in PACK.iter_unpack(table.packs))


def outdated_index(repository: Repository) -> list[str]:
    """Names of the index objects under an older master key than the one in use. Reads the head of each, once there has
    been a second key."""
    newest = repository.ring.epoch
    names = [info.name for info in repository.store.list("index/")] if min(repository.ring.masters) < newest else []
    return [name for name in names if (epoch := _epoch_of(repository, name)) is not None and epoch < newest]


def _epoch_of(repository: Repository, name: str) -> int | None:
    """None: it is gone, or is none; a check tells."""
    try:
        magic, _, _, epoch, *_ = fmt.HEADER.unpack(repository.store.get(name, 0, fmt.HEADER.size))
    except (ObjectMissing, ObjectDamaged, struct.error):
        return None
    return int(epoch) if magic == fmt.MAGIC else None


def describe(repository: Repository, packs: Collection[bytes], told: Collection[str]) -> None:
    """Write index objects for these packs alone, from what these index objects tell of them."""
    found = (table for name, table in _objects(repository) if name in told)
    _write_all(repository, (_part(table, packs.__contains__) for table in found))


def _objects(repository: Repository) -> Iterator[tuple[str, Table]]:
    for info in repository.store.list("index/"):
        try:
            data = repository.store.get(info.name)
        except ObjectMissing:
            continue
        if not fmt.name_matches(info.name, data):
            raise ObjectDamaged(info.name, "its SHA-256 is not its name")
        yield info.name, read_index(repository.sealer, info.name, data)


def _write_all(repository: Repository, tables: Iterable[Table]) -> None:
    waiting: list[Table] = []
    for table in tables:
        waiting.append(table)
        if sum(len(one.rows.ids) for one in waiting) >= BLOBS_AT_ONCE:
            _write(repository, waiting)
            waiting = []
    _write(repository, waiting)


def _write(repository: Repository, tables: list[Table]) -> None:
    if any(table.packs for table in tables):
        data = seal_table(repository.sealer, _joined(tables))
        repository.store.put(fmt.index_name(fmt.sha256(data)), data)


def _joined(tables: Sequence[Table]) -> Table:
    """One table of several; packs and frames are numbered anew."""
    import numpy as np

    packs, frames, rows = b"", b"", list[Rows]()
    for table in tables:
        moved = np.frombuffer(table.frames, frame_type()).copy()
        moved["pack"] += len(packs) // PACK.size
        shift = np.uint32(len(frames) // frame_type().itemsize)
        rows.append(table.rows._replace(frame=table.rows.frame + shift))
        packs, frames = packs + table.packs, frames + moved.tobytes()
    columns = zip(*rows, strict=True)
    return Table(packs, frames, by_id(Rows(*map(np.concatenate, columns))))


def _part(table: Table, wanted: Callable[[bytes], bool]) -> Table:
    """The wanted packs of a table, with frames and packs numbered anew."""
    import numpy as np

    chosen = np.array([wanted(digest) for digest in _digests(table)], bool)
    frames = np.frombuffer(table.frames, frame_type())
    stays = chosen[frames["pack"]]
    kept = frames[stays].copy()
    kept["pack"] = (np.cumsum(chosen) - 1)[kept["pack"]]
    rows = table.rows.pick(stays[table.rows.frame])
    rows = rows._replace(frame=(np.cumsum(stays) - 1)[rows.frame].astype("<u4"))
    packs = np.frombuffer(table.packs, f"V{PACK.size}")[chosen]
    return Table(packs.tobytes(), kept.tobytes(), rows)


def _digests(table: Table) -> list[bytes]:
    """SHA-256 of its packs, by their numbers."""
    return [row[0] for row in PACK.iter_unpack(table.packs)]
