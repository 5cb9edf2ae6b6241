"""Hard trees through the engine's command line: equal when they come back, every oddity told, memory bounded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trees import Hardships, grow
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.unrest import Unrest
from tests.proofs.workshop import MEMORY_LIMIT, MIB, OK, WARNINGS, Engine, Ran, assert_same, remove, roomy

MILLION = 1_000_000
BYTES_A_FILE = 8 << 10  # that a small file takes in memory on average, its inode included


@proof("engine", "hard-tree", "40,000 files, 1 GB, sparse 100 GiB, everything odd, changing while it is read", count=1)
def hard_tree(case: Case) -> Figures:
    return HardTree(case.place, case.place / "source", Hardships()).prove(case.random.randrange(1 << 30))


@proof("engine", "million-files", "the same tree with a million small files", count=1)
def million_files(case: Case) -> Figures:
    hardships = Hardships(files=MILLION, large=256 << 20)
    room = roomy(MILLION * BYTES_A_FILE, case.place)
    try:
        return HardTree(room, room / "source", hardships, whole=False).prove(case.random.randrange(1 << 30))
    finally:
        remove(room)


@dataclass
class HardTree:
    """The story of one tree: backed up while a part of it changes, restored, backed up at rest, restored, checked.

    place   of repository and targets; source: of the tree, which may not exist yet
    whole   whether the first snapshot is restored whole, or only its changing part
    growth  bytes that each growing file may reach
    """

    place: Path
    source: Path
    hardships: Hardships
    whole: bool = True
    growth: int = 64 << 20

    def prove(self, seed: int) -> Figures:
        self.source.mkdir(parents=True)
        left_out = grow(os.fsencode(self.source / "still"), self.hardships)
        self.engine = Engine(self.place, passphrase="a long and hard tree")
        self.engine.run("init")
        unrest = Unrest(self.source / "moving", seed, self.growth)
        with unrest:
            first = self._measured("backup", self.source)
        restored = self._bring_back(first.result["snapshot"], unrest, first.about(self.source / "moving"))
        second = self._measured("backup", self.source)
        self._only_the_socket(first, second)
        back = self._bring_all_back(second.result["snapshot"])
        check = self._measured("check", "--read-data", codes=(OK,))
        assert check.result["problems"] == []
        runs = {"backup": first, "unchanged": second, "restore": back or restored, "check": check}
        return {**_costs(runs), **_counts(first, second), "left out": len(left_out)}

    def _measured(self, verb: str, *words: str | Path, codes: tuple[int, ...] = (OK, WARNINGS)) -> Ran:
        ran = self.engine.run(verb, *words, watch=True, codes=codes)
        assert ran.memory <= MEMORY_LIMIT, f"{verb} used {ran.memory / MIB:.0f} MiB"
        return ran

    def _bring_back(self, snapshot: str, unrest: Unrest, reported: dict[bytes, str]) -> Ran:
        """What was stored in the middle of the changes: the part at rest is equal, the rest can be true."""
        target = self.place / "first"
        chosen = [] if self.whole else ["--include", str(self.source / "moving")]
        ran = self._restore(snapshot, target, *chosen)
        if self.whole:
            assert_same(self.source / "still", target / "still")
        unrest.judge(target / "moving", reported)
        remove(target)
        return ran

    def _bring_all_back(self, snapshot: str) -> Ran:
        """What was stored at rest: all of it is equal."""
        target = self.place / "second"
        ran = self._restore(snapshot, target)
        assert_same(self.source, target)
        remove(target)
        return ran

    def _restore(self, snapshot: str, target: Path, *chosen: str) -> Ran:
        privileges = ["--privileges"] if os.geteuid() == 0 else []
        codes = (OK,) if privileges else (OK, WARNINGS)  # others than root are told what they may not give back
        return self._measured("restore", "--snapshot", snapshot, "--target", target, *privileges, *chosen, codes=codes)

    def _only_the_socket(self, *runs: Ran) -> None:
        """Of the part at rest, and of everything once it rests, nothing but the socket is odd."""
        for number, ran in enumerate(runs):
            root = self.source / "still" if number == 0 else self.source
            odd = {path.removeprefix(b"still/"): said for path, said in ran.about(root).items()}
            assert list(odd) == [b"special/socket"], f"reported: {sorted(odd)[:5]}"
            assert "socket" in odd[b"special/socket"]


def _costs(runs: dict[str, Ran]) -> Figures:
    seconds = {f"{name}, s": round(ran.seconds, 1) for name, ran in runs.items()}
    return seconds | {f"{name}, peak MiB": round(ran.memory / MIB, 1) for name, ran in runs.items()}


def _counts(first: Ran, second: Ran) -> Figures:
    return {
        "items": second.result["items"],
        "content, MiB": round(second.result["bytes"] / MIB),
        "stored, MiB": round((first.result["bytes_stored"] + second.result["bytes_stored"]) / MIB),
        "oddities told": len(first.said),
    }
