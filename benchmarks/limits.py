"""What this machine's primitives reach alone: the ceiling that no engine built on them can pass."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backups.engine.chunker import Chunker
from backups.engine.stores.local import LocalStore
from benchmarks import corpus
from benchmarks.report import table

BUFFER = 1 << 20  # bytes handled by one call, as in the engine
SAMPLE = 16  # buffers of each kind of data
TRIES = 5  # the best counts: the others were disturbed

# Bytes of each kind in the corpus at scale 1, and how many of them are left after deduplication.
KINDS: Mapping[str, tuple[float, float]] = {
    "src": (274e6, 274e6),
    "models": (990e6, 712e6),
    "logs": (450e6, 450e6),
    "pages": (300e6, 300e6),
}

Deed = Callable[[bytes], object]


class Limit(NamedTuple):
    """MB/s of one primitive with one thread, and with one per core."""

    name: str
    alone: float
    together: float


def measure(disk: Path) -> list[Limit]:
    """Hashes, cipher and chunker on weights; zstd on each kind of data; reading and writing below disk."""
    data = samples()
    key = AESGCM(bytes(32))
    sealed = [key.encrypt(bytes(12), buffer, None) for buffer in data["models"]]
    limits = [
        _limit("SHA-256", data["models"], lambda buffer: hashlib.sha256(buffer).digest()),
        _limit("BLAKE3, keyed", data["models"], lambda buffer: blake3(buffer, key=bytes(32)).digest()),
        _limit("FastCDC", data["models"], _chunker()),
        _limit("AES-256-GCM, seal", data["models"], lambda buffer: key.encrypt(bytes(12), buffer, None)),
        _limit("AES-256-GCM, open", sealed, lambda buffer: key.decrypt(bytes(12), buffer, None)),
        _limit("memory copy", data["models"], bytearray),
    ]
    for kind, buffers in data.items():
        packed = [zstandard.ZstdCompressor(level=1).compress(buffer) for buffer in buffers]
        limits.append(_limit(f"zstd 1, {kind}", buffers, _compress))
        limits.append(_limit(f"unzstd, {kind}", packed, _decompress, per_call=BUFFER))
    return [*limits, *_disk_limits(disk, b"".join(data["models"]))]


def samples() -> dict[str, list[bytes]]:
    """Some MB of each kind of the corpus, cut into buffers."""
    rng = np.random.default_rng(1)
    text = corpus.TextSource(rng)
    size = SAMPLE * BUFFER
    words = [word.encode() for word in text.words]
    raw = {
        "src": b"".join(text.file(rng, 30_000, number)[1] for number in range(size // 29_000)),
        "models": corpus.weights(rng, size),
        "logs": b"".join(corpus.log_blocks(rng, size, 0)),
        "pages": corpus.heap_pages(rng, 0, size // corpus.PAGE, words),
    }
    return {kind: [data[at : at + BUFFER] for at in range(0, len(data), BUFFER)] for kind, data in raw.items()}


def ceiling(limits: list[Limit], cores: int) -> float:
    """Seconds that an initial backup of the corpus at scale 1 takes at least: each byte is read, chunked and hashed,
    what is new is compressed, and what that leaves is sealed and written."""
    rate = {limit.name: limit.alone * 1e6 for limit in limits}
    seconds = 0.0
    ratio = _ratios()
    for kind, (size, new) in KINDS.items():
        seconds += size / rate["read, warm"] + size / rate["FastCDC"] + size / rate["BLAKE3, keyed"]
        seconds += new / rate[f"zstd 1, {kind}"]
        seconds += new / ratio[kind] * (1 / rate["AES-256-GCM, seal"] + 1 / rate["put of 16 MiB objects"])
    return seconds / cores


def text(limits: list[Limit], cores: int) -> str:
    """The limits as a Markdown table, with the ceiling below."""
    rows = [[limit.name, f"{limit.alone:,.0f}", f"{limit.together:,.0f}"] for limit in limits]
    best = ceiling(limits, cores)
    total = sum(size for size, _ in KINDS.values()) / 1e6
    return (
        f"## Limits of this machine, MB/s\n\n{table(['primitive', '1 thread', f'{cores} threads'], rows)}\n"
        f"Initial backup of the corpus ({total:,.0f} MB), if nothing else cost anything: {best:.2f} s on {cores} cores,"
        f" {total / best:,.0f} MB/s.\n"
    )


def _limit(name: str, buffers: list[bytes], deed: Deed, per_call: int = 0) -> Limit:
    size = per_call * len(buffers) or sum(map(len, buffers))
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        alone = min(_timed(lambda: _each(deed, buffers)) for _ in range(TRIES))
        together = min(
            _timed(lambda: list(pool.map(lambda _: _each(deed, buffers), range(cores)))) for _ in range(TRIES)
        )
    return Limit(name, size / alone / 1e6, size * cores / together / 1e6)


def _each(deed: Deed, buffers: list[bytes]) -> None:
    for buffer in buffers:
        deed(buffer)


def _timed(deed: Callable[[], object]) -> float:
    begun = time.perf_counter()
    deed()
    return time.perf_counter() - begun


def _chunker() -> Deed:
    chunker = Chunker(seed=1)
    return lambda buffer: list(chunker.cut(memoryview(buffer), True))


def _compress(buffer: bytes) -> bytes:
    # A compressor is not safe for threads, and making one costs nothing beside a buffer's work.
    return zstandard.ZstdCompressor(level=1).compress(buffer)


def _decompress(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=BUFFER)


def _ratios() -> dict[str, float]:
    return {kind: len(b"".join(b)) / sum(len(_compress(x)) for x in b) for kind, b in samples().items()}


def _disk_limits(disk: Path, data: bytes) -> Iterator[Limit]:
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        store = LocalStore(folder)
        store.create()
        names = iter(f"packs/{number}" for number in range(1000))
        yield _limit("put of 16 MiB objects", [data] * 2, lambda buffer: store.put(next(names), buffer))
        yield _limit("put of 16 KiB objects", [data[: 16 << 10]] * 20, lambda buffer: store.put(next(names), buffer))
        yield _limit("read, warm", [data], lambda buffer: store.get("packs/0"))
