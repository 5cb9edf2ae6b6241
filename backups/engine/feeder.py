"""Feeding a stream (a dump, a pipe) to the workers: cut here, in order, hashed and stored there.

The bytes travel through memory that all processes share; only offsets and lengths go through the pipes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from backups.engine.capture import BUFFER
from backups.engine.chunker import Chunker, cut_blocks, detect_block
from backups.engine.entry import Entry
from backups.engine.workers import Pool, Ring


def feed(
    entry: Entry,
    stream: BinaryIO,
    chunker: Chunker,
    ring: Ring,
    pool: Pool,
    then: Callable[[int, dict[str, Any]], None],
) -> int:
    """Read the stream to its end; the number of buffers that were handed out. Sets the entry's size and SHA-256."""
    digest, count, offset = hashlib.sha256(), 0, 0
    for slot, lengths in _buffers(entry, stream, chunker, ring, pool):
        used = sum(lengths)
        digest.update(ring.view(slot)[:used])
        pool.submit([BUFFER, slot, offset, lengths], _release(ring, slot, count, then))
        offset, count = offset + used, count + 1
    entry.size, entry.sha256 = offset, digest.digest()
    return count


def _release(
    ring: Ring, slot: int, number: int, then: Callable[[int, dict[str, Any]], None]
) -> Callable[[dict[str, Any]], None]:
    def done(result: dict[str, Any]) -> None:
        ring.free.append(slot)
        then(number, result)

    return done


def _buffers(
    entry: Entry, stream: BinaryIO, chunker: Chunker, ring: Ring, pool: Pool
) -> Iterator[tuple[int, list[int]]]:
    """(slot, lengths of its whole chunks) until the end; what is cut off behind moves on to the next slot."""
    left, block, first = b"", entry.block, True
    while True:
        while not ring.free:
            pool.wait()
        slot = ring.free.pop()
        view = ring.view(slot)
        view[: len(left)] = left
        have = _read_full(stream, view, len(left))
        final = have < len(view)
        block = block or (detect_block(bytes(view[:16384])) if first else 0)
        cuts = cut_blocks(have, block, final) if block else chunker.cut(view[:have], final)
        lengths = [stop - start for start, stop in cuts]
        left, first = bytes(view[sum(lengths) : have]), False
        if not lengths:
            ring.free.append(slot)
            return
        yield slot, lengths
        if final:
            return


def _read_full(stream: BinaryIO, view: memoryview, have: int) -> int:
    """Fill the view behind the first have bytes; fewer only at the end of the stream."""
    readinto = getattr(stream, "readinto", None)
    while have < len(view):
        if readinto is not None:
            got = readinto(view[have:]) or 0
        else:
            data = stream.read(len(view) - have)
            got = len(data)
            view[have : have + got] = data
        if not got:
            break
        have += got
    return have
