"""Going on in the stage of a restore that was killed: what stands there is proved, not believed.

A kill leaves files that are whole, files that are not, and after a power cut files of the right size that hold zeros.
The snapshot tells the SHA-256 of every small file and of every unit of a large one: nothing is fetched to know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from backups.engine import tree
from backups.engine.content import WHOLE, units
from backups.engine.entry import Entry, Kind
from backups.engine.errors import EngineError
from backups.engine.extract import DirectoryWriter
from backups.engine.filling import FileWriter, Identity
from backups.engine.workers import Pool

BATCH_FILES, BATCH_BYTES = 512, 32 << 20
PIECE = 1 << 20  # bytes read at once

Load = Callable[[bytes], bytes]  # a blob by its id


class Partial(NamedTuple):
    """A large file that is not whole: which one it is, and the offsets of its units that are."""

    identity: Identity
    units: frozenset[int]


def prove_all(pool: Pool, writer: DirectoryWriter, entries: Iterable[Entry]) -> dict[bytes, Partial]:
    """Let the workers prove all files that stand in the stage. What stands there when this returns is whole, or told
    by its path: large files of which a part is right."""
    found: dict[bytes, Partial] = {}
    batch: list[Entry] = []
    size = 0

    def take(result: dict[str, Any]) -> None:
        for path, identity, offsets in result["partial"]:
            found[path] = Partial(Identity(*identity), frozenset(offsets))

    def submit() -> None:
        pool.submit(["kept", tree.encode_entries(batch)], take)

    for entry in entries:
        if entry.kind is Kind.FILE and writer.stands(entry):
            batch.append(entry)
            size += entry.size
            if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
                submit()
                batch, size = [], 0
    if batch:
        submit()
    pool.flush()
    return found


def keep(writer: DirectoryWriter, load: Load, entry: Entry) -> list[Any] | None:
    """Finish a file that is whole, remove one of which nothing is right; else a row of [path, identity, offsets].

    load: for the content pages of large files
    """
    file = writer.open_kept(entry)
    if file is None:
        return None
    try:
        proved, whole = _proved(file, load, entry)
    except EngineError:  # of a damaged page: told when the file is restored
        proved, whole = [], False
    except BaseException:
        file.abort()
        raise
    if whole:
        file.finish()
    elif proved:
        return [entry.path, list(file.leave()), proved]
    else:
        file.abort()
    return None


def _proved(file: FileWriter, load: Load, entry: Entry) -> tuple[list[int], bool]:
    """Offsets of the units that are right, and whether all of it is. What is no unit has to be a hole.

    An empty file, or one big hole, costs nothing to make anew.
    """
    content = entry.content
    if not content:
        return [], False
    if isinstance(content, bytes) and len(content) == WHOLE:
        return [], sha256_of(file, 0, entry.size) == content[32:]
    proved, position, complete = list[int](), 0, True
    for unit in units(content, entry.size, load):
        if not file.is_hole(position, unit.offset):
            return [], False
        if sha256_of(file, unit.offset, unit.length) == unit.sha256:
            proved.append(unit.offset)
        else:
            complete = False
        position = unit.offset + unit.length
    return (proved, complete) if file.is_hole(position, entry.size) else ([], False)


def sha256_of(file: FileWriter, offset: int, length: int) -> bytes:
    """Of what stands in a stretch of a file; of less where the file ends before."""
    digest = hashlib.sha256()
    for piece in pieces_of(file, offset, length):
        digest.update(piece)
    return digest.digest()


def pieces_of(file: FileWriter, offset: int, length: int) -> Iterator[bytes]:
    """What stands there, a MiB at a time."""
    end = offset + length
    while offset < end:
        piece = file.read_at(offset, min(PIECE, end - offset))
        if not piece:
            return
        yield piece
        offset += len(piece)
