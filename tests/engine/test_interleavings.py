"""Every acknowledged snapshot restores, in whatever order a writer and a compactor come to act; with a lease that is
lost, with one of the two killed at any step. Each precaution is taken out once, so that the check is seen to fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backups.engine import archiver, compaction, pack, rekey
from backups.engine import format as fmt
from backups.engine.commit import CommitGuard
from backups.engine.log import Snapshot
from backups.engine.marks import Named
from backups.engine.stores.memory import MemoryStore
from tests.engine.interleaving import Order, Outcome, World, backup_of, killed, orders, played, stops
from tests.engine.scenery import archived, new_repository, plant, scanned
from tests.engine.test_compaction import noise

SAMPLE = 120  # of orders with three changes, and of kills: a proof plays them all


class _AtOnce:
    """A thread that is none: what would be written in the background is written now, so that orders repeat."""

    def __init__(self, *, target: Callable[[], None], **_: object) -> None:
        self.start = target

    def join(self) -> None:
        """It has ended."""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "threading", SimpleNamespace(Thread=_AtOnce))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A snapshot that was forgotten, one that shares a pack with it, and a backup of what only the first one held."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "FRAME_SIZE", 3000)
        small.setattr(fmt, "PACK_SIZE", 9000)
        yield made_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same under new keys, so that nothing that was stored stays where it is."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "FRAME_SIZE", 3000)
        small.setattr(fmt, "PACK_SIZE", 9000)
        yield made_world(tmp_path_factory.mktemp("renewed"), rotated=True)


def made_world(folder: Path, *, rotated: bool = False) -> World:
    store = MemoryStore()
    repository = new_repository(store)
    old = {"shared": noise("shared", 2000), "returns": noise("returns", 2500), "goes": noise("goes", 2800)}
    kept, made = {"shared": old["shared"]}, {"returns": old["returns"], "fresh": noise("fresh", 700)}
    archived(repository, scanned(plant(folder / "old", old)), "old")
    repository.index_changed()
    archived(repository, scanned(plant(folder / "kept", kept)), "kept")
    repository.log.append("forget", {"forget": ["old"]})
    if rotated:
        rekey.rotate(repository)
    root = plant(folder / "made", made)
    backup = backup_of(str(root), lambda: scanned(root))
    return World(dict(store.objects), {"kept": (str(folder / "kept"), kept)}, str(root), made, backup)


def violations(outcomes: Iterator[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.broken]


# ------------------------------------------------------------------ the promise


def test_the_scenery_has_what_the_check_needs(world: World) -> None:
    """A writer alone relies on a blob that only a forgotten snapshot held; a compactor alone takes it away."""
    many = stops(world)

    one_after_the_other = list(played(world, [Order("writer", ()), Order("compactor", ())]))

    assert many["writer"] > 8
    assert many["compactor"] > 20
    assert [outcome.acknowledged for outcome in one_after_the_other] == [True, True]
    assert [outcome.broken for outcome in one_after_the_other] == [[], []]


def test_no_order_with_one_change_loses_an_acknowledged_snapshot(world: World) -> None:
    assert violations(played(world, orders(stops(world), 1))) == []


@pytest.mark.parametrize("changes", [2, 3])
def test_no_order_with_more_changes_loses_one(world: World, changes: int) -> None:
    assert violations(played(world, drawn(orders(stops(world), changes)))) == []


@pytest.mark.parametrize("changes", [0, 1])
def test_whoever_is_killed_at_whatever_step_nothing_is_lost(world: World, changes: int) -> None:
    many = stops(world)
    cut = (one for order in orders(many, changes) for one in killed(order, many))

    assert violations(played(world, drawn(cut))) == []


def test_no_order_loses_one_while_everything_comes_under_new_keys(renewed: World) -> None:
    many = stops(renewed)
    cut = (one for order in orders(many, 1) for one in killed(order, many))

    assert many["compactor"] > 20
    assert violations(played(renewed, drawn(orders(many, 1)))) == []
    assert violations(played(renewed, drawn(orders(many, 2)))) == []
    assert violations(played(renewed, drawn(cut))) == []


def drawn(given: Iterator[Order]) -> Iterator[Order]:
    """The same ones each time."""
    every = list(given)
    return iter(random.Random(len(every)).sample(every, min(SAMPLE, len(every))))


# ------------------------------------------------------------------ the check itself is checked


def no_second_reading(patch: pytest.MonkeyPatch) -> None:
    """Step 4: what came back into use before the sweep is not seen."""
    ordinary = compaction._Run._in_use

    def in_use(run: compaction._Run, marked: dict[str, Named]) -> set[bytes]:
        ordinary(run, marked)
        return set()

    patch.setattr(compaction._Run, "_in_use", in_use)


def compactor_does_not_look(patch: pytest.MonkeyPatch) -> None:
    """After its sweep."""
    patch.setattr(compaction._Run, "_relied_on", lambda run: None)


def writer_does_not_look(patch: pytest.MonkeyPatch) -> None:
    """After its record."""

    def committed(guard: CommitGuard, snapshot: Snapshot) -> Snapshot:
        return guard._repository.log.append_snapshot(snapshot, lambda: guard._judge(snapshot))

    patch.setattr(CommitGuard, "commit", committed)


def writer_relies_on_what_is_marked(patch: pytest.MonkeyPatch) -> None:
    """Step 2: lookups do not ignore marked packs."""
    patch.setattr(archiver, "_avoid_lost_packs", lambda *_: None)


def nobody_judges_before_the_record(patch: pytest.MonkeyPatch) -> None:
    """A record may be put although a sweep that condemned what it needs is in the log already."""

    def committed(guard: CommitGuard, snapshot: Snapshot) -> Snapshot:
        return guard._repository.log.append_snapshot(snapshot)

    patch.setattr(CommitGuard, "commit", committed)


MUTATIONS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "step 4, the second reading": (no_second_reading, "made is lost"),
    "the compactor's look after the sweep": (compactor_does_not_look, "made is lost"),
    "the writer's look after the record": (writer_does_not_look, "made is lost"),
    "ignoring marked packs": (writer_relies_on_what_is_marked, "made is lost"),
    "judging before the record": (nobody_judges_before_the_record, "made is lost"),
}


@pytest.mark.parametrize(("mutate", "told"), MUTATIONS.values(), ids=list(MUTATIONS))
def test_without_it_the_check_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None], told: str
) -> None:
    many = stops(world)
    mutate(monkeypatch)

    assert told in first_broken(played(world, near(many)))


def test_without_step_3_healthy_writers_lose(world: World) -> None:
    assert "the healthy writer failed" in first_broken(played(world, near(stops(world)), waits=False))


def near(many: dict[str, int]) -> Iterator[Order]:
    """Few changes first; then those in which the writer gets far before the first one."""
    yield from orders(many, 1)
    two = [order for order in orders(many, 2) if order.first == "writer"]
    yield from sorted(two, key=lambda order: (-order.switches[0], order.lost is False))


def first_broken(outcomes: Iterator[Outcome]) -> str:
    """What the first outcome says that breaks a promise."""
    return next(("; ".join(outcome.broken) for outcome in outcomes if outcome.broken), "no order breaks anything")
