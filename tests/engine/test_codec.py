"""Codecs: what goes in comes out, in the announced length and never more, from any number of threads."""

from __future__ import annotations

import gzip
import os
import threading
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as some

from backups.engine.codec import LEVELS, Codec, Compressor, decompress
from backups.engine.errors import EngineError

TEXT = b"All work and no play makes Jack a dull boy. " * 400


@given(data=some.binary(max_size=4096), repeat=some.integers(1, 50), codec=some.sampled_from(Codec))
def test_it_gives_back_what_went_in(data: bytes, repeat: int, codec: Codec) -> None:
    raw = data * repeat

    used, stored = Compressor(codec, LEVELS[codec][1])(raw)

    assert decompress(used, stored, len(raw)) == raw
    assert len(stored) <= len(raw)


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.GZIP])
def test_it_works_at_every_level(codec: Codec) -> None:
    low, high = LEVELS[codec]

    stored = {level: Compressor(codec, level)(TEXT) for level in range(low, high + 1)}

    assert all(decompress(used, packed, len(TEXT)) == TEXT for used, packed in stored.values() if used is codec)
    assert {used for used, _ in stored.values()} <= {codec, Codec.RAW}


@pytest.mark.parametrize("codec", Codec)
def test_it_stores_raw_what_does_not_shrink(codec: Codec) -> None:
    noise = os.urandom(10_000)

    assert Compressor(codec, LEVELS[codec][1])(noise) == (Codec.RAW, noise)


def test_it_stores_raw_when_told_not_to_compress() -> None:
    assert Compressor(Codec.RAW)(TEXT) == (Codec.RAW, TEXT)


@pytest.mark.parametrize(("codec", "level"), [(Codec.ZSTD, 20), (Codec.ZSTD, -8), (Codec.GZIP, 0), (Codec.GZIP, 10)])
def test_it_refuses_a_level_its_codec_does_not_know(codec: Codec, level: int) -> None:
    with pytest.raises(EngineError, match=f"Level {level} is not one of {codec.name.lower()}"):
        Compressor(codec, level)


@pytest.mark.parametrize("codec", [Codec.ZSTD, Codec.GZIP])
@pytest.mark.parametrize("announced", [0, len(TEXT) - 1, len(TEXT) + 1, 1 << 40])
def test_it_refuses_another_length_than_announced(codec: Codec, announced: int) -> None:
    _, stored = Compressor(codec, 3)(TEXT)

    with pytest.raises(ValueError, match=r"announced|announces"):
        decompress(codec, stored, announced)


@pytest.mark.parametrize(
    "bomb",
    [
        (Codec.ZSTD, zstandard.ZstdCompressor().compress(bytes(64 << 20))),
        (Codec.GZIP, gzip.compress(bytes(64 << 20))),
    ],
    ids=["zstd", "gzip"],
)
def test_a_bomb_costs_no_more_memory_than_it_announces(bomb: tuple[Codec, bytes]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"announced|announces"):
            decompress(*bomb, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


def _without_length() -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)


@pytest.mark.parametrize(
    ("codec", "stored"),
    [
        (Codec.ZSTD, b"no zstd at all"),
        (Codec.ZSTD, Compressor(Codec.ZSTD)(TEXT)[1][:-3]),
        (Codec.ZSTD, bytes(Compressor(Codec.ZSTD)(TEXT)[1]) + b"more"),
        (Codec.ZSTD, _without_length()),
        (Codec.GZIP, b"no gzip at all"),
        (Codec.GZIP, gzip.compress(TEXT)[:-3]),
        (Codec.GZIP, gzip.compress(TEXT) + b"more"),
        (Codec.RAW, TEXT[:-1]),
        (3, TEXT),
    ],
    ids=["zstd junk", "zstd cut", "zstd tail", "zstd sizeless", "gzip junk", "gzip cut", "gzip tail", "raw", "unknown"],
)
def test_it_tells_damage_as_one_kind_of_error(codec: int, stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"zstd|gzip|announced|unknown"):
        decompress(codec, stored, len(TEXT))


def test_one_compressor_serves_many_threads() -> None:
    shared, wrong = Compressor(Codec.ZSTD, 3), []
    pieces = [os.urandom(100) * (50 * n) + os.urandom(20_000) for n in range(1, 9)]

    def work() -> None:
        for raw in pieces * 10:
            used, stored = shared(raw)
            if decompress(used, stored, len(raw)) != raw:
                wrong.append(used)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
