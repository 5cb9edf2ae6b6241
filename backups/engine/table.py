"""Packs, frames and blobs in columns: what index objects hold, and what the local index is made of."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from importlib import import_module
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from backups.engine.envelope import Envelope, Section
from backups.engine.pack import PackInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.uint8]  # shape (n, 32)
    Column = NDArray[np.uint32]  # shape (n,)

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy only sorts and counts here; idle helpers would spin

PACK = struct.Struct("<32sB3xI32sQ")  # digest, type, key epoch, salt, size
FRAME = struct.Struct("<IIIIIBB2x")  # pack number, section number, offset, stored, raw, codec, kind


FEW = 8192  # blobs


class Location(NamedTuple):
    """Where one blob is and all that is needed to fetch and open its frame alone."""

    pack: bytes  # SHA-256 of the pack
    envelope: Envelope
    section: Section
    start: int  # of the blob inside the raw frame, bytes
    length: int

    @property
    def frame(self) -> tuple[bytes, int]:
        return self.pack, self.section.number


class PackFacts(NamedTuple):
    """What the index says of a pack as an object."""

    digest: bytes
    envelope: Envelope
    size: int


class Rows(NamedTuple):
    """Blobs, sorted by id: the number of the frame of each, where it begins in the raw frame, and its bytes."""

    ids: Ids
    frame: Column
    start: Column
    length: Column

    def pick(self, which: Any) -> Rows:
        """The rows of a slice, a mask or an order of numpy's."""
        return Rows(self.ids[which], self.frame[which], self.start[which], self.length[which])


class Table(NamedTuple):
    """One index object."""

    packs: bytes  # PACK rows, one after another
    frames: bytes  # FRAME rows
    rows: Rows


def table_of(packs: Sequence[PackInfo]) -> Table:
    """Everything about these packs."""
    import numpy as np

    pack_rows: list[bytes] = []
    frame_rows: list[bytes] = []
    columns: list[list[NDArray[np.generic]]] = [[], [], [], []]
    for number, pack in enumerate(packs):
        pack_rows.append(PACK.pack(pack.digest, pack.envelope.type, pack.envelope.epoch, pack.envelope.salt, pack.size))
        for frame in pack.frames:
            s = frame.section
            size = np.frombuffer(frame.lengths, "<u4")
            starts = (np.cumsum(size, dtype=np.uint64) - size).astype("<u4")
            ids = np.frombuffer(frame.ids, np.uint8).reshape(-1, 32)
            numbers = np.full(len(size), len(frame_rows), "<u4")
            for column, part in zip(columns, (ids, numbers, starts, size), strict=True):
                column.append(part)
            frame_rows.append(FRAME.pack(number, s.number, s.offset, s.stored, s.raw, s.codec, s.kind))
    joined: Any = map(np.concatenate, columns)
    rows = Rows(*joined) if columns[0] else no_rows()
    return Table(b"".join(pack_rows), b"".join(frame_rows), by_id(rows))


class Plain(NamedTuple):
    """A Table as the bytes that an index object holds."""

    packs: bytes
    frames: bytes
    columns: tuple[bytes, bytes, bytes, bytes]  # of Rows
    blobs: int


def load_numpy() -> threading.Thread:
    """Have it loaded, a tenth of a second, beside whatever else is done now. Who forks joins it first: a child would
    find its modules locked for ever."""
    thread = threading.Thread(target=import_module, args=("numpy",), name="numpy", daemon=True)
    thread.start()
    return thread


def plain_table_of(packs: Sequence[PackInfo]) -> Plain:
    """table_of() in bytes. A few blobs are sorted by hand: numpy takes longer to be loaded."""
    blobs = sum(len(frame.lengths) for pack in packs for frame in pack.frames) // 4
    if blobs <= FEW:
        return _by_hand(packs)
    table = table_of(packs)
    ids, frame, start, length = (column.tobytes() for column in table.rows)
    return Plain(table.packs, table.frames, (ids, frame, start, length), blobs)


def _by_hand(packs: Sequence[PackInfo]) -> Plain:
    pack_rows: list[bytes] = []
    frame_rows: list[bytes] = []
    rows: list[tuple[bytes, int, int, int]] = []
    for number, pack in enumerate(packs):
        pack_rows.append(PACK.pack(pack.digest, pack.envelope.type, pack.envelope.epoch, pack.envelope.salt, pack.size))
        for frame in pack.frames:
            start = 0
            for blob_id, length in frame.blobs():
                rows.append((blob_id, len(frame_rows), start, length))
                start += length
            s = frame.section
            frame_rows.append(FRAME.pack(number, s.number, s.offset, s.stored, s.raw, s.codec, s.kind))
    rows.sort(key=itemgetter(0))
    ids, *numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
    frames, starts, lengths = (struct.pack(f"<{len(rows)}I", *column) for column in numbers)
    return Plain(b"".join(pack_rows), b"".join(frame_rows), (b"".join(ids), frames, starts, lengths), len(rows))


def no_rows() -> Rows:
    """None."""
    import numpy as np

    empty = np.zeros(0, "<u4")
    return Rows(np.zeros((0, 32), np.uint8), empty, empty, empty)


def by_id(rows: Rows) -> Rows:
    """The same in the order of their ids. Eight bytes nearly always tell them apart; parts that are sorted already
    are merged in linear time."""
    import numpy as np

    words = np.ascontiguousarray(rows.ids).view(">u8").reshape(-1, 4)
    first = words[:, 0].astype(np.uint64)
    order = np.argsort(first, kind="stable")
    ordered = first[order]
    if np.any(ordered[1:] == ordered[:-1]):
        order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    return rows.pick(order)
