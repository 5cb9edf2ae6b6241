"""repair(): damage is healed from copies, index objects are written anew, and what is lost is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from backups.engine import CompactOptions, Options, Secret, check, compact
from backups.engine import format as fmt
from backups.engine.errors import EngineError, ForeignRepository, StoreUnavailable
from backups.engine.repair import Repaired, repair
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import KEY, archived, files_of, new_repository, opened, plant, scanned
from tests.engine.specimen import CODE, flipped, restored, specimen
from tests.engine.test_damage import KINDS
from tests.faults import Crash, Fault, FaultyStore
from tests.faults import Harm as Blow

PAPER = Secret.recovery_code(CODE)
Harm = Callable[[bytes], bytes | None]

HARMS: Mapping[str, Harm] = {
    "gone": lambda data: None,
    "cut": lambda data: data[:-1],
    "empty": lambda data: b"",
    "flipped": lambda data: flipped(data, len(data) // 2),
}


def place(objects: Mapping[str, bytes]) -> MemoryStore:
    store = MemoryStore()
    store.objects = dict(objects)
    return store


def harmed(*kinds: str, harm: Harm = HARMS["gone"]) -> MemoryStore:
    """The specimen with some objects harmed."""
    store = specimen().store()
    for kind in kinds:
        harm_one(store, specimen().names[kind], harm)
    return store


def harm_one(store: MemoryStore, name: str, harm: Harm) -> None:
    if (left := harm(store.objects[name])) is None:
        del store.objects[name]
    else:
        store.objects[name] = left


def held(store: MemoryStore) -> dict[str, bytes]:
    """All but what is in quarantine."""
    return {name: data for name, data in store.objects.items() if not name.startswith(fmt.QUARANTINE)}


def restorable(store: MemoryStore, tmp: Path) -> set[tuple[str, bytes]]:
    """(snapshot, path) of every file that a restore brings back now."""
    found = set()
    for snapshot in specimen().files:
        try:
            _, there = restored(held(store), snapshot, tmp / "restored" / str(len(list(tmp.glob("restored/*")))), "")
        except (EngineError, AssertionError):
            continue
        found |= {(snapshot, path) for path in there}
    return found


def deeds(done: Repaired) -> dict[str, str]:
    return {deed.object: deed.what for deed in done.deeds}


def swept_halfway(tmp_path: Path) -> tuple[MemoryStore, MemoryStore, set[str]]:
    """A repository whose compaction was cut off among its deletions, a copy from before, and what was deleted."""
    store = MemoryStore()
    repository = new_repository(store)
    archived(repository, scanned(plant(tmp_path / "old", {"old": b"old" * 999})), "old")
    archived(opened(store), scanned(plant(tmp_path / "new", {"new": b"new" * 999})), "new")
    repository.log.append("forget", {"forget": ["old"]})
    copy = place(store.objects)
    every, nobody = CompactOptions(unused=0.0, grace=0.0), True
    for at in range(1, 9):
        with suppress(Crash):
            broken = FaultyStore(store, [Fault(Blow.CRASH, "delete", at)])
            compact(opened(broken), every, wait=lambda _marks: nobody)
        if gone := {name for name in copy.objects if name.startswith("packs/")} - store.objects.keys():
            return store, copy, gone
    raise AssertionError("no pack was deleted")


# ------------------------------------------------------------------------ copies


def test_what_a_compaction_is_deleting_is_not_fetched_back_from_a_copy(tmp_path: Path) -> None:
    store, copy, gone = swept_halfway(tmp_path)
    marks = opened(store).log.marks
    for name in {name for name in copy.objects if name.startswith("index/")} - store.objects.keys():
        store.put(name, copy.objects[name])  # another one may tell of the same packs

    done = repair(store, KEY, [copy], workers=0)

    assert gone <= {fmt.pack_name(pack) for pack in marks.condemned_packs}
    assert done.problems == []
    assert gone.isdisjoint(store.objects)
    compact(opened(store), CompactOptions(unused=0.0, grace=0.0), wait=lambda _marks: True)
    assert check(opened(store), 3, workers=0).problems == []
    assert set(files_of(opened(store), opened(store).log.live["new"], tmp_path / "new")) == {"new"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", HARMS)
def test_every_object_is_healed_from_a_copy(kind: str, harm: str) -> None:
    store, copy, name = harmed(kind, harm=HARMS[harm]), specimen().store(), specimen().names[kind]
    wrong = store.objects.get(name)

    done = repair(store, PAPER, [copy])

    assert done.whole, done.problems
    assert deeds(done) == {name: "added" if wrong is None else "replaced"}
    assert held(store) == specimen().objects
    assert [store.objects[aside] for aside in done.set_aside] == ([] if wrong is None else [wrong])
    assert copy.objects == specimen().objects


def test_a_sound_repository_is_left_alone() -> None:
    store = specimen().store()

    done = repair(store, KEY, [specimen().store()])

    assert (done.whole, done.deeds, done.orphans, done.snapshots) == (True, [], [], 4)
    assert store.objects == specimen().objects


def test_everything_at_once_is_healed_from_a_copy() -> None:
    store = harmed(*KINDS, harm=HARMS["flipped"])

    done = repair(store, PAPER, [specimen().store()])

    assert done.whole
    assert held(store) == specimen().objects
    assert len(done.set_aside) == len(KINDS)


def test_two_damaged_copies_heal_what_one_of_them_has() -> None:
    store = harmed("data pack of the first", "tree pack of the fourth", "record of the third", harm=HARMS["flipped"])
    one = harmed("data pack of the first", "record of the third", harm=HARMS["cut"])
    two = harmed("tree pack of the fourth", harm=HARMS["flipped"])

    done = repair(store, KEY, [one, two])

    assert done.whole
    assert held(store) == specimen().objects


def test_an_object_that_the_place_cannot_read_is_replaced_all_the_same() -> None:
    """A lost sector: there is an object of that size, and nobody reads it."""

    class Sectors(MemoryStore):
        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            if name == lost and self.objects[name] == wrong:
                raise StoreUnavailable("Input/output error")
            return super().get(name, start, length)

    lost, store = specimen().names["data pack of the third"], Sectors()
    store.objects = dict(specimen().objects)
    wrong = store.objects[lost] = flipped(store.objects[lost], 5)

    done = repair(store, KEY, [specimen().store()])

    assert done.whole
    assert [deed.why for deed in done.deeds] == ["the place cannot read it"]
    assert [store.objects[aside] for aside in done.set_aside] == [wrong]


def test_a_place_that_does_not_answer_is_no_damage() -> None:
    store = FaultyStore(specimen().store(), [Fault(Blow.ERROR, "any", 5, 1000)])

    with pytest.raises(StoreUnavailable):
        repair(store, KEY, [specimen().store()])


def test_what_a_copy_does_not_prove_is_not_taken() -> None:
    kinds = ("data pack of the third", "record of the third", "index of the first", "passphrase slot")
    store, copy = harmed(*kinds), harmed(*kinds, harm=HARMS["flipped"])
    before = dict(store.objects)

    done = repair(store, KEY, [copy])

    names = {specimen().names[kind] for kind in kinds}
    assert names - {specimen().names["index of the first"]} <= {problem.object for problem in done.problems}
    assert {name: data for name, data in store.objects.items() if name in before} == before
    assert store.objects.keys() - before.keys() == {deed.object for deed in done.deeds}
    assert {deed.what for deed in done.deeds} == {"described"}


def test_a_copy_of_another_repository_is_refused() -> None:
    store, other = harmed("data pack of the first"), MemoryStore()
    new_repository(other)
    before = dict(store.objects)

    with pytest.raises(ForeignRepository, match="name a copy of this one"):
        repair(store, KEY, [other])

    assert store.objects == before


def test_records_that_only_the_copy_has_are_back_with_their_snapshots() -> None:
    """The newest are gone, which nobody sees who has no anchor; a copy that is older or newer is no harm."""
    store = harmed("record of the fourth", "record of the third")

    done = repair(store, KEY, [specimen().store()])

    assert done.whole
    assert done.returned == ["fourth", "third"]
    assert held(store) == specimen().objects


def test_a_record_that_is_back_forgets_again(tmp_path: Path) -> None:
    store = MemoryStore()
    repository = new_repository(store)
    archived(repository, scanned(plant(tmp_path / "data", {"a": b"1"})))
    word = repository.log.append("forget", {"forget": ["first"]})
    copy = place(store.objects)
    del store.objects[word.name]
    assert opened(store).log.live

    done = repair(store, KEY, [copy])

    assert (done.whole, done.forgotten, done.snapshots) == (True, ["first"], 0)


def test_anchors_that_no_copy_has_are_told() -> None:
    store, gone = harmed("record of the fourth"), specimen().names["record of the fourth"]

    done = repair(store, KEY, anchors=specimen().anchors)

    assert [problem.object for problem in done.problems] == [gone]


# ------------------------------------------------------------------------- without a copy


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kinds", [["index of the first"], [f"index of the {n}" for n in ("first", "second", "third")]])
def test_index_objects_are_written_anew_from_the_packs(kinds: list[str], harm: str, tmp_path: Path) -> None:
    store, before = harmed(*kinds, harm=HARMS[harm]), specimen().store()

    done = repair(store, KEY)

    assert done.whole, done.problems
    assert restorable(store, tmp_path) == restorable(before, tmp_path)
    wrong = [specimen().names[kind] for kind in kinds] if harm != "gone" else []
    assert sorted(deed.object for deed in done.deeds if deed.what == "retired") == sorted(wrong)
    assert check(opened(store), 3).sound
    assert not repair(store, KEY).deeds


def test_without_any_index_all_is_found_again(tmp_path: Path) -> None:
    store = specimen().store()
    for name in [name for name in store.objects if name.startswith("index/")]:
        del store.objects[name]

    done = repair(store, KEY)

    assert done.whole
    assert restorable(store, tmp_path) == restorable(specimen().store(), tmp_path)


@pytest.mark.parametrize("indexed", [True, False])
def test_orphans_stay_orphans_and_are_named(indexed: bool, tmp_path: Path) -> None:
    """Of a run that was killed before its index object; also where the index has to be written anew."""
    store, root = MemoryStore(), plant(tmp_path / "data", {"a": b"1"})
    archived(new_repository(store), scanned(root))
    known = set(store.objects)
    archived(opened(store), scanned(plant(root, {"b": b"2" * 2000})), "second")
    orphans = {name for name in store.objects if name.startswith("packs/")} - known
    for name in [name for name in store.objects if not name.startswith("packs/") and name not in known]:
        del store.objects[name]
    if not indexed:
        del store.objects[next(name for name in known if name.startswith("index/"))]

    done = repair(store, KEY)

    assert done.whole
    assert set(done.orphans) == orphans
    assert orphans <= store.objects.keys()
    assert check(opened(store), 3).unused_packs == len(orphans)


def test_an_orphan_that_holds_what_was_lost_is_used(tmp_path: Path) -> None:
    """A run that was killed had stored the same once more, and told no index object of it."""
    files = {"large": bytes(range(256)) * 4096, "small": b"a few bytes"}
    store, root = MemoryStore(), plant(tmp_path / "data", files)
    archived(new_repository(store), scanned(root))
    known = set(store.objects)
    lost = [name for name in known if name.startswith("packs/")]
    again = opened(store)
    for name in lost:
        harm_one(store, name, HARMS["flipped"])
    damaged = frozenset(map(fmt.digest_of, lost))
    archived(again, scanned(root), "second", options=Options(workers=0, damaged=damaged))
    for name in [name for name in store.objects if not name.startswith("packs/") and name not in known]:
        del store.objects[name]

    done = repair(store, KEY)

    assert {deed.what for deed in done.deeds} == {"described"}
    assert files_of(opened(store), opened(store).log.snapshot("first"), root) == files
    assert not {s for problem in done.problems for s in problem.snapshots}


def test_config_comes_back_from_the_log() -> None:
    for harm in HARMS.values():
        store = harmed("config", harm=harm)
        assert repair(store, KEY).whole
        assert held(store) == specimen().objects


def test_what_nobody_has_any_more_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    name = specimen().names["data pack of the first"]
    store = harmed("data pack of the first", harm=lambda data: flipped(data, 80))
    before, back = dict(store.objects), restorable(store, tmp_path)

    done = repair(store, KEY)

    (problem,) = done.problems
    assert (problem.object, done.deeds) == (name, [])
    assert set(problem.snapshots) == set(specimen().files)
    every = {(snapshot, path) for snapshot, files in specimen().files.items() for path in files}
    assert back == every - {(s, path) for s in problem.snapshots for path in problem.paths}
    assert store.objects == before


# ------------------------------------------------------------------------------ dry run


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("harm", HARMS)
def test_a_dry_run_writes_nothing_and_tells_what_the_repair_will_do(copied: bool, harm: str) -> None:
    for kind in KINDS:
        store, copies = harmed(kind, harm=HARMS[harm]), [specimen().store()] if copied else []
        before, secret = dict(store.objects), KEY if kind == "recovery slot" else PAPER

        told = repair(store, secret, copies, dry_run=True)
        assert store.objects == before
        done = repair(store, secret, copies)

        assert [deed.what for deed in told.deeds] == [deed.what for deed in done.deeds]
        assert told.problems == done.problems
        assert told.orphans == done.orphans
        assert (told.returned, told.forgotten) == (done.returned, done.forgotten)
        assert told.bytes_copied == done.bytes_copied


# ---------------------------------------------------------------------------- interrupted


MIXTURE = (
    "config", "ring", "data pack of the first", "tree pack of the fourth", "index of the third", "record of the second",
    "record of the fourth",
)  # fmt: skip


@pytest.mark.parametrize("blow", [Blow.CRASH, Blow.CRASH_AFTER])
@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("harm", ["gone", "flipped"])
def test_killed_at_any_operation_nothing_more_is_lost_and_a_second_run_finishes(
    harm: str, copied: bool, blow: Blow, tmp_path: Path
) -> None:
    copies = [specimen().store()] if copied else []
    kinds = MIXTURE if copied else ("config", "ring", "index of the first", "index of the third")
    before = harmed(*kinds, harm=HARMS[harm])
    could, looked_at = restorable(before, tmp_path), [shape(before)]

    for at in range(1, operations(before, copies) + 1):
        store = FaultyStore(place(before.objects), [Fault(blow, "any", at)])
        with suppress(Crash):
            repair(store, PAPER, copies)
        left = place(objects_of(store))
        if shape(left) in looked_at:
            continue  # it was killed before it wrote more than the last one
        looked_at.append(shape(left))
        assert could <= restorable(left, tmp_path), at
        assert repair(left, PAPER, copies).whole == copied, at
        assert all(kept(left, name, wrong) for name, wrong in before.objects.items()), at

    assert len(looked_at) >= 3


def shape(store: MemoryStore) -> list[tuple[str, bytes]]:
    """What lies there; of an index object that was written anew, which bears another name each time, only that."""
    known = specimen().objects
    return sorted(
        (name, data) if name in known or not name.startswith("index/") else ("index/", b"")
        for name, data in store.objects.items()
    )


def operations(store: MemoryStore, copies: list[MemoryStore]) -> int:
    """How many operations a repair takes that nobody interrupts."""
    counted = FaultyStore(place(store.objects))
    repair(counted, PAPER, copies)
    return counted.operations


def objects_of(store: FaultyStore) -> dict[str, bytes]:
    assert isinstance(store.inner, MemoryStore)
    return store.inner.objects


def kept(store: MemoryStore, name: str, wrong: bytes) -> bool:
    """What was there is there still: under its name, or in quarantine."""
    aside = fmt.aside_name(name, fmt.sha256(wrong).hex(), 0)
    return wrong in (store.objects.get(name), store.objects.get(aside)) or name == "config"


def test_worker_processes_and_a_disk_make_no_difference(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "repository"))
    store.create()
    for name, data in harmed(*MIXTURE, harm=HARMS["cut"]).objects.items():
        store.put(name, data)

    done = repair(store, PAPER, [specimen().store()], workers=2)

    assert done.whole
    assert {info.name: store.get(info.name) for info in store.list("")} == {
        **specimen().objects,
        **{aside: store.get(aside) for aside in done.set_aside},
    }


@pytest.mark.parametrize("word", [b'"repository"', b'"format": 1', b'"id"'])
def test_a_config_that_claims_other_things_is_healed(word: bytes) -> None:
    """Of another kind, of a newer format, without an id: one wrong letter."""
    wrong = {b'"repository"': b'"rePository"', b'"format": 1': b'"format": 9', b'"id"': b'"Id"'}[word]
    store = harmed("config", harm=lambda data: data.replace(word, wrong))
    damaged_copy = harmed("config", harm=lambda data: data.replace(word, wrong))

    done = repair(store, KEY, [damaged_copy])

    assert done.whole
    assert held(store) == specimen().objects
