"""Where every blob is: index objects in the repository, and the local index that is built from them.

The local index is a set of segments, each a sorted table that is searched where it lies (mapped from a cache file,
or in memory). It is never trusted further than it must be: a location that is wrong fails the frame's
authentication, and a false "known" would need all 256 bits of an id to be wrong in the right way.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from blake3 import blake3

from backups.engine import format as fmt
from backups.engine.envelope import METADATA, Envelope, Opened, Sealer, Section
from backups.engine.errors import BlobMissing, ObjectDamaged, ObjectMissing
from backups.engine.format import ObjectType, SectionKind
from backups.engine.pack import PackInfo
from backups.engine.store import ObjectStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.uint8]  # shape (n, 32)
    Column = NDArray[np.uint32]  # shape (n,)

_PACK = struct.Struct("<32sB3xI32sQ")  # digest, type, key epoch, salt, size
_FRAME = struct.Struct("<IIIIIBB2x")  # pack number, section number, offset, stored, raw, codec, kind
_PLACE = struct.Struct("<III")  # frame number, start in the frame, length
_HEAD = struct.Struct("<8sIIQI")  # magic, packs, frames, blobs, length of the meta part
_SEGMENT_MAGIC = b"AIHBIX\x00\x02"
_CHECKSUM = 32  # bytes of BLAKE3 at the end of a cache file
_FAN = 1 << 16
MERGE_ABOVE = 4  # segments


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


class _Columns(NamedTuple):
    """A table of packs, frames and blobs, the blobs sorted by id."""

    packs: list[bytes]  # _PACK rows
    frames: list[bytes]  # _FRAME rows
    ids: Ids
    frame: Column
    start: Column
    length: Column


def _columns(packs: Sequence[PackInfo]) -> _Columns:
    import numpy as np

    pack_rows: list[bytes] = []
    frame_rows: list[bytes] = []
    ids, frames, starts, lengths = [], [], [], []
    for number, pack in enumerate(packs):
        pack_rows.append(
            _PACK.pack(pack.digest, pack.envelope.type, pack.envelope.epoch, pack.envelope.salt, pack.size)
        )
        for frame in pack.frames:
            s = frame.section
            size = np.frombuffer(frame.lengths, "<u4")
            ids.append(np.frombuffer(frame.ids, np.uint8).reshape(-1, 32))
            frames.append(np.full(len(size), len(frame_rows), "<u4"))
            starts.append((np.cumsum(size, dtype=np.uint64) - size).astype("<u4"))
            lengths.append(size)
            frame_rows.append(_FRAME.pack(number, s.number, s.offset, s.stored, s.raw, s.codec, s.kind))
    if not ids:
        empty = np.zeros(0, "<u4")
        return _Columns(pack_rows, frame_rows, np.zeros((0, 32), np.uint8), empty, empty, empty)
    return _sorted(
        _Columns(
            pack_rows,
            frame_rows,
            *(np.concatenate(c) for c in (ids, frames, starts, lengths)),
        )
    )


def _sorted(table: _Columns) -> _Columns:
    import numpy as np

    words = np.ascontiguousarray(table.ids).view(">u8").reshape(-1, 4)
    order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    return table._replace(
        ids=table.ids[order], frame=table.frame[order], start=table.start[order], length=table.length[order]
    )


def seal_index(sealer: Sealer, packs: Sequence[PackInfo]) -> bytes:
    """The bytes of an index object that describes these packs."""
    table, writer = _columns(packs), sealer.new(ObjectType.INDEX)
    writer.add(SectionKind.INDEX_PACKS, msgpack.packb([b"".join(table.packs), b"".join(table.frames)]), METADATA)
    first = []
    for at in range(0, len(table.ids), fmt.INDEX_SECTION):
        part = slice(at, at + fmt.INDEX_SECTION)
        first.append(table.ids[at].tobytes())
        columns = [c[part].tobytes() for c in (table.ids, table.frame, table.start, table.length)]
        writer.add(SectionKind.INDEX_BLOBS, msgpack.packb(columns), METADATA)
    body = {"first": first, "packs": len(table.packs), "blobs": len(table.ids)}
    return writer.finish(body, METADATA)


def read_index(sealer: Sealer, name: str, data: bytes) -> _Columns:
    """An index object as a table. Raises ObjectDamaged."""
    import numpy as np

    opened = Opened(sealer, name, data, (ObjectType.INDEX,))
    packs, frames = msgpack.unpackb(opened.section(opened.sections[0]))
    parts = [msgpack.unpackb(opened.section(section)) for section in opened.sections[1:]]
    joined = [b"".join(part[i] for part in parts) for i in range(4)]
    ids = np.frombuffer(joined[0], np.uint8).reshape(-1, 32)
    if len(ids) != opened.directory["blobs"]:
        raise ObjectDamaged(name, "it announces another number of blobs than it holds")
    columns = [np.frombuffer(column, "<u4") for column in joined[1:]]
    return _Columns(_split(packs, _PACK.size), _split(frames, _FRAME.size), ids, *columns)


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _merge(tables: Iterable[_Columns]) -> _Columns:
    """One table from many; packs and frames are renumbered."""
    import numpy as np

    packs: list[bytes] = []
    frames: list[bytes] = []
    columns: list[list[Any]] = [[], [], [], []]
    for table in tables:
        shift_pack, shift_frame = len(packs), len(frames)
        packs += table.packs
        for row in table.frames:
            pack, *rest = _FRAME.unpack(row)
            frames.append(_FRAME.pack(pack + shift_pack, *rest))
        shifted = (table.ids, table.frame + np.uint32(shift_frame), table.start, table.length)
        for column, part in zip(columns, shifted, strict=True):
            column.append(part)
    return _sorted(_Columns(packs, frames, *(np.concatenate(column) for column in columns)))


def _segment_bytes(table: _Columns, objects: Sequence[str]) -> bytes:
    import numpy as np

    meta = msgpack.packb(list(objects))
    head = _HEAD.pack(_SEGMENT_MAGIC, len(table.packs), len(table.frames), len(table.ids), len(meta))
    prefixes = table.ids[:, 0].astype(np.uint32) << 8 | table.ids[:, 1]
    fan = np.searchsorted(prefixes, np.arange(_FAN + 1, dtype=np.uint32)).astype("<u4")
    places = np.column_stack([table.frame, table.start, table.length]).astype("<u4")
    keys, tails = table.ids[:, :16], table.ids[:, 16:]
    parts = [head, meta, b"".join(table.packs), b"".join(table.frames), fan.tobytes()]
    return b"".join([*parts, keys.tobytes(), tails.tobytes(), places.tobytes()])


class Segment:
    """One sorted table over a buffer: a mapped cache file or bytes in memory.

    The first 16 bytes of an id are searched; the other 16 lie in a column of their own that is touched on a hit only.
    """

    def __init__(self, data: mmap.mmap | bytes, size: int | None = None) -> None:
        self._data = data
        magic, packs, frames, self.blobs, meta = _HEAD.unpack_from(data)
        if magic != _SEGMENT_MAGIC:
            raise ValueError("not a segment of ours")
        at = _HEAD.size
        self.objects: list[str] = msgpack.unpackb(data[at : at + meta])
        self._packs = at + meta
        self._frames = self._packs + packs * _PACK.size
        self._fan = self._frames + frames * _FRAME.size
        self._keys = self._fan + 4 * (_FAN + 1)
        self._tails = self._keys + 16 * self.blobs
        self._places = self._tails + 16 * self.blobs
        self._pack_count = packs
        if (len(data) if size is None else size) != self._places + 12 * self.blobs:
            raise ValueError("cut off")

    def find(self, blob_id: bytes) -> Iterator[Location]:
        """Every place of a blob; there may be several, because two hosts can store the same."""
        return map(self._location, self._search(blob_id))

    def __contains__(self, blob_id: bytes) -> bool:
        return next(self._search(blob_id), None) is not None

    def _search(self, blob_id: bytes) -> Iterator[int]:
        data, keys, key = self._data, self._keys, blob_id[:16]
        low, high = struct.unpack_from("<II", data, self._fan + 4 * int.from_bytes(blob_id[:2], "big"))
        while low < high:
            middle = (low + high) >> 1
            if data[keys + 16 * middle : keys + 16 * middle + 16] < key:
                low = middle + 1
            else:
                high = middle
        while low < self.blobs and data[keys + 16 * low : keys + 16 * low + 16] == key:
            if data[self._tails + 16 * low : self._tails + 16 * low + 16] == blob_id[16:]:
                yield int(low)
            low += 1

    def _location(self, at: int) -> Location:
        frame, start, length = _PLACE.unpack_from(self._data, self._places + 12 * at)
        row = _FRAME.unpack_from(self._data, self._frames + _FRAME.size * frame)
        pack, number, offset, stored, raw, codec, kind = row
        facts = self._pack(pack)
        return Location(facts.digest, facts.envelope, Section(number, kind, offset, stored, codec, raw), start, length)

    def _pack(self, number: int) -> PackFacts:
        row = _PACK.unpack_from(self._data, self._packs + _PACK.size * number)
        digest, kind, epoch, salt, size = row
        return PackFacts(digest, Envelope(kind, epoch, salt), size)

    def packs(self) -> Iterator[PackFacts]:
        return map(self._pack, range(self._pack_count))

    def ids(self) -> Iterator[bytes]:
        for at in range(self.blobs):
            yield bytes(
                self._data[self._keys + 16 * at : self._keys + 16 * at + 16]
                + self._data[self._tails + 16 * at : self._tails + 16 * at + 16]
            )


class BlobIndex:
    """All blobs that the repository's index objects know, synchronised with the store on demand."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._segments: list[Segment] = []
        self._avoided: frozenset[bytes] = frozenset()
        self.damaged: list[ObjectDamaged] = []

    def find(self, blob_id: bytes) -> Location | None:
        return next(self.find_all(blob_id), None)

    def find_all(self, blob_id: bytes) -> Iterator[Location]:
        """Every place the blob is stored in."""
        for segment in self._segments:
            yield from segment.find(blob_id)

    def locate(self, blob_id: bytes) -> Location:
        """Like find, but raises BlobMissing."""
        if (location := self.find(blob_id)) is None:
            raise BlobMissing(blob_id)
        return location

    def __contains__(self, blob_id: bytes) -> bool:
        """Is it stored, as far as the index can tell, somewhere else than in the packs to avoid?"""
        if self._avoided:
            return any(place.pack not in self._avoided for place in self.find_all(blob_id))
        return any(blob_id in segment for segment in self._segments)

    def avoid(self, packs: frozenset[bytes]) -> None:
        """What lies only in these packs (SHA-256) is not stored, whatever index objects say: they are lost."""
        self._avoided = packs

    @property
    def avoids(self) -> bool:
        """Are there packs that must not be relied on?"""
        return bool(self._avoided)

    def packs(self) -> Iterator[PackFacts]:
        for segment in self._segments:
            yield from segment.packs()

    def ids(self) -> Iterator[bytes]:
        for segment in self._segments:
            yield from segment.ids()

    def sync(self, store: ObjectStore, sealer: Sealer) -> None:
        """Bring the local index up to what lies under index/ now.

        Damaged index objects are left out and remembered in .damaged: what else can be restored must be.
        """
        present = {info.name for info in store.list("index/")}
        self._segments = [s for s in self._segments or self._cached() if present.issuperset(s.objects)]
        known = {name for segment in self._segments for name in segment.objects}
        missing = sorted(present - known)
        self.damaged = []
        tables = list(self._read(store, sealer, missing))
        if tables:
            names = [name for name, _ in tables]
            self._segments.append(self._save(_merge(table for _, table in tables), names))
        if len(self._segments) > MERGE_ABOVE:
            self._compact()

    def _read(self, store: ObjectStore, sealer: Sealer, names: Sequence[str]) -> Iterator[tuple[str, _Columns]]:
        for name in names:
            try:
                data = store.get(name)
                if not fmt.name_matches(name, data):
                    raise ObjectDamaged(name, "its SHA-256 is not its name")
                yield name, read_index(sealer, name, data)
            except ObjectDamaged as error:
                self.damaged.append(error)
            except ObjectMissing:
                pass  # it went between being listed and being read: others describe its packs now

    def _cached(self) -> list[Segment]:
        found = []
        for path in sorted(self._cache.glob("*.segment")) if self._cache else []:
            try:
                found.append(_map(path))
            except (ValueError, OSError, struct.error, msgpack.UnpackException):
                _remove(path)  # a cache may be lost at any time; it is made anew
        return found

    def _save(self, table: _Columns, objects: Sequence[str]) -> Segment:
        data = _segment_bytes(table, objects)
        if self._cache is None:
            return Segment(data)
        name = fmt.sha256("\n".join(objects).encode()).hex()
        try:
            return _map(_write_cache(self._cache / f"{name}.segment", data))
        except OSError:  # a full or read-only cache directory costs speed, never a backup
            return Segment(data)

    def _compact(self) -> None:
        merged = _merge(map(_table, self._segments))
        objects = [name for segment in self._segments for name in segment.objects]
        old = sorted(self._cache.glob("*.segment")) if self._cache else []
        self._segments = [self._save(merged, sorted(objects))]
        for path in old:
            if path.name != f"{fmt.sha256(chr(10).join(sorted(objects)).encode()).hex()}.segment":
                _remove(path)


