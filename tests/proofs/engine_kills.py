"""kill -9 of the engine and of its worker processes at random moments: nothing half, nothing lost, nothing left."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backups.engine import format as fmt
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import (
    FAILED,
    IN_THE_WAY,
    OK,
    Engine,
    Ran,
    Running,
    assert_same,
    copy,
    eventually,
    remove,
    roomy,
)

GONE_WITHIN = 2.0  # seconds after which no process of a killed run may live
# Packs that a killed run stored and nobody finds again: those that waited for their index object, what two workers and
# the tree's packer had not told yet among them.
LOST_AT_MOST = fmt.PACKS_PER_INDEX


@dataclass(frozen=True)
class Scale:
    """files: small ones; early: bytes of each earlier state; bulk: bytes the killed run has to store."""

    files: int = 1500
    early: int = 8 << 20
    bulk: int = 400 << 20

    @property
    def objects(self) -> int:
        """How many objects the killed run would put: packs, index objects, tree pack and record."""
        packs = self.bulk // fmt.PACK_SIZE
        return packs + packs // fmt.PACKS_PER_INDEX + 2


FULL = Scale()


@proof("engine", "killed-engine", "kill -9 of the engine at a random moment of a backup", count=60)
def killed_engine(case: Case) -> Figures:
    with room(case, FULL) as place:
        return KilledBackup(place, case.random, FULL).prove(["engine"])


@proof("engine", "killed-late", "kill -9 of the engine when nine tenths of a backup are stored", count=12)
def killed_late(case: Case) -> Figures:
    with room(case, FULL) as place:
        return KilledBackup(place, case.random, FULL).prove(["engine"], share=0.9)


@proof("engine", "killed-worker", "kill -9 of a worker process at a random moment of a backup", count=60)
def killed_worker(case: Case) -> Figures:
    with room(case, FULL) as place:
        return KilledBackup(place, case.random, FULL).prove(["worker"])


@proof("engine", "killed-again", "six kills of the same backup on end, of engine and workers in turn", count=6)
def killed_again(case: Case) -> Figures:
    with room(case, FULL) as place:
        return KilledBackup(place, case.random, FULL).prove(["engine", "worker"] * 3)


@proof("engine", "killed-restore", "kill -9 of the engine or a worker at a random moment of a restore", count=40)
def killed_restore(case: Case) -> Figures:
    with room(case, FULL) as place:
        story = KilledRestore(place, case.random, FULL)
        return story.prove("worker" if case.number % 2 else "engine", there=case.number % 4 >= 2)


@proof("engine", "continued-restore", "kill -9 of a restore at nine tenths: the next keeps what was whole", count=12)
def continued_restore(case: Case) -> Figures:
    with room(case, FULL) as place:
        story = KilledRestore(place, case.random, FULL)
        return story.prove("engine", there=case.number % 2 == 1, share=0.9)


@proof("engine", "killed-init", "kill -9 of the engine at a random moment of making a repository", count=20)
def killed_init(case: Case) -> Figures:
    engine = Engine(case.place)
    running = engine.start("init")
    time.sleep(case.random.uniform(0, 0.5))
    strike(running, "engine", case.random)
    made = engine.run("init", codes=(OK, IN_THE_WAY))
    assert made.code == OK or "holds a repository already" in made.said[0], made.said
    assert engine.run("check", "--read-data", codes=(OK,)).result["problems"] == []
    return {"was made before the kill": int(made.code == IN_THE_WAY)}


@contextmanager
def room(case: Case, scale: Scale) -> Iterator[Path]:
    """A directory for one story, in memory where there is enough of it."""
    place = roomy(4 * scale.bulk, case.place)
    try:
        yield place
    finally:
        remove(place)


def strike(running: Running, victim: str, source: random.Random) -> float:
    """Kill the engine or one of its workers; the seconds until nothing of the run lived any more, if anything did."""
    if victim == "worker":
        return _strike_worker(running, source)
    running.kill()
    return _gone(running)


def _strike_worker(running: Running, source: random.Random) -> float:
    """The engine itself notices, says so and ends; it may also have had no more need of the worker."""
    pids, begun = running.children, time.monotonic()
    if pids:
        running.kill(source.choice(pids))
    ran = running.end(30)
    assert ran.code == OK or (ran.code == FAILED and "Worker process" in ran.said[-1]), ran.said
    _gone(running)
    return time.monotonic() - begun if ran.code else 0.0


def _gone(running: Running) -> float:
    begun = time.monotonic()
    try:
        eventually(lambda: not running.alive(), GONE_WITHIN, "all processes of the killed run have ended")
    finally:
        running.sweep()
    return time.monotonic() - begun


def plant(root: Path, scale: Scale, source: random.Random) -> None:
    """Small files and one larger one of the early states; incompressible, so that sizes are predictable."""
    for number in range(scale.files):
        folder = root / f"{number // 100:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}").write_bytes(source.randbytes(source.choice((0, 90, 2000, 9000))))
    (root / "middle").write_bytes(source.randbytes(scale.early))


def mutate(root: Path, source: random.Random) -> None:
    """A day's changes: some files new, some changed, some gone, some renamed."""
    paths = sorted(path for path in root.glob("???/*") if path.is_file())
    for path in source.sample(paths, len(paths) // 10):
        deed = source.randrange(3)
        if deed == 0:
            path.write_bytes(source.randbytes(3000))
        elif deed == 1:
            path.unlink()
        else:
            path.rename(path.with_name(f"moved-{path.name}"))
    with (root / "middle").open("r+b") as file:
        file.seek(source.randrange(1 << 20))
        file.write(source.randbytes(5000))


def bulk(folder: Path, scale: Scale, source: random.Random) -> None:
    """What the killed run has to store: files of all sizes in a new folder."""
    folder.mkdir()
    left, number = scale.bulk, 0
    while left > 0:
        size = min(left, source.choice((20_000, 150_000, 3 << 20, 40 << 20)))
        (folder / f"{number:05d}").write_bytes(source.randbytes(size))
        left, number = left - size, number + 1


class KilledBackup:
    """Two earlier snapshots, a backup of much new data that is killed, and the proof that nothing came of it."""

    def __init__(self, place: Path, source: random.Random, scale: Scale) -> None:
        self.place, self.random, self.scale = place, source, scale
        self.engine = Engine(place)
        self.source = place / "source"
        self.states: dict[str, Path] = {}  # snapshot id → what the source was then
        self._late = 0  # kills that met a run which had committed

    def prove(self, victims: list[str], share: float | None = None) -> Figures:
        """Kill as often as there are victims (engine or worker), then let the run succeed; figures of it all.

        share: of the backup that is stored when it is killed; None: by chance
        """
        self._share = share
        self._earlier()
        gone = [self._killed(victim) for victim in victims]
        left = len(self.engine.objects("packs") - self._packs)
        lost = self._next_run()
        assert lost <= LOST_AT_MOST * len(victims), f"{lost} of {left} packs are not used again"
        figures = {"gone after, s": round(max(gone), 2), "packs left by the kills": left}
        figures |= {"packs used again": left - lost, "packs sent again": lost}
        return figures | {"kills that came too late": self._late}

    def _earlier(self) -> None:
        self.engine.run("init")
        plant(self.source, self.scale, self.random)
        self._remember(self._backup().result["snapshot"])
        mutate(self.source, self.random)
        self._remember(self._backup().result["snapshot"])
        self._more()

    def _more(self) -> None:
        """Give the next run something to do."""
        remove(self.source / "bulk")
        bulk(self.source / "bulk", self.scale, self.random)
        self._packs, self._unused = self.engine.objects("packs"), self._check("1")

    def _backup(self) -> Ran:
        return self.engine.run("backup", self.source, codes=(OK,))

    def _remember(self, snapshot: str) -> None:
        self.states[snapshot] = copy(self.source, self.place / f"state-{snapshot}")

    def _check(self, level: str) -> int:
        """How many packs no index knows; nothing may be wrong."""
        found = self.engine.run("check", "--level", level, codes=(OK,)).result
        assert found["problems"] == []
        return int(found["unused_packs"])

    # the kill

    def _killed(self, victim: str) -> float:
        """Kill until a kill meets a run that has not committed; the seconds until nothing of it lived."""
        while True:
            running = self.engine.start("backup", self.source)
            self._wait(running, needs_worker=victim == "worker")
            gone = strike(running, victim, self.random)
            if not self._committed():
                self._restores(self.random.choice(sorted(self.states)))
                return gone
            self._late += 1
            self._more()

    def _wait(self, running: Running, *, needs_worker: bool) -> None:
        """Until a random moment: some while after the start, or after so many objects were put."""
        wanted, before = self.random.randrange(self.scale.objects), self._count()
        if self._share is not None:
            wanted = round(self._share * self.scale.objects)
        while not running.over and (self._count() - before < wanted or (needs_worker and not running.children)):
            time.sleep(0.005)
        if self._share is None:
            time.sleep(self.random.uniform(0, 0.05 if wanted else 1.0))

    def _count(self) -> int:
        return sum(len(self.engine.objects(kind)) for kind in ("packs", "index", "log"))

    # the proof

    def _committed(self) -> bool:
        """What is listed is what was there before, or also the new snapshot; then it is whole."""
        listed = set(self.engine.snapshots())
        assert listed >= self.states.keys(), "an earlier snapshot is gone"
        new = listed - self.states.keys()
        for snapshot in new:
            self._remember(snapshot)
            self._restores(snapshot)
        return bool(new)

    def _restores(self, snapshot: str) -> None:
        target = self.place / "target"
        self.engine.run("restore", "--snapshot", snapshot, "--target", target, codes=(OK,))
        assert_same(self.states[snapshot], target)
        remove(target)

    def _next_run(self) -> int:
        """It succeeds by itself and all snapshots restore identical; how many packs of the killed runs are lost."""
        ran = self._backup()
        self.states[ran.result["snapshot"]] = self.source
        lost = self._check("3") - self._unused
        assert sorted(self.states) == sorted(self.engine.snapshots())
        for snapshot in self.states:
            self._restores(snapshot)
        return lost


class KilledRestore:
    """One snapshot whose restore is killed: its target is as it was, or whole; the next restore succeeds."""

    def __init__(self, place: Path, source: random.Random, scale: Scale) -> None:
        self.place, self.random, self.scale = place, source, scale
        self.engine, self.source, self.target = Engine(place), place / "source", place / "wanted" / "target"

    def prove(self, victim: str, *, there: bool, share: float | None = None) -> Figures:
        """there: whether the target exists already, empty. share: of the data that is written at the kill; None: by
        chance."""
        seconds = self._prepare()
        if there:
            self.target.mkdir(parents=True)
        running = self.engine.start("restore", "--target", self.target)
        if share is None:
            self._wait(running, self.random.uniform(0, seconds), needs_worker=victim == "worker")
        else:
            self._wait_until_written(running, share)
        gone = strike(running, victim, self.random)
        whole = self._old_or_new(there)
        kept = self._next_restore()
        return {"gone after, s": round(gone, 2), "finished before the kill": int(whole), "MiB not written again": kept}

    def _prepare(self) -> float:
        """A snapshot, and how long its restore takes, in seconds."""
        self.engine.run("init")
        plant(self.source, self.scale, self.random)
        bulk(self.source / "bulk", self.scale, self.random)
        self.engine.run("backup", self.source, codes=(OK,))
        ran = self.engine.run("restore", "--target", self.target, codes=(OK,))
        remove(self.target.parent)
        return ran.seconds

    def _wait(self, running: Running, seconds: float, *, needs_worker: bool) -> None:
        time.sleep(seconds)
        while needs_worker and not running.over and not running.children:
            time.sleep(0.005)

    def _wait_until_written(self, running: Running, share: float) -> None:
        wanted = share * (self.scale.early + self.scale.bulk)
        while not running.over and measured(self.place / "wanted") < wanted:
            time.sleep(0.002)

    def _old_or_new(self, there: bool) -> bool:
        """True when the restore had come to its end. No name of the target shows half a file, whatever happened."""
        names = self._names()
        if names:
            shutil.copytree(self.target, self.place / "seen", symlinks=True, ignore=_ours)
            self._true_so_far(self.place / "seen")
        else:
            assert self.target.exists() == there
        return len(names) == len(os.listdir(self.source))

    def _names(self) -> list[str]:
        return [name for name in os.listdir(self.target) if not _is_ours(name)] if self.target.exists() else []

    def _true_so_far(self, seen: Path) -> None:
        for folder, _, names in os.walk(seen):
            for name in names:
                path = Path(folder, name)
                assert path.read_bytes() == (self.source / path.relative_to(seen)).read_bytes(), f"{name} is half"

    def _next_restore(self) -> int:
        """The same one is continued, unless it had come to its end; how many MiB of the killed one it keeps."""
        if self._names():
            remove(self.target)
        ran = self.engine.run("restore", "--target", self.target, codes=(OK,))
        assert_same(self.source, self.target)
        beside = os.listdir(self.target.parent)
        assert beside == [self.target.name], f"left beside the target: {beside}"
        return int(ran.result["kept"]) >> 20


def measured(folder: Path) -> int:
    """Bytes on the disk of all files below a folder that may change meanwhile; 0 when it is not there."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
    return total


def _is_ours(name: str) -> bool:
    return name.startswith(".aihub-restore-")


def _ours(_: object, names: list[str]) -> list[str]:
    return [name for name in names if _is_ours(name)]
