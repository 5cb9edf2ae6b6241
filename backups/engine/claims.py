"""The claim table: which worker process stores a new blob, decided once in shared memory.

An open-addressing table of 16-byte id prefixes with one lock for each of its 16 shards. A claim that is wrongly
refused would lose data, a claim that is wrongly granted only stores a blob twice: so a full shard grants.
"""

from __future__ import annotations

import mmap
import multiprocessing

SLOTS = 1 << 21
SHARDS = 16
_EMPTY = bytes(16)


class Claims:
    """Made before the workers are forked; claim() is called in all of them.

    Two ids that share 128 bits would be taken for one. Ids are keyed BLAKE3, so that takes 2^64 blobs in one run;
    the index, which decides across runs, compares all 256.
    """

    def __init__(self, slots: int = SLOTS, *, shared: bool = True) -> None:
        self._per_shard = slots // SHARDS
        self._table = mmap.mmap(-1, slots * 16)
        self._used = memoryview(mmap.mmap(-1, SHARDS * 8)).cast("Q")
        self._locks = [multiprocessing.get_context("fork").Lock() for _ in range(SHARDS)] if shared else None

    def claim(self, blob_id: bytes) -> bool:
        """True for the first caller with this id since the last clear()."""
        shard = blob_id[0] & SHARDS - 1
        if self._locks is None:
            return self._claim(shard, blob_id[:16], blob_id)
        with self._locks[shard]:
            return self._claim(shard, blob_id[:16], blob_id)

    def _claim(self, shard: int, key: bytes, blob_id: bytes) -> bool:
        table, count = self._table, self._per_shard
        at = int.from_bytes(blob_id[1:9], "little") % count
        base = shard * count
        for _ in range(count):
            place = 16 * (base + at)
            found = table[place : place + 16]
            if found == _EMPTY:
                return self._take(shard, place, key)
            if found == key:
                return False
            at = at + 1 if at + 1 < count else 0
        return True

    def _take(self, shard: int, place: int, key: bytes) -> bool:
        used = self._used[shard]
        if used < self._per_shard * 3 // 4:  # beyond, probes grow long: granting twice is cheaper
            self._table[place : place + 16] = key
            self._used[shard] = used + 1
        return True

    @property
    def half_full(self) -> bool:
        return sum(self._used) * 2 >= self._per_shard * SHARDS

    def clear(self) -> None:
        """Forget all claims. Only while no worker is at work, and after an index object tells what they were."""
        step = 1 << 20
        for at in range(0, len(self._table), step):
            self._table[at : at + step] = bytes(min(step, len(self._table) - at))
        for shard in range(SHARDS):
            self._used[shard] = 0
