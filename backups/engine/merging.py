"""Making a segment: from index objects that were just read, or from other segments, four into one.

Rows are sorted by ranges of ids, `STEP` at a time, so that memory does not grow with what is merged.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from blake3 import blake3

from backups.engine import format as fmt
from backups.engine.segment import (
    HEAD,
    IN_A_BUCKET,
    KEY,
    MAGIC,
    MOST_BITS,
    OBJECT,
    PACK_ROW,
    PLACE,
    SUM,
    TAIL,
    Segment,
    bucket_sum,
    frame_type,
    mapped,
    remove,
)
from backups.engine.table import FRAME, PACK, Rows, Table, by_id, no_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEP = 1 << 17  # rows that are sorted at once, about 40 MB with their copies
CHUNK = 1 << 16  # packs or frames that are copied at once
PREFIXES: int = 1 << MOST_BITS

Put = Callable[[int, bytes], object]


class _Contents(NamedTuple):
    """A segment to be. steps: the rows of consecutive ranges of ids, all of the same width, sorted."""

    names: list[str]
    packs: Iterable[bytes]
    frames: Iterable[bytes]
    counts: tuple[int, int, int]  # packs, frames, blobs
    steps: Iterable[Rows]
    width: int  # prefixes of one step


def from_objects(objects: Sequence[tuple[str, Table]], cache: Path | None) -> Segment:
    """A segment of these index objects, in a file of the cache, or in memory where that takes nothing."""
    contents = _joined(objects)
    try:
        return _in_file(cache, contents) if cache else _in_memory(contents)
    except OSError:  # a full or read-only cache directory costs speed, never a backup
        return _in_memory(_joined(objects))


def from_segments(segments: Sequence[Segment], cache: Path | None) -> Segment:
    """One segment of what counts in several. Raises OSError when the cache takes nothing, SegmentDamaged."""
    contents = _merged(segments)
    return _in_file(cache, contents) if cache else _in_memory(contents)


# --- from index objects ---------------------------------------------------------------------------------------------


def _joined(objects: Sequence[tuple[str, Table]]) -> _Contents:
    import numpy as np

    packs: list[bytes] = []
    frames: list[bytes] = []
    rows: list[Rows] = []
    counts = [0, 0]
    for number, (_name, table) in enumerate(objects):
        packs.append(_described(table.packs, number))
        frames.append(_moved(np.frombuffer(table.frames, frame_type()), counts[0]))
        rows.append(table.rows._replace(frame=table.rows.frame + np.uint32(counts[1])))
        counts = [counts[0] + len(table.packs) // PACK.size, counts[1] + len(table.frames) // FRAME.size]
    every = by_id(_together(rows))
    names = [name for name, _table in objects]
    return _Contents(names, packs, frames, (counts[0], counts[1], len(every.ids)), [every], PREFIXES)


def _described(packs: bytes, number: int) -> bytes:
    """PACK rows with the number of their index object."""
    step, tail = PACK.size, OBJECT.pack(number)
    return b"".join(packs[at : at + step] + tail for at in range(0, len(packs), step))


def _moved(frames: NDArray[Any], packs: NDArray[np.uint32] | int) -> bytes:
    """FRAME rows whose packs have other numbers: so many more, or the new ones by the old."""
    moved = frames.copy()
    moved["pack"] = moved["pack"] + packs if isinstance(packs, int) else packs[moved["pack"]]
    return bytes(moved.tobytes())


def _together(parts: Sequence[Rows]) -> Rows:
    import numpy as np

    ids, *columns = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else no_rows()
    return Rows(ids, *columns)


# --- from segments --------------------------------------------------------------------------------------------------


class _Source:
    """What counts of a segment, under the numbers that it will have."""

    def __init__(self, segment: Segment, objects: int, packs: int, frames: int) -> None:
        import numpy as np

        self._segment, self._live = segment, segment.live()
        counts = [name in segment.objects for name in segment.names]
        self.names = [name for name in segment.names if name in segment.objects]
        self._object = _renumbered(np.array(counts, bool), objects)
        self._pack = _renumbered(self._live, packs)
        self._kept = self._live[segment.frame_rows()["pack"]]
        self._frame = _renumbered(self._kept, frames)
        self.counts = int(self._live.sum()), int(self._kept.sum())
        self._whole = bool(self._live.all())

    def packs(self) -> Iterator[bytes]:
        """PACK and OBJECT rows."""
        found = self._segment.pack_rows()
        for at in range(0, len(found), CHUNK):
            part = found[at : at + CHUNK][self._live[at : at + CHUNK]].copy()
            part["object"] = self._object[part["object"]]
            yield bytes(part.tobytes())

    def frames(self) -> Iterator[bytes]:
        """FRAME rows."""
        found = self._segment.frame_rows()
        for at in range(0, len(found), CHUNK):
            yield _moved(found[at : at + CHUNK][self._kept[at : at + CHUNK]], self._pack)

    def rows(self, first: int, end: int) -> Rows:
        """Those of a range of prefixes."""
        import numpy as np

        shift = MOST_BITS - self._segment.buckets.bit_length() + 1
        rows = self._segment.rows(first >> shift, -(-end >> shift))
        prefix = rows.ids[:, 0].astype(np.uint32) << 8 | rows.ids[:, 1]
        chosen = (prefix >= first) & (prefix < end)
        if not self._whole:
            chosen &= self._kept[rows.frame]
        rows = rows.pick(chosen)
        return rows._replace(frame=self._frame[rows.frame])

    def blobs(self, steps: int) -> int:
        """How many rows count."""
        if self._whole:
            return self._segment.blobs
        width = PREFIXES // steps
        return sum(len(self.rows(first, first + width).ids) for first in range(0, PREFIXES, width))


def _renumbered(counts: NDArray[np.bool_], first: int) -> NDArray[np.uint32]:
    """New numbers by old ones, from `first` on, of those that count."""
    import numpy as np

    return np.cumsum(counts, dtype=np.uint32) + np.uint32(first) - np.uint32(1)


def _merged(segments: Sequence[Segment]) -> _Contents:
    sources: list[_Source] = []
    objects = packs = frames = 0
    for segment in segments:
        sources.append(source := _Source(segment, objects, packs, frames))
        objects, packs, frames = objects + len(source.names), packs + source.counts[0], frames + source.counts[1]
    steps = _steps(sum(segment.blobs for segment in segments))
    return _Contents(
        [name for source in sources for name in source.names],
        (rows for source in sources for rows in source.packs()),
        (rows for source in sources for rows in source.frames()),
        (packs, frames, sum(source.blobs(steps) for source in sources)),
        _ranges(sources, PREFIXES // steps), PREFIXES // steps,
    )  # fmt: skip


def _steps(blobs: int) -> int:
    """In how many steps: a power of two; ids are evenly spread."""
    return min(int(1 << (blobs // STEP).bit_length()), PREFIXES)


def _ranges(sources: Sequence[_Source], width: int) -> Iterator[Rows]:
    for first in range(0, PREFIXES, width):
        yield by_id(_together([source.rows(first, first + width) for source in sources]))


# --- writing --------------------------------------------------------------------------------------------------------


def _in_memory(contents: _Contents) -> Segment:
    data = mmap.mmap(-1, _Writer(contents).size)

    def put(at: int, part: bytes) -> None:
        data[at : at + len(part)] = part

    _Writer(contents).write(put)
    return Segment(data)


def _in_file(cache: Path, contents: _Contents) -> Segment:
    """Raises OSError; then nothing is left behind."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, temporary = tempfile.mkstemp(dir=cache, prefix=".segment-")
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            _Writer(contents).write(lambda at, part: _pwrite(file.fileno(), part, at))
        name = fmt.sha256("\n".join(sorted(contents.names)).encode()).hex()
        os.rename(temporary, cache / f"{name}.segment")
    except BaseException:
        remove(Path(temporary))
        raise
    return mapped(cache / f"{name}.segment")


