"""A backup that is begun again after a kill: what was stored and told of is not sent twice."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy  # noqa: F401  the first index object must not wait for it
import pytest

from backups.engine import Options, archiver, check
from backups.engine import format as fmt
from backups.engine.index import read_index
from backups.engine.store import Data
from backups.engine.stores import posix
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import archived, files_of, local_repository, new_repository, opened, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm

SCALE = 16  # packs, units and batches are so much smaller than they are


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PACK_SIZE", "FRAME_SIZE", "UNIT_SIZE"):
        monkeypatch.setattr(fmt, name, getattr(fmt, name) // SCALE)
    monkeypatch.setattr(archiver, "BATCH_BYTES", archiver.BATCH_BYTES // SCALE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty packs: small files, and large ones of several units each."""
    draw, root = random.Random(1), tmp_path / "source"
    root.mkdir()
    for number in range(12):
        (root / f"large {number}").write_bytes(draw.randbytes(5 << 19))
    for number in range(1000):
        (root / f"small {number}").write_bytes(draw.randbytes(9000))
    return root


class Noting(LocalStore):
    """Notes down when each object was durable, whichever process put it."""

    def __init__(self, path: str, notes: Path) -> None:
        super().__init__(path)
        self._notes = notes

    def fresh(self) -> Noting:
        return Noting(self._path, self._notes)

    def put(self, name: str, data: Data) -> None:
        super().put(name, data)
        with self._notes.open("ab", buffering=0) as file:
            file.write(b"%020d %s\n" % (time.monotonic_ns(), name.encode()))

    def noted(self) -> list[str]:
        """Names in the order of time."""
        return [line.split()[1] for line in sorted(self._notes.read_text().splitlines())]


def told_by(folder: Path, name: str) -> set[str]:
    """Names of the packs that an index object tells of."""
    repository = opened(LocalStore(str(folder)))
    rows = read_index(repository.sealer, name, repository.store.get(name)).packs
    return {fmt.pack_name(rows[start : start + 32]) for start in range(0, len(rows), 80)}


def test_at_no_moment_a_kill_would_cost_more_than_eight_packs(tmp_path: Path, root: Path) -> None:
    store = Noting(str(tmp_path / "store"), tmp_path / "notes")
    archived(new_repository(store), scanned(root), options=Options(workers=2))

    stored, at_stake = set[str](), list[int]()
    for name in store.noted():
        if name.startswith("packs/"):
            stored.add(name)
        elif name.startswith("index/"):
            stored -= told_by(tmp_path / "store", name)
        at_stake.append(len(stored))

    assert len(at_stake) > 40
    assert max(at_stake) <= 8
    assert at_stake[-1] == 0


def twin(store: MemoryStore) -> MemoryStore:
    """Another one of the same objects."""
    other = MemoryStore()
    for info in store.list(""):
        other.put(info.name, store.get(info.name))
    return other


@pytest.mark.parametrize("harm", [Harm.CRASH, Harm.CRASH_AFTER])
def test_a_run_killed_at_nine_tenths_sends_little_of_it_again(root: Path, harm: Harm) -> None:
    store = MemoryStore()
    new_repository(store)
    whole = FaultyStore(twin(store))  # of the same keys: content is cut at the same places
    archived(opened(whole), scanned(root))
    with suppress(Crash):
        killed = FaultyStore(store, [Fault(harm, "put", at=whole.counts["put"] * 9 // 10)])
        archived(opened(killed), scanned(root))
    left, told = packs_of(store), {pack.digest for pack in opened(store).sync_index().packs()}

    done = archived(opened(store), scanned(root))

    sent = len(packs_of(store) - left)
    assert len(left) - len(told) <= 8
    assert sent <= len(packs_of(whole.inner)) - len(told) + 1  # one more where the cuts of packs fall differently
    assert sent <= 8 + len(packs_of(whole.inner)) // 10 + 1
    assert files_of(opened(store), done.snapshot, root) == {path.name: path.read_bytes() for path in root.iterdir()}


def packs_of(store: object) -> set[str]:
    assert isinstance(store, MemoryStore)
    return {name for name in store.objects if name.startswith("packs/")}


def test_a_half_sent_pack_is_sent_anew(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is killed in the middle of writing one: half of it stays under no name of an object."""
    place = tmp_path / "store"
    local_repository(place)
    child = os.fork()
    if child == 0:
        _die_in_the_middle(monkeypatch, place, root)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    store = LocalStore(str(place))
    halves = [path for path in place.rglob(".tmp-*") if path.stat().st_size]

    done = archived(opened(store), scanned(root))

    assert len(halves) == 1
    assert check(opened(store), 3).problems == []
    assert files_of(opened(store), done.snapshot, root) == {path.name: path.read_bytes() for path in root.iterdir()}
    assert (store.sweep(0), halves[0].exists()) == (1, False)


def _die_in_the_middle(monkeypatch: pytest.MonkeyPatch, place: Path, root: Path) -> None:
    """Never returns: SIGKILL at half of the seventh pack."""
    count, write = 0, posix.write_synced

    def half(parent: int, name: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == 7:
            write(parent, name, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(parent, name, data)

    monkeypatch.setattr(posix, "write_synced", half)
    with suppress(BaseException):
        archived(opened(LocalStore(str(place))), scanned(root))
    os._exit(1)
