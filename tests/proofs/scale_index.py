"""An index of a hundred million blobs: read once, opened at once, asked a million times, in bounded memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from backups.engine import format as fmt
from backups.engine.envelope import Envelope, Sealer, Section
from backups.engine.format import ObjectType, SectionKind
from backups.engine.index import BlobIndex, seal_index
from backups.engine.keys import KeyRing
from backups.engine.pack import FrameInfo, PackInfo
from backups.engine.stores.local import LocalStore
from benchmarks.measure import Watch
from tests.proofs.registry import Case, Figures, Missed, proof
from tests.proofs.workshop import MEMORY_LIMIT, MIB, PROJECT, remove

OBJECTS, PACKS, FRAMES, BLOBS = 200, 8, 16, 4096  # 200 × 8 × 16 × 4,096 = 104,857,600 blobs
LOOKUPS = 1_000_000
OPEN, ASK = 2.0, 60.0  # seconds that are promised
ID, RING = bytes(16), KeyRing(1, {1: bytes(range(32))}, bytes(32), 4711)

T = TypeVar("T")


@proof("scale", "index", "10^8 blobs: the cache is filled, opened and asked a million times", count=1)
def hundred_million(case: Case) -> Figures:
    """Figures in seconds and MiB. Missed when something takes longer than promised."""
    try:
        known = _write(case.place / "repository", case.random, OBJECTS)
        (case.place / "known").write_bytes(b"".join(known))
        filled, filling = _watched("fill", case.place)
        asked, asking = _watched("ask", case.place)
    finally:
        remove(case.place / "repository", case.place / "cache")
    figures: Figures = {
        "blobs": OBJECTS * PACKS * FRAMES * BLOBS, **{f"filling: {name}": value for name, value in filled.items()},
        **asked, "filling: peak MiB": filling / MIB, "asking: peak MiB": asking / MIB,
    }  # fmt: skip
    kept = asked["open, s"] <= OPEN and asked["a million lookups, s"] <= ASK and max(filling, asking) <= MEMORY_LIMIT
    if not kept:
        raise Missed(f"more than {OPEN} s, {ASK} s or {MEMORY_LIMIT / MIB:.0f} MiB", figures)
    return figures


def _write(place: Path, chosen: random.Random, objects: int) -> list[bytes]:
    """Index objects of packs that nobody has; some of the ids that are in them."""
    store, sealer, known = LocalStore(str(place)), Sealer(ID, RING), []
    store.create()
    for _ in range(objects):
        packs = [_pack() for _ in range(PACKS)]
        data = seal_index(sealer, packs)
        store.put(fmt.index_name(fmt.sha256(data)), data)
        for _ in range(LOOKUPS // 2 // objects):
            frame, at = chosen.choice(chosen.choice(packs).frames), 32 * chosen.randrange(BLOBS)
            known.append(frame.ids[at : at + 32])
    return known


def _pack() -> PackInfo:
    lengths = (1000).to_bytes(4, "little") * BLOBS
    frames = tuple(
        FrameInfo(Section(n, SectionKind.FRAME, 100 + 900_000 * n, 900_000, 1, 1000 * BLOBS), os.urandom(32 * BLOBS),
                  lengths) for n in range(FRAMES)
    )  # fmt: skip
    return PackInfo(os.urandom(32), Envelope(ObjectType.DATA_PACK, 1, os.urandom(32)), 16_000_000, frames)


def _watched(verb: str, place: Path) -> tuple[dict[str, float], int]:
    """What a process of its own found out, and the peak of its memory."""
    words = [sys.executable, "-m", "tests.proofs.scale_index", verb, str(place)]
    process = subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with Watch(process.pid) as watch:
        said, _ = process.communicate()
    assert process.returncode == 0, f"{verb} ended with code {process.returncode}"
    return json.loads(said), watch.peak


# --- in a process of its own ------------------------------------------------------------------------------------------


def fill(place: Path) -> Iterator[tuple[str, float]]:
    """A host without a cache reads every index object."""
    index = BlobIndex(place / "cache")
    yield "s", _seconds(lambda: index.sync(LocalStore(str(place / "repository")), Sealer(ID, RING)))[0]
    yield "segments", len(list((place / "cache").glob("*.segment")))
    yield "cache, MiB", sum(path.stat().st_size for path in (place / "cache").iterdir()) / MIB


def ask(place: Path) -> Iterator[tuple[str, float]]:
    """A process that finds the cache: half of the ids it asks for are there, the other half nowhere."""
    known = (place / "known").read_bytes()
    count = len(known) // 32
    index = BlobIndex(place / "cache")
    yield "open, s", _seconds(lambda: index.sync(LocalStore(str(place / "repository")), Sealer(ID, RING)))[0]
    hits, found = _seconds(lambda: sum(known[at : at + 32] in index for at in range(0, len(known), 32)))
    strangers = os.urandom(len(known))
    misses, wrong = _seconds(lambda: sum(strangers[at : at + 32] in index for at in range(0, len(known), 32)))
    assert (found, wrong) == (count, 0), f"{found} of {count} were found, and {wrong} that are not there"
    yield "a million lookups, s", (hits + misses) * LOOKUPS / (2 * count)
    places, _ = _seconds(lambda: sum(index.locate(known[at : at + 32]).length for at in range(0, len(known), 32)))
    yield "a million places, s", places * LOOKUPS / count


def _seconds(deed: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    found = deed()
    return time.perf_counter() - begun, found


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(dict({"fill": fill, "ask": ask}[sys.argv[1]](Path(sys.argv[2])))))
