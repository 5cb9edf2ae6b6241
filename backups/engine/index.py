"""Where every blob is: index objects in the repository, and the local index that is built from them.

The local index is a set of segments. It is never trusted further than it must be: a location that is wrong fails the
frame's authentication, and a false "known" would need all 256 bits of an id to be wrong in the right way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgpack

from backups.engine import format as fmt
from backups.engine import merging
from backups.engine.envelope import METADATA, Envelope, Opened, Sealer
from backups.engine.errors import BlobMissing, ObjectDamaged, ObjectMissing
from backups.engine.format import ObjectType, SectionKind
from backups.engine.pack import PackInfo
from backups.engine.segment import Segment, SegmentDamaged, mapped, remove
from backups.engine.store import ObjectStore
from backups.engine.table import PACK, Location, PackFacts, Rows, Table, plain_table_of

__all__ = ["BlobIndex", "Location", "PackFacts", "Place", "read_index", "seal_index"]

TOGETHER = 4  # segments of about the same size become one
SMALL = 1 << 16  # blobs: all smaller segments count as of the same size
AT_ONCE = 1 << 19  # blobs of index objects that are read before a segment is made of them: bounds memory
WASTE = 0.25  # share of a segment's packs that may be gone before it is made anew

SYNC_ATTEMPTS = 3

T = TypeVar("T")
Place = tuple[Segment, int, int, int]  # where a blob is: a segment, a frame it knows, start in the raw frame, length


def seal_index(sealer: Sealer, packs: Sequence[PackInfo]) -> bytes:
    """The bytes of an index object that describes these packs."""
    table = plain_table_of(packs)
    return _sealed(sealer, table.packs, table.frames, table.columns)


def seal_table(sealer: Sealer, table: Table) -> bytes:
    """The bytes of an index object that holds this table."""
    return _sealed(sealer, table.packs, table.frames, [column.tobytes() for column in table.rows])


def _sealed(sealer: Sealer, packs: bytes, frames: bytes, columns: Sequence[bytes]) -> bytes:
    writer = sealer.new(ObjectType.INDEX)
    writer.add(SectionKind.INDEX_PACKS, msgpack.packb([packs, frames]), METADATA)
    first, widths, step, blobs = [], (32, 4, 4, 4), fmt.INDEX_SECTION, len(columns[0]) // 32
    for at in range(0, blobs, step):
        part = [c[at * width : (at + step) * width] for c, width in zip(columns, widths, strict=True)]
        first.append(part[0][:32])
        writer.add(SectionKind.INDEX_BLOBS, msgpack.packb(part), METADATA)
    body = {"first": first, "packs": len(packs) // PACK.size, "blobs": blobs}
    return writer.finish(body, METADATA)


def read_index(sealer: Sealer, name: str, data: bytes) -> Table:
    """An index object as a table. Raises ObjectDamaged."""
    import numpy as np

    opened = Opened(sealer, name, data, (ObjectType.INDEX,))
    packs, frames = msgpack.unpackb(opened.section(opened.sections[0]))
    parts = [msgpack.unpackb(opened.section(section)) for section in opened.sections[1:]]
    joined = [b"".join(part[i] for part in parts) for i in range(4)]
    ids = np.frombuffer(joined[0], np.uint8).reshape(-1, 32)
    if len(ids) != opened.directory["blobs"]:
        raise ObjectDamaged(name, "it announces another number of blobs than it holds")
    return Table(packs, frames, Rows(ids, *(np.frombuffer(column, "<u4") for column in joined[1:])))


def packs_told(sealer: Sealer, name: str, data: bytes) -> Iterator[PackFacts]:
    """The packs that an index object describes. Raises ObjectDamaged."""
    opened = Opened(sealer, name, data, (ObjectType.INDEX,))
    rows, _ = msgpack.unpackb(opened.section(opened.sections[0]))
    for digest, kind, epoch, salt, size in PACK.iter_unpack(rows):
        yield PackFacts(digest, Envelope(kind, epoch, salt), size)


class BlobIndex:
    """All blobs that the repository's index objects know, synchronised with the store on demand.

    A cache file that proves to be damaged while it is searched is made anew from its index objects.
    """

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._segments: list[Segment] = []
        self._avoided: frozenset[bytes] = frozenset()
        self._holds: Callable[[bytes], bool] | None = None
        self._held: set[tuple[Segment, int]] = set()  # packs by their numbers for which it was true
        self._origin: tuple[ObjectStore, Sealer] | None = None
        self._vanished = ""  # an index object that went while the others were read
        self._rebuilt = False
        self.damaged: list[ObjectDamaged] = []

    def find(self, blob_id: bytes) -> Location | None:
        return next(self.find_all(blob_id), None)

    def find_all(self, blob_id: bytes) -> Iterator[Location]:
        """Every place the blob is stored in."""
        return iter(self._sound(lambda: [place for segment in self._segments for place in segment.find(blob_id)]))

    def place(self, blob_id: bytes) -> Place | None:
        """Like find, but cheaper: for plans that are sorted, and for who only asks whether it is there."""
        try:
            return self._place(blob_id)
        except SegmentDamaged:
            return self._sound(lambda: self._place(blob_id))

    def _place(self, blob_id: bytes) -> Place | None:
        for segment in self._segments:
            if (found := segment.place(blob_id)) is not None:
                return (segment, *found)
        return None

    def locate(self, blob_id: bytes) -> Location:
        """Like find, but raises BlobMissing."""
        if (location := self.find(blob_id)) is None:
            raise BlobMissing(blob_id)
        return location

    def __contains__(self, blob_id: bytes) -> bool:
        """Is it stored, as far as the index can tell, somewhere else than in the packs to avoid?"""
        if self._avoided:
            return any(self._may_rely_on(place.pack) for place in self.find_all(blob_id))
        found = self.place(blob_id)
        return found is not None and (self._holds is None or self._is_held(found, blob_id))

    def _is_held(self, found: Place, blob_id: bytes) -> bool:
        segment, frame, _, _ = found
        key = segment, segment.pack_number(frame)
        if key not in self._held:
            if not self._may_rely_on(segment.frame(frame)[0]):
                return any(self._may_rely_on(place.pack) for place in self.find_all(blob_id))
            self._held.add(key)
        return True

    def _may_rely_on(self, pack: bytes) -> bool:
        return pack not in self._avoided and (self._holds is None or self._holds(pack))

    def avoid(self, packs: frozenset[bytes], holds: Callable[[bytes], bool] | None = None) -> None:
        """What lies only in these packs (SHA-256) is not stored, whatever index objects say: they are lost. holds:
        asked for another pack before the first blob in it counts as stored."""
        self._avoided, self._holds = packs, holds
        self._held.clear()

    @property
    def avoids(self) -> bool:
        """Are there packs that must not be relied on?"""
        return bool(self._avoided)

    def packs(self) -> Iterator[PackFacts]:
        for segment in self._segments:
            yield from segment.packs()

    def packs_in(self, shards: frozenset[int]) -> Iterator[PackFacts]:
        """Those whose SHA-256 begins with one of these bytes."""
        for segment in self._segments:
            yield from segment.packs_in(shards)

    def ids(self) -> Iterator[bytes]:
        """Those of all blobs, once for each place."""
        self._sound(self._prove)
        for segment in self._segments:
            yield from segment.ids()

    def _prove(self) -> None:
        for segment in self._segments:
            segment.prove()

    def proved(self) -> Sequence[Segment]:
        """All of it is what was written: for who reads it without asking for single blobs."""
        self._sound(self._prove)
        return self._segments

    @property
    def objects(self) -> frozenset[str]:
        """Names of the index objects it was made from."""
        return frozenset(name for segment in self._segments for name in segment.objects)

    def moved(self, store: ObjectStore) -> None:
        """In a child process, whose connections are its own."""
        if self._origin:
            self._origin = store, self._origin[1]

    # synchronising

    def sync(self, store: ObjectStore, sealer: Sealer) -> None:
        """Bring the local index up to what lies under index/ now.

        Damaged index objects are left out and remembered in .damaged: what else can be restored must be. One that is
        listed and never there is left out too: whoever needs a blob of it will say so.
        """
        self._origin = store, sealer
        for _ in range(SYNC_ATTEMPTS):  # where an object went while we read, others that took its place are listed now
            self._vanished = ""
            self._synchronise(store, sealer)
            if not self._vanished:
                break
        self._merge()

    def learn(self, store: ObjectStore, sealer: Sealer, names: Collection[str]) -> int:
        """Read these index objects, where the cache does not know them, and believe that those are there that it
        knows; how many it knows then. One that is gone counts as damaged."""
        self._origin, self._vanished = (store, sealer), ""
        self._segments = self._segments or self._cached()
        self._take(store, sealer, {*self.objects, *names})
        if self._vanished:
            self.damaged.append(ObjectDamaged(self._vanished, "it was told of, and it is not there"))
        self._merge()
        return len(self.objects)

    def _synchronise(self, store: ObjectStore, sealer: Sealer) -> None:
        self._take(store, sealer, {info.name for info in store.list("index/")})

    def _take(self, store: ObjectStore, sealer: Sealer, present: set[str]) -> None:
        """Know these index objects and no others."""
        self._held.clear()
        self._segments = self._useful(present)
        known = {name for segment in self._segments for name in segment.objects}
        self.damaged = []
        for objects in self._read(store, sealer, sorted(present - known)):
            self._segments.append(merging.from_objects(objects, self._cache))

    def _useful(self, present: set[str]) -> list[Segment]:
        """Segments whose objects are there, the largest first, none of which another one has, too: a merge that was
        interrupted leaves both."""
        found: list[Segment] = []
        taken: set[str] = set()
        for segment in sorted(self._segments or self._cached(), key=lambda one: -one.blobs):
            segment.forget(segment.objects - present)
            if segment.objects and taken.isdisjoint(segment.objects):
                found.append(segment)
                taken |= segment.objects
            else:
                remove(segment.path)
        return found

    def _cached(self) -> list[Segment]:
        found = []
        for path in sorted(self._cache.glob("*.segment")) if self._cache else []:
            try:
                found.append(mapped(path))
            except (SegmentDamaged, OSError):
                remove(path)  # a cache may be lost at any time; it is made anew
        return found

    def _read(self, store: ObjectStore, sealer: Sealer, names: Sequence[str]) -> Iterator[list[tuple[str, Table]]]:
        """The objects, as many at once as memory should hold."""
        held: list[tuple[str, Table]] = []
        blobs = 0
        for name in names:
            if (table := self._object(store, sealer, name)) is not None:
                held.append((name, table))
                blobs += len(table.rows.ids)
            if blobs >= AT_ONCE:
                yield held
                held, blobs = [], 0
        if held:
            yield held

    def _object(self, store: ObjectStore, sealer: Sealer, name: str) -> Table | None:
        try:
            data = store.get(name)
            if not fmt.name_matches(name, data):
                raise ObjectDamaged(name, "its SHA-256 is not its name")
            return read_index(sealer, name, data)
        except ObjectDamaged as error:
            self.damaged.append(error)
        except ObjectMissing:
            self._vanished = name  # between being listed and being read: others describe its packs now
        return None

    # merging

    def _merge(self) -> None:
        """Until no four are of about the same size, and none carries much that is gone: what is merged again and
        again grows fourfold each time, so the work for a blob grows with the logarithm of all of them."""
        while (chosen := self._to_merge()) is not None:
            try:
                merged = merging.from_segments(chosen, self._cache)
            except OSError:  # no room for it: more segments cost time, never a backup
                return
            except SegmentDamaged:
                self._rebuild()
                return
            self._segments = [one for one in self._segments if one not in chosen] + [merged]
            for one in chosen:
                if one.path != merged.path:
                    remove(one.path)

    def _to_merge(self) -> list[Segment] | None:
        tiers: dict[int, list[Segment]] = {}
        for segment in self._segments:
            if segment.wasted > WASTE:
                return [segment]
            tiers.setdefault((segment.blobs // SMALL).bit_length() // 2, []).append(segment)
        return next((tier[:TOGETHER] for _, tier in sorted(tiers.items()) if len(tier) >= TOGETHER), None)

    # healing

    def _sound(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except SegmentDamaged:
            self._rebuild()
            return ask()

    def _rebuild(self) -> None:
        """Make the cache anew: a file in it is not what was written. Where that happens twice the disk is not to be
        trusted with it, and memory has to do."""
        for segment in self._segments:
            remove(segment.path)
        self._cache, self._rebuilt = None if self._rebuilt else self._cache, True
        self._segments = []
        if self._origin:
            self.sync(*self._origin)
