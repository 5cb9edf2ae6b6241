"""Damage of every kind to every object: found, nothing false comes back, and a repair from a copy makes all whole."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from backups import engine
from backups.engine import format as fmt
from backups.engine.stores.memory import MemoryStore
from tests.faults import Crash, Fault, FaultyStore, Harm
from tests.proofs.engine_damage import (
    SMALL,
    assert_tampered,
    harms,
    leaves_of,
    moved_record,
    regions,
    scene,
    went_on,
    without,
)
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.ruin import KEYFILE, PAPER, Objects, Scene, Trial, flipped, kind_of

SHARES = 40  # cases among which the bytes of small objects are shared out


@proof("damage", "flipped-and-healed", "one bit in every region of every object, healed from a copy", count=SHARES)
def flipped_and_healed(case: Case) -> Figures:
    """Of small objects every byte, shared out among the cases; of larger ones all of their ends and every stretch."""
    with scene(case) as stage:
        healed = Healed(stage)
        for name, data in stage.objects.items():
            places = range(len(data)) if len(data) < SMALL else regions(data, case.random)
            for place in list(places)[case.number :: SHARES]:
                harmed = {**stage.objects, name: flipped(data, place, case.random.randrange(8))}
                healed.prove(harmed, [name], f"byte {place} of {name}")
        return healed.figures


@proof(
    "damage", "harmed-and-healed",
    "every object deleted, cut, lengthened, emptied, zeroed, swapped, or another repository's; healed from a copy",
    count=10,
)  # fmt: skip
def harmed_and_healed(case: Case) -> Figures:
    with scene(case) as stage, scene(case) as other:
        healed = Healed(stage)
        for harm, name in harms(stage.objects):
            objects, names = harm(stage.objects, name, other.objects)
            healed.prove(objects, names, f"{name} {harm.__name__}")
        return healed.figures


@proof("damage", "replayed-and-healed", "rolled back, forked, records put elsewhere: told, and healed", count=10)
def replayed_and_healed(case: Case) -> Figures:
    """An older state of everything is whole again with what a newer copy has; histories of two copies are both kept."""
    with scene(case) as stage:
        healed, leaves = Healed(stage), leaves_of(stage.objects)
        for older in stage.history[:-1]:
            assert_tampered(older, leaves)
            healed.whole_after(older, "an older state of everything")
        for name in (name for name in stage.objects if kind_of(name) == "log"):
            assert_tampered(without(stage.objects, name), leaves if name in leaves else [*leaves, name])
            healed.whole_after(without(stage.objects, name), f"without {name}")
        fork = went_on(stage.history[0])
        assert_tampered(stage.objects, leaves_of(fork))
        healed.whole_after(fork, "a fork", more=leaves_of(fork))
        misplaced = moved_record(stage.objects)
        Trial(stage, misplaced, misplaced.keys() - stage.objects.keys()).prove()
        return healed.figures


@proof("damage", "healed-alone", "all index objects and the config harmed, without any copy", count=10)
def healed_alone(case: Case) -> Figures:
    with scene(case) as stage:
        lost = [name for name in stage.objects if kind_of(name) in ("index", "config")]
        gone = {name: data for name, data in stage.objects.items() if name not in lost}
        for harmed in (spoilt(stage.objects, lost, case.random), gone):
            store = stored(harmed)
            done = engine.repair(store, KEYFILE, workers=0)
            assert done.whole, done.problems
            assert_all_comes_back(stage, store)
    return {"index objects": len(lost) - 1}


@proof("damage", "two-halves", "half of all objects harmed here, others in a copy: what one has is healed", count=40)
def two_halves(case: Case) -> Figures:
    """What both have lost is told, and costs no more than it has to."""
    with scene(case) as stage:
        names = sorted(name for name in stage.objects if kind_of(name) != "keys")
        here, there = (set(case.random.sample(names, len(names) // share)) for share in (2, 3))
        there -= {"config"}  # with both configs and the log's copy gone nothing opens any more
        store, copy = (stored(spoilt(stage.objects, harmed, case.random)) for harmed in (here, there))
        before = what_comes_back(stage, store)
        done = engine.repair(store, KEYFILE, [copy], workers=0)
        lost = {name for name in here & there if kind_of(name) in ("log", "packs")}
        told = {problem.object for problem in done.problems} - {""}
        # Of a snapshot whose record both have lost nobody knows what it needs: its packs may be orphans now.
        assert lost <= told | set(done.orphans), done.problems
        assert told <= here & there, done.problems
        after = what_comes_back(stage, store)
        assert before <= after, "a repair has cost something"
        if not lost:
            assert_all_comes_back(stage, store)
        return {"harmed": len(here), "lost": len(lost), "files before": len(before), "files after": len(after)}


@proof(
    "damage",
    "killed-repairs",
    "a repair killed at every operation: nothing more is lost, a second one ends it",
    count=6,
)
def killed_repairs(case: Case) -> Figures:
    with scene(case) as stage:
        names = sorted(stage.objects)
        here = set(case.random.sample(names, len(names) // 2)) - {stage.keyfile_slot}
        harmed, copies = spoilt(stage.objects, here, case.random), [stored(stage.objects)]
        counted = FaultyStore(stored(harmed))
        engine.repair(counted, KEYFILE, copies, workers=0)
        before = what_comes_back(stage, stored(harmed))
        for at in range(1, counted.operations + 1):
            store = stored(harmed)
            try:
                blow = Harm.CRASH if case.number % 2 else Harm.CRASH_AFTER
                engine.repair(FaultyStore(store, [Fault(blow, "any", at)]), KEYFILE, copies, workers=0)
            except Crash:
                pass
            if store.objects != harmed:
                assert before <= what_comes_back(stage, store), f"killed at operation {at}"
            assert engine.repair(store, KEYFILE, copies, workers=0).whole, f"after a kill at operation {at}"
            assert held(store) == stage.objects, f"after a kill at operation {at}"
        return {"operations": counted.operations, "harmed": len(here)}


class Healed:
    """Proves of one harm after the other that it is told, that nothing false comes back, and that a copy heals it."""

    def __init__(self, stage: Scene) -> None:
        self._stage, self._trials, self._objects = stage, 0, 0

    @property
    def figures(self) -> Figures:
        return {"trials": self._trials, "objects healed": self._objects}

    def prove(self, harmed: Objects, names: Iterable[str], what: str) -> None:
        try:
            Trial(self._stage, harmed, names).prove()
        except Exception as error:
            raise AssertionError(f"{what}: {error}") from error
        self.whole_after(harmed, what)

    def whole_after(self, harmed: Objects, what: str, more: Iterable[str] = ()) -> None:
        """With a copy everything is as it was; what is wrong is kept aside. `more`: records that it had besides."""
        store = stored(harmed)
        done = engine.repair(store, KEYFILE, [stored(self._stage.objects)], workers=0)
        assert done.whole, f"{what}: {done.problems}"
        kept = {name: data for name, data in held(store).items() if name not in more}
        assert kept == self._stage.objects, f"{what}: the objects are not those that there were"
        wrong = [data for name, data in harmed.items() if name not in more and self._stage.objects.get(name) != data]
        aside = [data for name, data in store.objects.items() if name.startswith(fmt.QUARANTINE)]
        assert sorted(wrong) == sorted(aside), f"{what}: wrong bytes were not kept"
        self._trials, self._objects = self._trials + 1, self._objects + len(done.deeds)


def stored(objects: Mapping[str, bytes]) -> MemoryStore:
    store = MemoryStore()
    store.objects = dict(objects)
    return store


def held(store: MemoryStore) -> dict[str, bytes]:
    """All but what is in quarantine."""
    return {name: data for name, data in store.objects.items() if not name.startswith(fmt.QUARANTINE)}


def spoilt(objects: Objects, names: Iterable[str], source: random.Random) -> dict[str, bytes]:
    """One bit of each of them turned over."""
    harmed = dict(objects)
    for name in sorted(names):
        harmed[name] = flipped(objects[name], source.randrange(len(objects[name])), source.randrange(8))
    return harmed


def what_comes_back(stage: Scene, store: MemoryStore) -> set[tuple[str, str]]:
    """(snapshot, path) of all that a restore brings back; nothing of it is false."""
    trial = Trial(stage, store.objects, ())
    found = set()
    repository = next((opened for secret in (KEYFILE, PAPER) if (opened := trial.try_to_open(secret))), None)
    for snapshot in repository.snapshots if repository else ():
        assert repository is not None
        for path, data in trial.brought_back(repository, snapshot)[0].items():
            assert stage.states[snapshot.id].get(path) == data, f"{path} came back, and it is not what was backed up"
            found.add((snapshot.id, path))
    return found


def assert_all_comes_back(stage: Scene, store: MemoryStore) -> None:
    every = {(name, path) for name, files in stage.states.items() for path in files}
    assert what_comes_back(stage, store) == every
