"""Flipped, deleted, cut, swapped, foreign and replayed objects: found, named, and nothing false comes back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backups import engine
from backups.engine import errors
from backups.engine import format as fmt
from backups.engine.stores.memory import MemoryStore
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.ruin import KEYFILE, Objects, Scene, Trial, flipped, kind_of
from tests.proofs.workshop import remove, roomy

SMALL = 4096  # bytes; of smaller objects every byte is flipped
SHARES = 40  # cases among which the bytes are shared out


@proof("engine", "flipped-bytes", "one bit of every byte of every object smaller than 4 KiB", count=SHARES)
def flipped_bytes(case: Case) -> Figures:
    with scene(case) as stage:
        small = [name for name, data in stage.objects.items() if len(data) < SMALL]
        places = [(name, place) for name in small for place in range(case.number, len(stage.objects[name]), SHARES)]
        return flip_all(stage, places, case.random)


@proof(
    "engine", "flipped-regions", "one bit in every region of large packs and indexes: all bytes of their ends", count=20
)
def flipped_regions(case: Case) -> Figures:
    with scene(case, files=400, large=4 << 20) as stage:
        large = [name for name, data in stage.objects.items() if len(data) >= SMALL]
        places = [(name, place) for name in large for place in regions(stage.objects[name], case.random)]
        return flip_all(stage, places[case.number :: 20], case.random)


@proof(
    "engine",
    "harmed-objects",
    "every object deleted, cut, lengthened, emptied, swapped, or another repository's",
    count=10,
)
def harmed_objects(case: Case) -> Figures:
    with scene(case) as stage, scene(case) as other:
        trials = [Trial(stage, *harm(stage.objects, name, other.objects)) for harm, name in harms(stage.objects)]
        return summary([trial.prove() for trial in trials])


@proof(
    "engine",
    "replayed-objects",
    "the repository rolled back, records deleted, forked and put in other places",
    count=10,
)
def replayed_objects(case: Case) -> Figures:
    with scene(case) as stage:
        leaves = leaves_of(stage.objects)
        for older in stage.history[:-1]:
            assert_tampered(older, leaves)
        for name in (name for name in stage.objects if kind_of(name) == "log"):
            assert_tampered(without(stage.objects, name), leaves if name in leaves else [*leaves, name])
        assert_tampered(stage.objects, leaves_of(went_on(stage.history[0])))
        misplaced = moved_record(stage.objects)
        Trial(stage, misplaced, misplaced.keys() - stage.objects.keys()).prove()
    return {}


@contextmanager
def scene(case: Case, files: int = 12, large: int = 300_000) -> Iterator[Scene]:
    """Three snapshots in a repository in memory."""
    place = roomy(64 << 20, case.place)
    try:
        yield Scene(place, case.random, files, large)
    finally:
        remove(place)


def flip_all(stage: Scene, places: list[tuple[str, int]], source: random.Random) -> Figures:
    """A trial for each place (object, byte)."""
    trials = []
    for name, place in places:
        objects = {**stage.objects, name: flipped(stage.objects[name], place, source.randrange(8))}
        try:
            trials.append(Trial(stage, objects, [name]).prove())
        except Exception as error:
            raise AssertionError(f"byte {place} of {name}: {error}") from error
    return summary(trials)


def summary(trials: list[Trial]) -> Figures:
    """How many trials there were, and how many snapshots came back whole in spite of them."""
    return {"trials": len(trials), "snapshots back whole": sum(trial.whole for trial in trials)}


def regions(data: bytes, source: random.Random) -> list[int]:
    """Places in a large object: all of header and trailer, the ends and random bytes of every KiB-sized stretch."""
    head, tail = range(fmt.HEADER.size), range(len(data) - fmt.TRAILER.size - 64, len(data))
    body = range(fmt.HEADER.size, tail.start)
    step = max(1, len(body) // 60)
    return [*head, *(source.randrange(start, min(start + step, body.stop)) for start in body[::step]), *tail]


Harm = Callable[[Objects, str, Objects], tuple[dict[str, bytes], list[str]]]


def harms(objects: Objects) -> Iterator[tuple[Harm, str]]:
    """Every harm to every object, where it can be seen without knowing what was there before."""
    last = max(name for name in objects if kind_of(name) == "log")
    for name in objects:
        for harm in (deleted, emptied, halved, cut, lengthened, zeroed, swapped, exchanged, foreign):
            if not (harm is deleted and name == last):  # a cut tail is seen by whoever remembers it: replayed-objects
                yield harm, name


def without(objects: Objects, name: str) -> dict[str, bytes]:
    return {other: data for other, data in objects.items() if other != name}


def deleted(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    return without(objects, name), [name]


def emptied(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    return {**objects, name: b""}, [name]


def halved(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    return {**objects, name: objects[name][: len(objects[name]) // 2]}, [name]


def cut(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    return {**objects, name: objects[name][:-1]}, [name]


def lengthened(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    return {**objects, name: objects[name] + b"\0"}, [name]


def zeroed(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    return {**objects, name: bytes(len(objects[name]))}, [name]


def swapped(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    """With another object of the same kind, if there is one."""
    return _exchanged(objects, name, [other for other in objects if kind_of(other) == kind_of(name)])


def exchanged(objects: Objects, name: str, _: Objects) -> tuple[dict[str, bytes], list[str]]:
    """With an object of another kind."""
    return _exchanged(objects, name, [other for other in objects if kind_of(other) != kind_of(name)])


def _exchanged(objects: Objects, name: str, others: list[str]) -> tuple[dict[str, bytes], list[str]]:
    other = next((other for other in others if objects[other] != objects[name]), name)
    if other == name:
        return zeroed(objects, name, objects)
    return {**objects, name: objects[other], other: objects[name]}, [name, other]


def foreign(objects: Objects, name: str, others: Objects) -> tuple[dict[str, bytes], list[str]]:
    """An intact object of the same kind from another repository of ours."""
    return {**objects, name: next(data for other, data in others.items() if kind_of(other) == kind_of(name))}, [name]


# replays


def opened(objects: Objects, anchors: list[str] | None = None) -> engine.Repository:
    store = MemoryStore()
    store.objects = dict(objects)
    return engine.Repository.open(store, KEYFILE, anchors=anchors or ())


def leaves_of(objects: Objects) -> list[str]:
    """What a console remembers of the log."""
    return opened(objects).log.leaves


def went_on(objects: Objects) -> Objects:
    """The same repository after a history of its own."""
    repository = opened(objects)
    repository.log.append("forget", {"forget": [], "reason": "another history"})
    assert isinstance(repository.store, MemoryStore)
    return repository.store.objects


def assert_tampered(objects: Objects, anchors: list[str]) -> None:
    """Whoever remembers the anchors is told, before anything is written."""
    try:
        opened(objects, anchors)
    except errors.Tampered:
        return
    raise AssertionError("the replay was not noticed")


def moved_record(objects: Objects) -> dict[str, bytes]:
    """An intact record put a second time, under a later number."""
    name = next(name for name in objects if kind_of(name) == "log")
    return {**objects, fmt.record_name(900, fmt.sha256(objects[name])): objects[name]}
