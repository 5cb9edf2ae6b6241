"""kill -9 of a compaction at random moments: what is left restores, and the next run finishes."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.proofs.engine_kills import Scale, bulk, mutate, plant
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import MIB, OK, Engine, Ran, Running, assert_same, copy, remove, roomy

# What a console's runner does when nobody else is at work; the engine's own command would wait for a day.
AT_ONCE = """
import json, os, sys
from pathlib import Path
from backups.engine import CompactOptions, Repository, Secret, compact, open_store
store = open_store("local", {"path": sys.argv[1]})
secret = Secret.keyfile(Path(os.environ["AIHUB_KEYFILE"]).read_bytes())
repository = Repository.open(store, secret, cache=Path(os.environ["AIHUB_CACHE_DIR"]))
done = compact(repository, CompactOptions(unused=0.0, grace=0.0), wait=lambda _marks: True)
print(json.dumps(done.pack()))
"""


FULL = Scale(bulk=120 << 20)  # bytes that mostly forgotten snapshots hold


@proof("compaction", "killed-compaction", "kill -9 at a random moment of a compaction", count=60)
def killed_compaction(case: Case) -> Figures:
    return _proved(case, kills=1)


@proof("compaction", "killed-again", "five kills of the same compaction on end", count=10)
def killed_again(case: Case) -> Figures:
    return _proved(case, kills=5)


def _proved(case: Case, kills: int) -> Figures:
    place = roomy(6 * FULL.bulk, case.place)
    try:
        return KilledCompaction(place, case.random, FULL).prove(kills)
    finally:
        remove(place)


class KilledCompaction:
    """Four states of a tree, two of them forgotten, and a compaction that is killed."""

    def __init__(self, place: Path, source: random.Random, scale: Scale) -> None:
        self.place, self.random, self.scale = place, source, scale
        self.engine = Engine(place)
        self.source = place / "source"
        self.states: dict[str, Path] = {}  # snapshot id → what the source was then

    def prove(self, kills: int) -> Figures:
        """Kill, look at everything that is left, let a run succeed, look again; figures of it all."""
        self._grow()
        before, undisturbed, seconds = self._size(), *self._undisturbed()
        late = sum(self._kill(seconds) for _ in range(kills))
        ran = self._compact(self.engine.repository).end()
        assert ran.code == OK, ran.said
        self._all_there()
        after = self._size()
        assert after <= undisturbed + 2 * MIB, f"{after} bytes are left; undisturbed {undisturbed:.0f}"
        return {"MiB before": round(before / MIB, 1), "MiB after": round(after / MIB, 1),
                "undisturbed, s": round(seconds, 2), "kills that came too late": late}  # fmt: skip

    def _grow(self) -> None:
        self.engine.run("init")
        plant(self.source, self.scale, self.random)
        bulk(self.source / "bulk", self.scale, self.random)
        gone = [self._backup()]
        for path in sorted((self.source / "bulk").iterdir())[::2]:
            path.unlink()
        mutate(self.source, self.random)
        self._keep(self._backup())
        remove(self.source / "bulk")
        mutate(self.source, self.random)
        gone.append(self._backup())
        mutate(self.source, self.random)
        self._keep(self._backup())
        self.engine.run("forget", *gone)

    def _backup(self) -> str:
        return str(self.engine.run("backup", self.source, codes=(OK,)).result["snapshot"])

    def _keep(self, snapshot: str) -> None:
        self.states[snapshot] = copy(self.source, self.place / f"state-{len(self.states)}")

    def _undisturbed(self) -> tuple[int, float]:
        """Bytes that are left, and seconds that it takes, where nobody kills: in a copy."""
        twin = copy(self.engine.repository, self.place / "twin")
        ran = self._compact(twin, AIHUB_CACHE_DIR=str(self.place / "another cache")).end()
        assert ran.code == OK, ran.said
        size = _size(twin)
        remove(twin)
        return size, ran.seconds

    def _compact(self, repository: Path, **variables: str) -> Running:
        return Running([sys.executable, "-c", AT_ONCE, str(repository)], {**self.engine.environment, **variables})

    def _kill(self, seconds: float) -> bool:
        """Kill one run somewhere; True when it had come to its end before."""
        running = self._compact(self.engine.repository)
        time.sleep(self.random.uniform(0.15, 1.0) * seconds)
        over = running.over
        running.kill()
        running.sweep()
        self._all_there()
        return over

    def _all_there(self) -> None:
        assert set(self.engine.snapshots()) == set(self.states)
        assert self.engine.run("check", "--read-data", codes=(OK,)).result["problems"] == []
        for snapshot, state in self.states.items():
            back = self.place / "back"
            self._restored(snapshot, back)
            assert_same(state, back)
            remove(back)

    def _restored(self, snapshot: str, target: Path) -> Ran:
        return self.engine.run("restore", "--snapshot", snapshot, "--target", target, "--privileges")

    def _size(self) -> int:
        return _size(self.engine.repository)


def _size(repository: Path) -> int:
    return sum(path.stat().st_size for path in (repository / "packs").rglob("*") if path.is_file())
