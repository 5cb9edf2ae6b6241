"""Cutting: the same content is cut at the same places, today, next year, and whatever the size of the reads."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backups.engine import Entry, Kind, capture, entries
from backups.engine import format as fmt
from backups.engine.chunker import Chunker, cut_blocks, detect_block
from backups.engine.content import units
from backups.engine.entry import Unit
from backups.engine.errors import EngineError
from tests.engine.scenery import archived, new_repository, scanned

NOISE = hashlib.shake_256(b"golden").digest(4 << 20)
SMALL = (256, 1024, 4096)  # least, average and greatest chunk of quick stories
GOLDEN = {
    0: "361589 343375 398457 453025 345705 283234 284613 300762 404860 445677 360549 212458",
    1: "450118 366980 242826 495152 256632 333876 362817 349819 545454 609073 181557",
    4711: "579100 431164 95116 341901 221493 367305 370933 461738 539570 91531 83116 422756 188581",
    (1 << 63) - 1: "851671 372779 549920 119754 342616 292614 412715 572429 233740 79349 284802 81915",
}
SQLITE = b"SQLite format 3\0" + bytes(84) + NOISE[: 1 << 20]


def cuts(chunker: Chunker, data: bytes) -> list[int]:
    return [end - start for start, end in chunker.cut(memoryview(data), True)]


def windowed(chunker: Chunker, data: bytes, window: int) -> list[int]:
    """Lengths when the content is read a window at a time, and what is cut off behind is kept for the next."""
    lengths, at, have = [], 0, 0
    while True:
        have = min(have + window, len(data))
        final = have == len(data)
        used = 0
        for start, end in chunker.cut(memoryview(data)[at:have], final):
            lengths.append(end - start)
            used = end
        at += used
        if final:
            return lengths


# ------------------------------------------------------------- content-defined


@pytest.mark.parametrize("seed", GOLDEN)
def test_it_cuts_where_it_always_cut(seed: int) -> None:
    """Other places would store everything anew beside what is there."""
    assert " ".join(map(str, cuts(Chunker(seed), NOISE))) == GOLDEN[seed]


def test_it_cuts_small_chunks_where_it_always_did() -> None:
    expected = "408 1276 560 517 593 708 1518 608 606 550 1066 546 772 1242 1047 522 1259 424 1162 419 1678 1709 810"

    assert " ".join(map(str, cuts(Chunker(7, *SMALL), NOISE[:20_000]))) == expected


def test_zeros_are_cut_at_the_limit() -> None:
    assert cuts(Chunker(7), bytes(3 << 20)) == [fmt.CHUNK_MAX] * 3


@given(data=some.binary(max_size=200), repeat=some.integers(1, 200), seed=some.integers(0, (1 << 63) - 1))
def test_chunks_make_up_the_content_and_keep_the_limits(data: bytes, repeat: int, seed: int) -> None:
    content = data * repeat

    ends = list(Chunker(seed, *SMALL).cut(memoryview(content), True))

    assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])][: len(ends)]
    assert b"".join(content[start:end] for start, end in ends) == content
    assert all(end - start <= SMALL[2] for start, end in ends)
    assert all(end - start >= SMALL[0] for start, end in ends[:-1])


@settings(deadline=None)
@given(
    start=some.integers(0, 1 << 20),
    length=some.integers(0, 60_000),
    window=some.integers(SMALL[2] + 1, 30_000),
    seed=some.integers(0, 1 << 40),
)
def test_the_window_decides_nothing(start: int, length: int, window: int, seed: int) -> None:
    chunker, data = Chunker(seed, *SMALL), NOISE[start : start + length]

    assert windowed(chunker, data, window) == cuts(chunker, data)


def test_another_seed_cuts_elsewhere() -> None:
    one, two = (set(_ends(cuts(Chunker(seed), NOISE))) for seed in (1, 2))

    assert one & two == {len(NOISE)}


def test_an_insertion_moves_few_cuts() -> None:
    chunker = Chunker(5, *SMALL)
    data = NOISE[: 1 << 20]
    before, after = (_chunks(chunker, content) for content in (data, data[:500_000] + b"inserted" + data[500_000:]))

    assert len(after - before) <= 4


def test_the_slow_fallback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc.cy", None)

    with pytest.raises(EngineError, match="the pure-Python one would run at half a percent of its speed"):
        Chunker(1)


def _ends(lengths: list[int]) -> Iterator[int]:
    at = 0
    for length in lengths:
        at += length
        yield at


def _chunks(chunker: Chunker, data: bytes) -> set[bytes]:
    return {data[start:end] for start, end in chunker.cut(memoryview(data), True)}


# ---------------------------------------------------------------------- blocks


@given(length=some.integers(0, 1000), block=some.integers(1, 300))
def test_blocks_make_up_the_content(length: int, block: int) -> None:
    found = list(cut_blocks(length, block, True))

    assert [n for start, end in found for n in range(start, end)] == list(range(length))
    assert all(end - start == block for start, end in found[:-1])
    assert list(cut_blocks(length, block, False)) == [pair for pair in found if pair[1] - pair[0] == block]


def _heap_page() -> bytes:
    return bytes(18) + b"\x04\x20" + bytes(8172)


def _innodb_page(number: int) -> bytes:
    return bytes(4) + number.to_bytes(4, "big") + bytes(16) + b"\x00\x08" + bytes(8) + b"spc1spc1" + bytes(16342)


@pytest.mark.parametrize(
    ("head", "block"),
    [
        (SQLITE, 65536),
        (_heap_page() * 2, 65536),
        (_innodb_page(0), 65536),
        (b"", 0),
        (b"SQLite format 3", 0),
        (_heap_page(), 0),  # one page is too little to be sure
        (_heap_page() + bytes(8192), 0),
        (_innodb_page(7), 0),
        (bytes(16384), 0),
        (NOISE[:16384], 0),
    ],
    ids=["sqlite", "postgresql", "innodb", "empty", "sqlite cut", "one page", "odd page", "page 7", "zeros", "noise"],
)
def test_it_knows_page_files_by_their_beginning(head: bytes, block: int) -> None:
    assert detect_block(head) == block


# ------------------------------------------------------------ in files and streams


class Dripping(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, drop: int) -> None:
        self._data, self._at, self._drop = data, 0, drop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._data[self._at : self._at + min(self._drop, len(buffer))]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


class OnlyRead:
    """A stream of the kind that has read() and no readinto()."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._stream.read(size)

    def __enter__(self) -> OnlyRead:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


