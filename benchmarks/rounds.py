"""Rounds: in each, every tool does every phase once, back to back and in an order that rotates between rounds.

So every ratio is taken within one round, on the same data and the same mood of the machine; then the median is told.
The page cache is warm throughout: processor and write path are measured, not cold reads.

On ext4, creating files within minutes of deleting tens of thousands costs up to 0.6 ms of kernel time a file
(recently_deleted() in its inode allocator). Nothing that is measured may pay for that: sources and restores are on
tmpfs where there is room, what is on disk goes to fresh folders, and those are removed only at the very end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import corpus
from benchmarks.compare import CONTENT, MODE, MTIME, same_tree
from benchmarks.machine import file_system
from benchmarks.measure import Cost, run
from benchmarks.peers import Peer, Stage

INITIAL, UNCHANGED, MUTATED, RESTORE, DISK, CHECK = (
    "initial",
    "unchanged",
    "mutated",
    "restore",
    "restore to disk",
    "check",
)
BACKUPS = (INITIAL, UNCHANGED, MUTATED)


class Scenario(NamedTuple):
    """A kind of data, and what is done with it."""

    name: str
    generate: Callable[[Path], None]
    phases: tuple[str, ...]


def platform(scale: float, *, disk: bool = False) -> Scenario:
    """The mixed corpus; at scale 1 it has 2.0 GB."""
    phases = (*BACKUPS, RESTORE, *((DISK,) if disk else ()), CHECK)
    return Scenario(f"platform, scale {scale:g}", lambda root: corpus.generate(root, scale), phases)


def tiny(files: int) -> Scenario:
    """Many tiny files, where the cost is per file."""
    phases = (INITIAL, UNCHANGED, RESTORE)
    return Scenario(f"{files:,} tiny files", lambda root: corpus.generate_tiny(root, files), phases)


@dataclass(frozen=True)
class Row:
    """One phase of one tool in one round. Round 0 is watched for memory, and its times are not compared."""

    scenario: str
    tool: str
    phase: str
    round: int
    wall: float  # seconds
    cpu: float  # seconds, user + system
    sync: float  # seconds
    memory: int | None  # bytes
    files: int  # of the source
    bytes: int  # of the source
    repository: int  # bytes, after the phase
    failure: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Places:
    """Folders made for this run: work is on the disk under test, quick on tmpfs where there is room."""

    work: Path
    quick: Path

    @property
    def quick_is_memory(self) -> bool:
        return file_system(self.quick) == "tmpfs"


def measure(scenario: Scenario, peers: list[Peer], places: Places, rounds: int) -> Iterator[Row]:
    """Round 0 with the memory watch, then the timed ones; a row as soon as it is known."""
    original = places.work / f"corpus-{scenario.name.replace(' ', '-').replace(',', '')}"
    scenario.generate(original)
    for number in range(rounds + 1):
        yield from _Round(scenario, peers, places, original, number).rows()


class _Round:
    def __init__(self, scenario: Scenario, peers: list[Peer], places: Places, original: Path, number: int) -> None:
        self._scenario = scenario
        self._peers = peers[number % len(peers) :] + peers[: number % len(peers)]
        self._places = places
        self._original = original
        self._number = number
        self._backups = 0
        self._work = Path(tempfile.mkdtemp(prefix=f"round-{number}-", dir=places.work))
        self._source = Path(tempfile.mkdtemp(prefix="source-", dir=places.quick)) / "tree"

    def rows(self) -> Iterator[Row]:
        with ExitStack() as stack:
            if self._places.quick_is_memory:
                stack.callback(shutil.rmtree, self._source.parent, ignore_errors=True)
            subprocess.run(["cp", "-a", str(self._original), str(self._source)], check=True)
            for peer in self._peers:
                self._stage(peer).home.mkdir(parents=True)
                _must(peer, run(peer.init(self._stage(peer))))
            for phase in self._scenario.phases:
                yield from self._phase(phase)

    def _phase(self, phase: str) -> Iterator[Row]:
        if phase == MUTATED:
            corpus.mutate(self._source)
        if phase in BACKUPS:
            self._backups += 1
            warm(self._source)
        size = corpus.size_of(self._source)
        for peer in self._peers:
            cost = self._restore(peer, phase) if phase in (RESTORE, DISK) else self._simple(peer, phase)
            kept = corpus.size_of(self._stage(peer).repository).bytes
            yield Row(self._scenario.name, peer.name, phase, self._number, *cost[:4], *size, kept, cost.failure)

    def _stage(self, peer: Peer, target: Path = Path()) -> Stage:
        home = self._work / f"{peer.name}-home"
        return Stage(self._work / peer.name, self._source, target, home, self._backups)

    def _simple(self, peer: Peer, phase: str) -> Cost:
        verb = peer.check if phase == CHECK else peer.backup
        return run(verb(self._stage(peer)), watch=self._number == 0)

    def _restore(self, peer: Peer, phase: str) -> Cost:
        folder = self._work if phase == DISK else self._places.quick
        target = Path(tempfile.mkdtemp(prefix=f"restored-{peer.name}-", dir=folder))
        try:
            cost = run(peer.restore(self._stage(peer, target)), watch=self._number == 0)
            if self._number == 0 and not cost.failure:
                cost = cost._replace(failure=self._differences(target))
            return cost
        finally:
            if file_system(target) == "tmpfs":
                shutil.rmtree(target)

    def _differences(self, target: Path) -> str:
        """What a restore got wrong, once a tool; "" when nothing. Some tools put the tree below its absolute path."""
        below = target / self._source.relative_to("/")
        found = same_tree(
            os.fsencode(self._source),
            os.fsencode(below if below.is_dir() else target),
            aspects=(CONTENT, MODE, MTIME),
            root=False,
        )
        return f"{len(found)} differences, as {found[0]}" if found else ""


def warm(root: Path) -> None:
    """Read everything once, so that every tool finds it in the page cache."""
    buffer = bytearray(1 << 20)
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def _must(peer: Peer, cost: Cost) -> None:
    if cost.failure:
        raise RuntimeError(f"{peer.name} cannot make its repository: {cost.failure}")
