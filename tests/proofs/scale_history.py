"""A long history, a large file, many files: what the next run costs does not grow with what was before."""

from __future__ import annotations

import os
import statistics
import sys
import uuid
from pathlib import Path

from backups.engine import Options, Repository, archive
from backups.engine.keys import Secret
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore
from benchmarks.measure import Command, run
from tests.proofs.registry import Case, Figures, Missed, proof
from tests.proofs.workshop import MEMORY_LIMIT, MIB, PROJECT, Engine, assert_same, remove, roomy

SNAPSHOTS, EARLY = 5_000, 5
FILES = 2_000
RUNS = 7  # of which the median counts
ALIKE = (
    1.25  # how much more the next run may cost after thousands than after five: two medians of the same differ by that
)
SPARSE, DATA = 200 << 30, 2 << 30  # bytes: of the large file, and of the data in it


@proof(
    "scale", "history", "5,000 snapshots in one repository: the next incremental run costs as the fifth did", count=1
)
def five_thousand(case: Case) -> Figures:
    """Missed when the next run costs a quarter more processor time."""
    place = roomy(4 << 30, case.place)
    try:
        return _History(place).prove(SNAPSHOTS)
    finally:
        remove(place)


class _History:
    """A tree of small files of which one changes before every run."""

    def __init__(self, place: Path) -> None:
        self._source, self._turn = place / "source", 0
        for number in range(FILES):
            path = self._source / f"{number % 40:02}/{number:04}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"file {number}\n" * 20)
        self._engine = Engine(place)
        self._engine.run("init")
        self._cache = place / "cache"

    def prove(self, snapshots: int) -> Figures:
        for _ in range(EARLY - 1):
            self._next()
        early = [self._measured() for _ in range(RUNS)]
        self._many(snapshots - EARLY - RUNS)
        late = [self._measured() for _ in range(RUNS)]
        assert len(self._engine.snapshots()) >= snapshots
        check = self._engine.run("check", "--level", "1")
        assert check.result["problems"] == []
        costs = {name: statistics.median(values) for name, values in (("early", early), ("late", late))}
        figures: Figures = {
            "snapshots": snapshots, "the fifth, CPU s": round(costs["early"], 3),
            "the last, CPU s": round(costs["late"], 3), "ratio": round(costs["late"] / costs["early"], 2),
        }  # fmt: skip
        if figures["ratio"] > ALIKE:
            raise Missed(f"the next run costs {figures['ratio']} times as much", figures)
        return figures

    def _change(self) -> None:
        self._turn += 1
        number = self._turn * 7919 % FILES
        (self._source / f"{number % 40:02}/{number:04}").write_text(f"turn {self._turn}\n" * 20)

    def _next(self) -> None:
        self._change()
        self._engine.run("backup", self._source)

    def _measured(self) -> float:
        """Processor seconds of one run of the engine's command line, its processes included."""
        self._change()
        return _processor(self._engine, self._source)

    def _many(self, count: int) -> None:
        """Runs within this process: thousands of processes would take hours."""
        secret = Secret.keyfile(Path(self._engine.environment["AIHUB_KEYFILE"]).read_bytes())
        repository = Repository.open(LocalStore(self._engine.address), secret, cache=self._cache)
        root = bytes(self._source)
        facts = {"kind": "files", "roots": [os.fsdecode(root)], "excludes": []}
        for _ in range(count):
            self._change()
            archive(
                repository, scan([root], report=lambda _item: None), snapshot_id=str(uuid.uuid4()),
                facts=lambda: facts, parent=repository.snapshots[-1], options=Options(workers=0),
            )  # fmt: skip
            repository.reload_index()


@proof("scale", "sparse-file", "one file of 200 GiB with 2 GiB of data: backed up, unchanged, restored", count=1)
def sparse(case: Case) -> Figures:
    """Times in seconds; AssertionError when a process uses more memory than it may."""
    source = case.place / "source"
    source.mkdir()
    _large(source / "disk.img")
    engine = Engine(case.place)
    engine.run("init")
    runs = {"backup": engine.run("backup", source, watch=True), "unchanged": engine.run("backup", source, watch=True)}
    snapshot, target = engine.snapshots()[-1], case.place / "target"
    runs["restore"] = engine.run("restore", "--snapshot", snapshot, "--target", target, watch=True)
    assert_same(source, target)
    assert max(ran.memory for ran in runs.values()) <= MEMORY_LIMIT
    stored = sum(path.stat().st_blocks * 512 for path in target.rglob("*"))
    assert stored < DATA + (1 << 30), f"{stored >> 30} GiB on the disk: the holes were filled"
    return {f"{name}, s": round(ran.seconds, 1) for name, ran in runs.items()} | {
        f"{name}, peak MiB": round(ran.memory / MIB, 1) for name, ran in runs.items()
    }


def _large(path: Path) -> None:
    """Sixteen islands of data, evenly spread."""
    step = SPARSE // 16
    with path.open("wb") as file:
        file.truncate(SPARSE)
        for number in range(16):
            file.seek(number * step + 4096 * number)
            for _ in range(DATA // 16 >> 20):
                file.write(os.urandom(1 << 20))


@proof("scale", "many-files", "ten thousand to a million tiny files: the cost for one stays the same", count=1)
def flat(case: Case) -> Figures:
    """Missed when a file costs a third more among a million than among ten thousand."""
    costs: Figures = {}
    for count in (10_000, 100_000, 1_000_000):
        place = roomy(count * (6 << 10), case.place)
        try:
            costs[f"{count} files, CPU us a file"] = round(1e6 * _initial(place, count) / count, 1)
        finally:
            remove(place)
    least, most = costs["10000 files, CPU us a file"], costs["1000000 files, CPU us a file"]
    if most > 1.33 * least:
        raise Missed(f"{most} against {least} microseconds", costs)
    return costs


def _initial(place: Path, count: int) -> float:
    """Processor seconds of the first backup of so many files of about 400 bytes, less those of an empty one."""
    source, empty = place / "source", place / "empty"
    empty.mkdir(parents=True)
    for number in range(count):
        path = source / f"{number // 25:06}/{number:07}"
        if number % 25 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(f"{number} ".encode() * 50)
    engine = Engine(place)
    engine.run("init")
    none = _processor(engine, empty)
    return _processor(engine, source) - none


def _processor(engine: Engine, source: Path) -> float:
    """User and system seconds of a backup by the engine's command line, with all of its processes."""
    words = [sys.executable, "-m", "backups.engine", "backup", engine.address, str(source)]
    cost = run(Command(words, PROJECT, engine.environment))
    assert not cost.failure, cost.failure
    return cost.cpu
