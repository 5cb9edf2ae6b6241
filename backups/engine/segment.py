"""A segment of the local index: a sorted table that is searched where it lies, mapped from a cache file or in memory.

    head | names of index objects | packs | frames | fan | sums | BLAKE3 of all that | keys | tails | places

The first 16 bytes of an id are searched (keys); the other 16 lie in a column of their own that is touched on a hit
only. The rows fall into 2^n buckets by the first bits of their ids: `fan` tells where each begins, `sums` 8 bytes of
its BLAKE3. What stands before the rows is proved when the segment is opened, a bucket when it is first looked into:
so opening an index of a hundred million blobs reads a fraction of it, and one wrong bit hides no blob.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
from blake3 import blake3

from backups.engine.envelope import Envelope, Section
from backups.engine.table import FRAME, PACK, Location, PackFacts, Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEAD = struct.Struct("<8sIIQBxxxI")  # magic, packs, frames, blobs, bits of a bucket's number, bytes of the names
MAGIC = b"AIHBIX\x00\x03"
OBJECT = struct.Struct("<I")  # behind each PACK row: the number of the index object that described it
BUCKET = struct.Struct("<II")  # of fan: first row, row behind the last
PLACE = struct.Struct("<III")  # frame number, start in the frame, length
PACK_ROW = PACK.size + OBJECT.size
FRONT_SUM, SUM = 32, 8  # bytes of BLAKE3 of what stands before the rows, and of a bucket
KEY = TAIL = 16
MOST_BITS, IN_A_BUCKET = 16, 256  # at most 65,536 buckets; about so many rows in one until then


class SegmentDamaged(ValueError):
    """It is not what was written, or no segment of ours: it is made anew."""


class Segment:
    """Raises SegmentDamaged at once for what stands before the rows, and when a bucket is looked into for its rows."""

    def __init__(self, data: mmap.mmap | bytes, path: Path | None = None) -> None:
        self.path, self._data = path, data
        self.blobs: int  # places of blobs, those that do not count too
        magic, self._pack_count, frames, self.blobs, bits, names = HEAD.unpack_from(data)
        if magic != MAGIC or bits > MOST_BITS:
            raise SegmentDamaged("not a segment of ours")
        self._shift, buckets = MOST_BITS - bits, 1 << bits
        self._packs = HEAD.size + names
        self._frames = self._packs + self._pack_count * PACK_ROW
        self._fan = self._frames + frames * FRAME.size
        self._sums = self._fan + 4 * (buckets + 1)
        self._front = self._sums + SUM * buckets
        self._keys = self._front + FRONT_SUM
        self._tails = self._keys + KEY * self.blobs
        self._places = self._tails + TAIL * self.blobs
        if len(data) != self._places + PLACE.size * self.blobs:
            raise SegmentDamaged("cut off")
        self._prove_front()
        self._names: list[str] = msgpack.unpackb(data[HEAD.size : self._packs])
        self._proved = bytearray(buckets)
        self._dead: bytes | None = None  # a byte for each pack; None: all of them count
        self.objects = frozenset(self._names)

    # proving

    def _prove_front(self) -> None:
        with memoryview(self._data) as view:
            found = blake3(view[: self._front], max_threads=blake3.AUTO).digest()
            if found != view[self._front : self._keys]:
                raise SegmentDamaged("its checksum is wrong")

    def _bucket(self, number: int) -> tuple[int, int]:
        """(first row, row behind the last), proved."""
        low, high = BUCKET.unpack_from(self._data, self._fan + 4 * number)
        if not self._proved[number]:
            at = self._sums + SUM * number
            if bucket_sum(*self._raw(low, high)) != self._data[at : at + SUM]:
                raise SegmentDamaged("the checksum of a bucket is wrong")
            self._proved[number] = 1
        return low, high

    def prove(self) -> None:
        """All of it."""
        for number in range(self.buckets):
            self._bucket(number)

    def _raw(self, low: int, high: int) -> Iterator[bytes]:
        """The three columns of the rows, as they are stored."""
        for start, width in ((self._keys, KEY), (self._tails, TAIL), (self._places, PLACE.size)):
            yield self._data[start + width * low : start + width * high]

    # blobs

    def find(self, blob_id: bytes) -> Iterator[Location]:
        """Every place of a blob; there may be several, because two hosts can store the same."""
        for at in self._search(blob_id):
            frame, start, length = PLACE.unpack_from(self._data, self._places + PLACE.size * at)
            row = self._frame(frame)
            if self._dead is None or not self._dead[row[0]]:
                yield self._location(row, start, length)

    def numbers(self, blob_id: bytes) -> list[int]:
        """Of the rows that tell a place of the blob and count."""
        return [at for at in self._search(blob_id) if self._dead is None or not self._dead[self.pack_of(at)]]

    def pack_of(self, row: int) -> int:
        """Number of the pack that a row points into."""
        frame, _, _ = PLACE.unpack_from(self._data, self._places + PLACE.size * row)
        return int(self._frame(frame)[0])

    def location(self, row: int) -> Location:
        frame, start, length = PLACE.unpack_from(self._data, self._places + PLACE.size * row)
        return self._location(self._frame(frame), start, length)

    def place(self, blob_id: bytes) -> tuple[int, int, int] | None:
        """(number of a frame, start in it, length) of a blob; None: it is not here. Asked for every blob of a tree."""
        for at in self._alike(blob_id):
            tail = self._tails + TAIL * at
            if self._data[tail : tail + TAIL] == blob_id[KEY:]:
                place: tuple[int, int, int] = PLACE.unpack_from(self._data, self._places + PLACE.size * at)
                if self._dead is None or not self._dead[self._frame(place[0])[0]]:
                    return place
        return None

    def frame(self, number: int) -> tuple[bytes, Envelope, Section]:
        """(pack, its envelope, section) of a frame that place() has told."""
        facts = self._location(self._frame(number), 0, 0)
        return facts.pack, facts.envelope, facts.section

    def _frame(self, number: int) -> tuple[Any, ...]:
        return FRAME.unpack_from(self._data, self._frames + FRAME.size * number)

    def __contains__(self, blob_id: bytes) -> bool:
        return self.place(blob_id) is not None

    def _search(self, blob_id: bytes) -> Iterator[int]:
        for at in self._alike(blob_id):
            if self._data[self._tails + TAIL * at : self._tails + TAIL * at + TAIL] == blob_id[KEY:]:
                yield at

    def _alike(self, blob_id: bytes) -> range:
        """The rows whose ids begin as this one does."""
        data, keys, key = self._data, self._keys, blob_id[:KEY]
        low, end = self._bucket((blob_id[0] << 8 | blob_id[1]) >> self._shift)
        high = end
        while low < high:
            middle = (low + high) >> 1
            at = keys + KEY * middle
            if data[at : at + KEY] < key:
                low = middle + 1
            else:
                high = middle
        at = keys + KEY * low
        while high < end and data[at : at + KEY] == key:
            high, at = high + 1, at + KEY
        return range(low, high)

    def _location(self, row: tuple[Any, ...], start: int, length: int) -> Location:
        pack, number, offset, stored, raw, codec, kind = row
        facts = self._pack(pack)
        return Location(facts.digest, facts.envelope, Section(number, kind, offset, stored, codec, raw), start, length)

    def ids(self) -> Iterator[bytes]:
        """One for each place of each blob."""
        kept = self.live()[self.frame_rows()["pack"]]
        for number in range(self.buckets):
            rows = self.rows(number, number + 1)
            yield from (one.tobytes() for one in rows.ids[kept[rows.frame]])

    # packs

    def packs(self) -> Iterator[PackFacts]:
        """Those that count."""
        return (self._pack(number) for number in range(self._pack_count) if not (self._dead and self._dead[number]))

    def packs_in(self, shards: frozenset[int]) -> Iterator[PackFacts]:
        """Those that count and whose SHA-256 begins with one of these bytes."""
        first = self._data[self._packs : self._frames : PACK_ROW]
        wanted = (number for number, byte in enumerate(first) if byte in shards)
        return (self._pack(number) for number in wanted if not (self._dead and self._dead[number]))

    def pack_number(self, frame: int) -> int:
        """Of the pack that a frame lies in."""
        return int(self._frame(frame)[0])

    def _pack(self, number: int) -> PackFacts:
        digest, kind, epoch, salt, size = PACK.unpack_from(self._data, self._packs + PACK_ROW * number)
        return PackFacts(digest, Envelope(kind, epoch, salt), size)

    def forget(self, objects: Collection[str]) -> None:
        """These index objects are gone: what they alone described does not count, without reading anything again."""
        gone = self.objects.intersection(objects)
        if not gone:
            return
        import numpy as np  # a tenth of a second

        self.objects -= gone
        dead = np.array([name not in self.objects for name in self._names])
        self._dead = dead[self.pack_rows()["object"]].tobytes()

    @property
    def wasted(self) -> float:
        """The share of its packs that do not count."""
        return self._dead.count(1) / max(1, self._pack_count) if self._dead is not None else 0.0

    def all_packs(self) -> list[PackFacts]:
        """By their numbers, those that do not count too."""
        return [self._pack(number) for number in range(self._pack_count)]

    def places(self) -> NDArray[np.uint32]:
        """Frame number, start and length of every row, in a view of shape (rows, 3). Proves nothing."""
        import numpy as np

        return np.frombuffer(self._data, "<u4", 3 * self.blobs, self._places).reshape(-1, 3)

    def frames(self) -> NDArray[np.uint32]:
        """Pack number, section number, offset, stored and raw bytes of every frame, in a view of shape (frames, 6)."""
        import numpy as np

        count = (self._fan - self._frames) // FRAME.size
        return np.frombuffer(self._data, "<u4", 6 * count, self._frames).reshape(-1, 6)

    # for merging

    @property
    def buckets(self) -> int:
        """How many there are: bucket b holds the ids whose first bits are b."""
        return len(self._proved)

    @property
    def names(self) -> list[str]:
        """Index objects by their numbers, those that are gone too."""
        return self._names

    def live(self) -> NDArray[np.bool_]:
        """Does a pack count? By its number."""
        import numpy as np

        if self._dead is None:
            return np.ones(self._pack_count, bool)
        return ~np.frombuffer(self._dead, bool)

    def pack_rows(self) -> NDArray[Any]:
        """PACK and OBJECT rows, as they lie there."""
        return self._view(pack_type(), self._pack_count, self._packs)

    def frame_rows(self) -> NDArray[Any]:
        """FRAME rows."""
        return self._view(frame_type(), (self._fan - self._frames) // FRAME.size, self._frames)

    def _view(self, kind: np.dtype[Any], count: int, at: int) -> NDArray[Any]:
        import numpy as np

        return np.frombuffer(self._data, kind, count, at)

    def rows(self, first: int, end: int) -> Rows:
        """The rows of some buckets, proved. A copy."""
        import numpy as np

        ranges = [self._bucket(number) for number in range(first, end)]
        keys, tails, places = self._raw(ranges[0][0], ranges[-1][1])
        halves = [np.frombuffer(half, np.uint8).reshape(-1, KEY) for half in (keys, tails)]
        columns = np.frombuffer(places, "<u4").reshape(-1, 3)
        return Rows(np.hstack(halves), *(columns[:, at] for at in range(3)))

    def count(self, first: int, end: int) -> int:
        """How many rows these buckets have, those that do not count too."""
        low, high = (struct.unpack_from("<I", self._data, self._fan + 4 * number)[0] for number in (first, end))
        return int(high - low)


def bucket_sum(keys: bytes, tails: bytes, places: bytes) -> bytes:
    """What `sums` holds of a bucket."""
    return blake3(keys).update(tails).update(places).digest(SUM)


@lru_cache
def pack_type() -> np.dtype[Any]:
    """PACK and OBJECT for numpy."""
    import numpy as np

    return np.dtype([("row", f"V{PACK.size}"), ("object", "<u4")])


@lru_cache
def frame_type() -> np.dtype[Any]:
    """FRAME for numpy."""
    import numpy as np

    return np.dtype([("pack", "<u4"), ("row", f"V{FRAME.size - 4}")])


def mapped(path: Path) -> Segment:
    """The segment in a cache file. Raises SegmentDamaged, OSError."""
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise SegmentDamaged("it is empty") from None
    try:
        return Segment(data, path)
    except (struct.error, msgpack.UnpackException, ValueError, TypeError) as error:
        raise SegmentDamaged(str(error)) from None


def remove(path: Path | None) -> None:
    """A cache file that is of no use any more; whoever has it mapped keeps it."""
    with contextlib.suppress(OSError):
        if path is not None:
            path.unlink()
