"""Which stored blobs the snapshots need, and where they are to be kept.

The trees are walked page by page, each page once however many snapshots share it. Memory: one bit for each stored
blob, a few bytes for each frame, about half a KB for each pack, and the ids of those needed blobs that lie in several
packs (two hosts stored the same, or a compaction was cut off); never a list of entries or pages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.content import WHOLE, Content, unpack_units
from backups.engine.errors import BlobMissing, ObjectMissing
from backups.engine.index import Location, PackFacts
from backups.engine.log import Snapshot
from backups.engine.repository import Repository
from backups.engine.segment import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS_AT_ONCE = 1 << 20  # when weights are added up
CARRIED_WHOLE = 0.3  # a frame with a smaller share of dead bytes keeps them: storing it anew gains less than it costs


class Trust(IntEnum):
    """How far a pack may be relied on; the greatest counts."""

    GONE = 0  # it is not stored, or in another size
    LEAVING = 1  # marked or condemned
    DOUBTFUL = 2  # a check found damage in it
    SOUND = 3


@dataclass(slots=True)
class Weight:
    """A pack in stored bytes: that of its frames (gross), what of these is needed, and what would be gained by storing
    it anew. Frames most of which is needed are carried whole, so the gain is often less than what is not needed."""

    facts: PackFacts
    gross: float = 0.0
    needed: float = 0.0
    gain: float = 0.0

    @property
    def share(self) -> float:
        """Of it that is needed, 0 to 1."""
        return min(self.needed / self.gross, 1.0) if self.gross else 0.0

    @property
    def dead(self) -> bool:
        """Nothing in it is needed."""
        return self.needed == 0

    @property
    def unused(self) -> int:
        """Bytes that nobody needs."""
        return round(self.facts.size * (1.0 - self.share))

    @property
    def freed(self) -> int:
        """Bytes that storing it anew gives back."""
        return self.facts.size if self.dead else min(round(self.gain), self.facts.size)


class _Table:
    """One segment with a bit for each of its rows and the trust in each of its packs."""

    def __init__(self, segment: Segment, packs: list[PackFacts], trust: list[Trust]) -> None:
        self.segment, self.packs, self.trust = segment, packs, trust
        self.pack_of = segment.pack_of
        self.places, self.frames = segment.places(), segment.frames()
        self._bits = bytearray((segment.blobs + 7) // 8)

    def take(self, row: int) -> bool:
        """Set the row's bit; True the first time."""
        bit = 1 << (row & 7)
        new = not self._bits[row >> 3] & bit
        self._bits[row >> 3] |= bit
        return new

    def taken(self, row: int) -> bool:
        return bool(self._bits[row >> 3] >> (row & 7) & 1)

    def weights(self) -> NDArray[np.float64]:
        """Stored bytes of each pack's frames, what of them the taken rows stand for, and the gain of storing it anew;
        shape (3, packs)."""
        import numpy as np

        pack, stored, raw = (self.frames[:, column] for column in (0, 3, 4))
        dead = 1.0 - self._needed() / np.maximum(raw, 1)
        columns = (stored, stored * (1.0 - dead), stored * np.where(dead >= CARRIED_WHOLE, dead, 0.0))
        return np.array([np.bincount(pack, weights=column, minlength=len(self.packs)) for column in columns])

    def _needed(self) -> NDArray[np.uint32]:
        """Raw bytes of each frame that its taken rows stand for."""
        import numpy as np

        total = np.zeros(len(self.frames), np.uint32)
        for at in range(0, self.segment.blobs, ROWS_AT_ONCE):
            bits = np.frombuffer(self._bits, np.uint8)[at // 8 : (at + ROWS_AT_ONCE) // 8]
            places = self.places[at + np.flatnonzero(np.unpackbits(bits, bitorder="little"))]
            total += np.bincount(places[:, 0], weights=places[:, 2], minlength=len(total)).astype(np.uint32)
        return total

    def stored(self, row: int) -> float:
        """Bytes of its frame that a row stands for."""
        frame, _, length = (int(value) for value in self.places[row])
        return length * int(self.frames[frame, 3]) / max(int(self.frames[frame, 4]), 1)


_Row = tuple[_Table, int]


@dataclass(slots=True)
class _Copies:
    """A needed blob in several packs of equal trust; kept: the row that weigh() chose."""

    rows: list[_Row]
    kept: int = 0

    def keep_best(self, shares: Mapping[bytes, float]) -> None:
        """The one under the newest keys, of these in the fullest pack: the others would be stored anew some day."""
        packs = [table.packs[table.pack_of(row)] for table, row in self.rows]
        ranks = [(pack.envelope.epoch, shares[pack.digest], pack.digest) for pack in packs]
        self.kept = ranks.index(max(ranks))
        table, row = self.rows[self.kept]
        table.take(row)


class Usage:
    """add() snapshots, then weigh(); then lives() and keeper() answer for single blobs.

    stored    packs that the store holds: SHA-256 → size in bytes
    leaving   packs whose blobs count only where no other pack has them; held names those of them that do
    doubtful  packs in which a check found damage: another place is better
    tick      called for each page; may raise Cancelled
    """

    def __init__(
        self,
        repository: Repository,
        stored: Mapping[bytes, int],
        *,
        leaving: Collection[bytes] = (),
        doubtful: Collection[bytes] = (),
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository, self._tick = repository, tick
        self._copies: dict[bytes, _Copies] = {}
        self._tables = [_table(s, stored, leaving, doubtful) for s in repository.sync_index().proved()]
        self.held: set[bytes] = set()

    def add(self, snapshots: Iterable[Snapshot]) -> Iterator[Snapshot]:
        """Take what these snapshots need; each is yielded when it is done.

        Raises BlobMissing or ObjectMissing when something that one needs is stored nowhere, ObjectDamaged when a tree
        page cannot be read.
        """
        for snapshot in snapshots:
            self._walk(snapshot.root)
            yield snapshot

    def weigh(self) -> dict[bytes, Weight]:
        """SHA-256 → weight of every pack that the index knows. Of several copies of a blob the one under the newest
        keys, and in the fullest pack, is needed; the others are not."""
        if self._copies:
            shares = self._shares()
            for copies in self._copies.values():
                copies.keep_best(shares)
        return self._weights()

    def lives(self, blob_id: bytes, pack: bytes) -> bool:
        """Is the blob needed, and is this pack the one to keep it?"""
        if (copies := self._copies.get(blob_id)) is not None:
            return _digest(*copies.rows[copies.kept]) == pack
        return any(table.taken(row) for table, row in self._rows(blob_id) if _digest(table, row) == pack)

    def keeper(self, blob_id: bytes) -> Location | None:
        """The chosen place of a needed blob that lies in several packs."""
        copies = self._copies.get(blob_id)
        if copies is None:
            return None
        table, row = copies.rows[copies.kept]
        return table.segment.location(row)

    def copied(self) -> set[bytes]:
        """Packs with a needed blob that is kept in another one."""
        copies = self._copies.values()
        return {_digest(*row) for copy in copies for number, row in enumerate(copy.rows) if number != copy.kept}

    # walking

    def _walk(self, root: bytes) -> None:
        waiting = [root]
        while waiting:
            page = waiting.pop()
            if not self._take(page):
                continue
            raw = self._repository.load_blob(page)
            self._tick()
            waiting.extend(reference.id for reference in reversed(tree.references(raw)[1]))
            for content in tree.contents(raw) if tree.is_leaf(raw) else ():
                self._content(content)

    def _content(self, content: Content) -> None:
        if isinstance(content, tuple):
            for page in content:
                if self._take(page):
                    self._units(self._repository.load_blob(page))
        elif len(content) == WHOLE:
            self._take(content[:32])
        else:
            self._units(content)

    def _units(self, data: bytes) -> None:
        for unit in unpack_units(data):
            for blob in unit.blobs:
                self._take(blob.id)

    def _take(self, blob_id: bytes) -> bool:
        """True the first time the blob is needed."""
        if blob_id in self._copies:
            return False
        rows = self._best(blob_id)
        if len(rows) > 1 and rows[0][0].trust[rows[0][0].pack_of(rows[0][1])] > Trust.LEAVING:
            self._copies[blob_id] = _Copies(rows)
            return True
        table, row = rows[0]
        return table.take(row)

    def _best(self, blob_id: bytes) -> list[_Row]:
        """One row for each of the most trusted packs that have the blob."""
        found = list(self._rows(blob_id))
        if not found:
            raise BlobMissing(blob_id)
        trust = max(table.trust[table.pack_of(row)] for table, row in found)
        if len(found) > 1:
            best = [(table, row) for table, row in found if table.trust[table.pack_of(row)] == trust]
            found = list({_digest(*row): row for row in reversed(best)}.values())[::-1]
        if trust is Trust.GONE:
            raise ObjectMissing(fmt.pack_name(_digest(*found[0])))
        if trust is Trust.LEAVING:
            self.held.update(_digest(*row) for row in found)
        return found

    def _rows(self, blob_id: bytes) -> Iterator[_Row]:
        for table in self._tables:
            for row in table.segment.numbers(blob_id):
                yield table, row

    # weighing

    def _shares(self) -> dict[bytes, float]:
        """What is needed of each pack, if every copy were."""
        weights = self._weights()
        for copies in self._copies.values():
            for table, row in copies.rows:
                weights[_digest(table, row)].needed += table.stored(row)
        return {digest: weight.share for digest, weight in weights.items()}

    def _weights(self) -> dict[bytes, Weight]:
        weights: dict[bytes, Weight] = {}
        for table in self._tables:
            rows = zip(table.packs, table.segment.live(), table.weights().T.tolist(), strict=True)
            for facts, counts, (gross, needed, gain) in rows:
                if not counts:
                    continue  # the index object that described it is gone
                if (known := weights.get(facts.digest)) is None:
                    weights[facts.digest] = Weight(facts, gross, needed, gain)
                else:  # another index object describes the same pack; a blob is counted in one of them
                    known.needed += needed
                    known.gain = max(known.gross - known.needed, 0.0)
        return weights


def _table(
    segment: Segment, stored: Mapping[bytes, int], leaving: Collection[bytes], doubtful: Collection[bytes]
) -> _Table:
    packs = segment.all_packs()
    return _Table(segment, packs, [_trust(pack, stored, leaving, doubtful) for pack in packs])


def _trust(
    pack: PackFacts, stored: Mapping[bytes, int], leaving: Collection[bytes], doubtful: Collection[bytes]
) -> Trust:
    if stored.get(pack.digest) != pack.size:
        return Trust.GONE
    if pack.digest in leaving:
        return Trust.LEAVING
    return Trust.DOUBTFUL if pack.digest in doubtful else Trust.SOUND


def _digest(table: _Table, row: int) -> bytes:
    return table.packs[table.pack_of(row)].digest
