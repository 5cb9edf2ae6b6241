"""The judge of the endurance proof is judged: it finds what a console must never do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aihub_backup.core import processes
from backups.engine import CompactOptions, Options, Repository, Secret, archive, compact, open_store
from tests.engine.scenery import scanned
from tests.engine.test_interleavings import no_second_reading
from tests.proofs.endurance_run import Point, judge
from tests.proofs.killing import Near
from tests.proofs.moving import Moving, seen
from tests.proofs.saboteur import Held
from tests.proofs.witness import TRUTH_WITHIN, Witness

FOREVER = float("inf")


@dataclass
class Scene:
    """A repository with one snapshot of a source that is at rest now."""

    place: Path
    engine: Near
    moving: Moving
    snapshot: str

    def judge(self, *snapshots: str) -> None:
        points = [Point(f"backup of {name}", name, "source", 0.0, FOREVER) for name in snapshots]
        judge(
            self.engine, points, lambda _point, tree: self.moving.judge(seen(tree), 0.0, FOREVER), self.place / "back"
        )

    @property
    def opened(self) -> Repository:
        store = open_store("local", {"path": str(self.engine.repository)})
        return Repository.open(store, Secret.keyfile((self.place / "keyfile").read_bytes()))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    engine = Near(tmp_path)
    engine.run("init")
    moving = Moving(tmp_path / "source", random.Random(1), files=8)
    return Scene(tmp_path, engine, moving, engine.run("backup", moving.root).result["snapshot"])


def test_what_comes_back_as_it_was_is_right(scene: Scene) -> None:
    assert seen(scene.moving.root)

    scene.judge(scene.snapshot)


def test_a_pack_that_is_gone_is_found(scene: Scene) -> None:
    packs = [path for path in (scene.engine.repository / "packs").rglob("*") if path.is_file()]
    packs[0].unlink()

    with pytest.raises(AssertionError, match="restore ended with code"):
        scene.judge(scene.snapshot)


def test_a_content_that_a_file_never_had_is_found(scene: Scene) -> None:
    found = seen(scene.moving.root)
    one, other = sorted(found)[:2]

    with pytest.raises(AssertionError, match="are not what they were"):
        scene.moving.judge({**found, one: found[other]}, 0.0, FOREVER)


def test_a_content_of_another_time_is_found(scene: Scene) -> None:
    before = seen(scene.moving.root)
    for _ in range(8):
        scene.moving.change()
    begun = max(change.after for changes in scene.moving._changes.values() for change in changes)

    with pytest.raises(AssertionError, match="are not what they were"):
        scene.moving.judge(before, begun + 1, begun + 2)


@dataclass
class Sleeper:
    """A writer that opened the repository before the mark and commits after it, as one that was frozen."""

    scene: Scene

    def __post_init__(self) -> None:
        self._repository = self.scene.opened
        self._facts = self._repository.snapshots[0].facts

    def wakes(self, _marks: Sequence[str]) -> bool:
        entries = scanned(self.scene.moving.root)
        archive(self._repository, entries, snapshot_id="made", facts=lambda: self._facts, options=Options(workers=0))
        return True


def forgotten_and_compacted(scene: Scene) -> None:
    """Nothing needs the packs any more but the sleeper, who wakes up between mark and sweep."""
    sleeper = Sleeper(scene)
    scene.engine.run("forget", scene.snapshot)
    compact(scene.opened, CompactOptions(unused=0.0, grace=0.0), wait=sleeper.wakes)


def test_a_writer_that_woke_up_between_mark_and_sweep_loses_nothing(scene: Scene) -> None:
    forgotten_and_compacted(scene)

    assert scene.engine.snapshots() == ["made"]
    scene.judge("made")


def test_a_compaction_that_does_not_read_a_second_time_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    no_second_reading(monkeypatch)

    forgotten_and_compacted(scene)

    with pytest.raises(AssertionError, match="ended with code"):
        scene.judge("made")


def test_a_row_that_says_for_too_long_that_a_dead_process_works_is_found(tmp_path: Path) -> None:
    witness, alive = Witness(tmp_path), processes.me()
    dead = Held("1", "backup-part", "running", 1, str(alive._replace(started=alive.started + 1)))
    own = Held("2", "backup-part", "running", 1, str(alive))

    for now in (0.0, TRUTH_WITHIN + 1):
        witness.look([dead, own], now)

    assert witness.longest == TRUTH_WITHIN + 1
    assert witness.error == f"a backup-part is running for {TRUTH_WITHIN + 1:.0f} s, and nobody works on it"