def _stream(data: bytes, make: object = None, block: int = 0) -> list[Unit]:
    """What a stream of this content is made of."""
    repository = new_repository()
    stream = cast(BinaryIO, make or io.BytesIO(data))
    dump = Entry(b"dump", Kind.FILE, source=lambda: stream, block=block)
    done = archived(repository, [Entry(b"", Kind.DIRECTORY, xattrs=()), dump])
    (found,) = [entry for entry in entries(repository, done.snapshot) if entry.path]
    assert (found.size, found.sha256) == (len(data), fmt.sha256(data))
    assert b"".join(repository.load_blob(b.id) for u in _units(found, repository.load_blob) for b in u.blobs) == data
    return list(_units(found, repository.load_blob))


def _units(entry: Entry, load: Callable[[bytes], bytes]) -> Iterator[Unit]:
    return units(entry.content or b"", entry.size, load)


def _lengths(found: list[Unit]) -> list[int]:
    return [blob.length for unit in found for blob in unit.blobs]


def test_a_stream_is_cut_alike_however_it_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backups.engine.keys.random.randbits", lambda bits: 4711)
    data = NOISE + NOISE[: 3 << 20] + b"the end"
    whole = cuts(Chunker(4711), data)

    assert _lengths(_stream(data)) == whole
    assert _lengths(_stream(data, Dripping(data, 70_001))) == whole
    assert _lengths(_stream(data, OnlyRead(data))) == whole


@pytest.mark.parametrize("size", [0, 1, 65536, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 8 << 20])
def test_a_stream_of_any_length_comes_back(size: int) -> None:
    assert sum(_lengths(_stream((NOISE * 2)[:size]))) == size


def test_a_stream_with_declared_blocks_is_cut_at_them() -> None:
    assert _lengths(_stream(NOISE[: 5 << 18], block=65536)) == [65536] * 20
    assert _lengths(_stream(NOISE[:100_000], block=4096)) == [4096] * 24 + [1696]


def test_a_stream_of_pages_is_known_by_its_beginning() -> None:
    assert set(_lengths(_stream(SQLITE))) == {65536, len(SQLITE) % 65536}


@pytest.mark.parametrize("block", [-1, 1, 511, (1 << 20) + 1, 5 << 20])
def test_blocks_of_an_impossible_size_are_refused(block: int) -> None:
    """A block greater than a buffer would never be complete, and very small ones do not fit a unit's count."""
    with pytest.raises(EngineError, match=f"blocks of {block} bytes"):
        _stream(NOISE, block=block)


@pytest.mark.parametrize("window", [2 << 20, 3_000_000, 4 << 20])
def test_a_large_file_is_cut_alike_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("backups.engine.keys.random.randbits", lambda bits: 4711)
    monkeypatch.setattr(capture, "WINDOW", window)
    data = NOISE + NOISE[: 2 << 20]
    (tmp_path / "file").write_bytes(data)
    repository = new_repository()

    done = archived(repository, scanned(tmp_path))

    found = next(e for e in entries(repository, done.snapshot) if e.path == os.fsencode(tmp_path / "file")[1:])
    assert _lengths(list(_units(found, repository.load_blob))) == cuts(Chunker(4711), data)


def test_a_page_file_is_stored_in_blocks_and_a_changed_page_costs_one(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    path.write_bytes(SQLITE)
    repository = new_repository()
    ids = []
    for name in ("one", "two"):
        done = archived(repository, scanned(tmp_path), name)
        found = next(e for e in entries(repository, done.snapshot) if e.path.endswith(b"data.db"))
        ids.append([blob.id for unit in _units(found, repository.load_blob) for blob in unit.blobs])
        path.write_bytes(SQLITE[:500_000] + b"changed" + SQLITE[500_007:])

    assert len(ids[0]) == len(ids[1]) == 17
    assert sum(one != two for one, two in zip(*ids, strict=True)) == 1
    assert all(one != two for one, two in pairwise(ids[0]))