def _pwrite(fd: int, part: bytes, at: int) -> None:
    """All of it."""
    view = memoryview(part)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


class _Writer:
    """The layout of `segment`: what stands before the rows last, because it sums them up."""

    def __init__(self, contents: _Contents) -> None:
        self._contents = contents
        packs, frames, self._blobs = contents.counts
        wanted = (self._blobs // IN_A_BUCKET).bit_length()
        self._bits = max(min(wanted, MOST_BITS), (PREFIXES // contents.width).bit_length() - 1)
        names = msgpack.packb(contents.names)
        self._top = HEAD.pack(MAGIC, packs, frames, self._blobs, self._bits, len(names)) + names
        fan = len(self._top) + packs * PACK_ROW + frames * FRAME.size
        self._keys = fan + 4 * ((1 << self._bits) + 1) + SUM * (1 << self._bits) + blake3.digest_size
        self._tails = self._keys + KEY * self._blobs
        self._places = self._tails + TAIL * self._blobs
        self.size = self._places + PLACE.size * self._blobs  # bytes of the whole segment

    def write(self, put: Put) -> None:
        """All of it, by positions."""
        at, front = 0, blake3()
        for part in self._before():
            put(at, part)
            front.update(part)
            at += len(part)
        fan, sums = self._rows(put)
        for part in (fan, sums):
            put(at, part)
            front.update(part)
            at += len(part)
        put(at, front.digest())

    def _before(self) -> Iterator[bytes]:
        yield self._top
        yield from self._contents.packs
        yield from self._contents.frames

    def _rows(self, put: Put) -> tuple[bytes, bytes]:
        """Put them; (fan, sums)."""
        import numpy as np

        fan, sums, row = [], [], 0
        per_step = self._contents.width >> (MOST_BITS - self._bits)
        for number, rows in enumerate(self._contents.steps):
            prefix = (rows.ids[:, 0].astype(np.uint32) << 8 | rows.ids[:, 1]) >> np.uint32(MOST_BITS - self._bits)
            edges = np.searchsorted(prefix, np.arange(per_step + 1, dtype=np.uint32) + np.uint32(number * per_step))
            columns = _columns(rows)
            for at, column, width in zip((self._keys, self._tails, self._places), columns, (KEY, TAIL, PLACE.size),
                                         strict=True):  # fmt: skip
                put(at + width * row, column)
            sums += [_sum(columns, low, high) for low, high in pairwise(edges.tolist())]
            fan.append((edges[:-1] + row).astype("<u4").tobytes())
            row += len(rows.ids)
        assert row == self._blobs, "the rows are not those that were counted"
        return b"".join([*fan, np.uint32(row).tobytes()]), b"".join(sums)


def _columns(rows: Rows) -> tuple[bytes, bytes, bytes]:
    """Keys, tails and places."""
    import numpy as np

    places = np.column_stack([rows.frame, rows.start, rows.length]).astype("<u4")
    return rows.ids[:, :KEY].tobytes(), rows.ids[:, KEY:].tobytes(), places.tobytes()


def _sum(columns: tuple[bytes, bytes, bytes], low: int, high: int) -> bytes:
    keys, tails, places = columns
    return bucket_sum(
        keys[KEY * low : KEY * high], tails[TAIL * low : TAIL * high], places[PLACE.size * low : PLACE.size * high]
    )