def _table(segment: Segment) -> _Columns:
    """A segment's table again, for merging."""
    import numpy as np

    data = segment._data
    n = segment.blobs
    keys = np.frombuffer(data, np.uint8, 16 * n, segment._keys).reshape(n, 16)
    tails = np.frombuffer(data, np.uint8, 16 * n, segment._tails).reshape(n, 16)
    places = np.frombuffer(data, "<u4", 3 * n, segment._places).reshape(n, 3)
    packs = _split(bytes(data[segment._packs : segment._frames]), _PACK.size)
    frames = _split(bytes(data[segment._frames : segment._fan]), _FRAME.size)
    columns = (places[:, i].copy() for i in range(3))
    return _Columns(packs, frames, np.hstack([keys, tails]), *columns)


def _map(path: Path) -> Segment:
    """A cache file whose checksum is right; ValueError otherwise: one wrong bit would hide a blob or misplace it."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with memoryview(data) as view:
        digest = blake3(max_threads=blake3.AUTO).update(view[:-_CHECKSUM]).digest()
    if digest != data[-_CHECKSUM:]:
        raise ValueError("its checksum is wrong")
    return Segment(data, len(data) - _CHECKSUM)


def _write_cache(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".segment-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.write(blake3(data, max_threads=blake3.AUTO).digest())
        os.rename(temporary, path)
    except BaseException:
        _remove(Path(temporary))
        raise
    return path


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
