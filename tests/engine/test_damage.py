"""Damage of every kind to every kind of object: found, named, kept out of restored files, survived by the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from backups.engine import Options, Repository, RestoreOptions, Secret, check, restore
from backups.engine import format as fmt
from backups.engine.errors import EngineError, ObjectDamaged, Tampered, WrongSecret
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import Reports, archived, files_of, new_repository, opened, plant, scanned
from tests.engine.specimen import CODE, PASSPHRASE, examine, flipped, opened_somehow, regions, restored, specimen

KINDS = (
    "config", "ring", "keyfile slot", "passphrase slot", "recovery slot", "data pack of the first",
    "data pack of the third", "tree pack of the first", "tree pack of the fourth", "index of the first",
    "index of the third", "record of the second", "record of the third", "record of the fourth",
    "first checkpoint", "checkpoint",
)  # fmt: skip
PACKS = tuple(kind for kind in KINDS if "pack" in kind)
Objects = dict[str, bytes]


def damaged(kind: str, data: bytes) -> Objects:
    """The specimen with other bytes under the name of one object."""
    return {**specimen().objects, specimen().names[kind]: data}


def intact(kind: str) -> bytes:
    return specimen().objects[specimen().names[kind]]


def test_the_specimen_is_sound_and_has_every_kind_of_object() -> None:
    made = specimen()

    repository = opened(made.store(), anchors=made.anchors)

    assert [snapshot.id for snapshot in repository.snapshots] == ["first", "second", "third", "fourth"]
    assert set(made.names) >= set(KINDS)
    assert len(set(made.names.values())) == len(made.names)
    assert Repository.open(made.store(), PASSPHRASE).ring == repository.ring
    assert Repository.open(made.store(), Secret.recovery_code(CODE)).ring == repository.ring


# --------------------------------------------------------------- one wrong byte


@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_byte_in_every_region_is_found_and_named(kind: str) -> None:
    name, data = specimen().names[kind], intact(kind)

    for region, at in regions(name, data).items():
        for level in (2, 3):
            done = examine(damaged(kind, flipped(data, at, at % 8)), name, level)
            assert done.problems, (region, level)


# ------------------------------------------------------------- whole objects


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "cut", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data[:-1]], ids=["0", "half", "-1"]
)
def test_a_truncated_object_is_found_and_named(kind: str, cut: Callable[[bytes], bytes]) -> None:
    objects, name = damaged(kind, cut(intact(kind))), specimen().names[kind]

    done = examine(objects, name, 2)

    assert done.problems
    if kind in PACKS:  # its size is in the index, so that a listing is enough
        assert examine(objects, name, 1).problems


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "record of the fourth"])
def test_a_deleted_object_is_found_and_named_by_a_listing(kind: str) -> None:
    name = specimen().names[kind]
    objects = {other: data for other, data in specimen().objects.items() if other != name}

    done = examine(objects, name, 1)

    assert done.problems


@pytest.mark.parametrize("kind", ["record of the fourth"])
def test_the_last_record_is_missed_by_those_who_saw_it(kind: str) -> None:
    """Nothing else names it: without an anchor a cut tail cannot be seen, as docs/format.md says."""
    name, store = specimen().names[kind], specimen().store()
    store.delete(name)

    with pytest.raises(Tampered) as caught:
        opened(store, anchors=specimen().anchors)

    assert caught.value.name == name
    assert [snapshot.id for snapshot in opened(store).snapshots] == ["first", "second", "third"]


@pytest.mark.parametrize("kind", KINDS)
def test_another_objects_bytes_under_its_name_are_found_and_named(kind: str) -> None:
    """Swapped: another object of the same kind, and one of each other kind."""
    name = specimen().names[kind]

    for other in KINDS:
        if specimen().names[other] != name and intact(other) != intact(kind):
            assert examine(damaged(kind, intact(other)), name, 2).problems, other


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("data pack of the first", "data pack of the third"),
        ("tree pack of the first", "tree pack of the fourth"),
        ("data pack of the first", "tree pack of the first"),
        ("index of the first", "index of the third"),
        ("record of the second", "record of the third"),
        ("checkpoint", "first checkpoint"),
        ("keyfile slot", "passphrase slot"),
        ("ring", "other ring"),
    ],
)
def test_two_objects_that_changed_places_are_both_named(one: str, two: str) -> None:
    store = specimen().store()
    names = {specimen().names[kind] for kind in (one, two)}
    store.objects.update({specimen().names[one]: intact(two), specimen().names[two]: intact(one)})
    try:
        repository = Repository.open(store, Secret.recovery_code(CODE))
    except ObjectDamaged as error:
        assert error.name in names  # both rings: nothing opens
        return

    assert {problem.object for problem in check(repository, 2).problems} - {""} == names


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "config"])
def test_an_object_of_another_repository_under_its_name_is_found_and_named(kind: str) -> None:
    """Also one with the same keys, that is a replay from a copy of the repository which went its own way."""
    foreign = MemoryStore()
    new_repository(foreign)
    replayed = {name.partition("/")[0]: data for name, data in sorted(foreign.objects.items())}
    folder = specimen().names[kind].partition("/")[0]

    assert examine(damaged(kind, replayed.get(folder, replayed["log"])), specimen().names[kind], 2).problems


def test_an_older_state_of_everything_is_tampering_for_those_who_saw_more() -> None:
    """A replay of the whole storage as it was before the third and fourth snapshot."""
    later = ("of the third", "of the fourth")
    gone = {name for kind, name in specimen().names.items() if kind.endswith(later)}
    store = specimen().store()
    for name in gone:
        store.delete(name)
    before = dict(store.objects)

    with pytest.raises(Tampered, match="rolled back to an older state"):
        opened(store, anchors=specimen().anchors)

    assert store.objects == before


def test_damage_to_many_objects_is_told_of_all_of_them() -> None:
    store = specimen().store()
    victims = {specimen().names[kind] for kind in ("data pack of the first", "index of the third", "passphrase slot")}
    for name in victims:
        store.objects[name] = flipped(store.objects[name], 70)

    assert {problem.object for problem in check(opened(store), 2).problems} - {""} == victims


# -------------------------------------------------------------------- restores


@pytest.mark.parametrize("kind", PACKS)
def test_no_damaged_file_is_left_under_its_name(kind: str, tmp_path: Path) -> None:
    name, data = specimen().names[kind], intact(kind)
    places = regions(name, data)
    changes: dict[str, bytes] = {region: flipped(data, at) for region, at in places.items()}
    changes.update({"empty": b"", "half": data[: len(data) // 2], "swapped": intact("index of the first")})

    for number, (region, bytes_now) in enumerate(changes.items()):
        for snapshot_id in ("first", "fourth"):
            target = tmp_path / f"{number} {snapshot_id}"
            try:
                failed, there = restored(damaged(kind, bytes_now), snapshot_id, target, name)
            except EngineError:
                assert "tree" in kind, region  # what cannot be listed is not restored in part
                assert not target.exists()
                continue
            assert failed == len(specimen().files[snapshot_id]) - len(there)
            if "of the first" not in kind and snapshot_id == "first":
                assert failed == 0, region


@pytest.mark.parametrize("kind", ["data pack of the first", "data pack of the third"])
def test_a_restore_without_a_pack_brings_back_the_rest(kind: str, tmp_path: Path) -> None:
    name = specimen().names[kind]
    objects = {other: data for other, data in specimen().objects.items() if other != name}

    failed, there = restored(objects, "fourth", tmp_path / "target", name)

    assert failed
    assert len(there) == len(specimen().files["fourth"]) - failed > 2


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in PACKS and not kind.startswith(("index", "record of the fourth"))]
)
def test_damage_to_anything_but_packs_and_indexes_harms_no_file(kind: str, tmp_path: Path) -> None:
    objects = damaged(kind, intact(kind)[:-1])

    failed, there = restored(objects, "fourth", tmp_path / "target", specimen().names[kind])

    assert failed == 0
    assert there == specimen().files["fourth"].keys()


# ---------------------------------------------------------------- wrong secrets


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_wrong_passphrase_is_no_damage_and_writes_nothing(kind: str | None, tmp_path: Path) -> None:
    objects: Mapping[str, bytes] = damaged(kind, intact(kind)[:-1]) if kind else specimen().objects
    store = MemoryStore()
    store.objects = dict(objects)

    with pytest.raises((WrongSecret, ObjectDamaged)) as caught:
        Repository.open(store, Secret.passphrase("correct horse batterz"), cache=tmp_path / "cache")

    if kind != "passphrase slot":  # where the only slot for it is damaged, that is what is told
        assert isinstance(caught.value, WrongSecret)
    assert store.objects == objects
    assert not (tmp_path / "cache").exists()


def test_with_the_right_passphrase_the_same_damage_is_damage() -> None:
    store = MemoryStore()
    store.objects = damaged("passphrase slot", intact("passphrase slot")[:-1])

    with pytest.raises(ObjectDamaged) as caught:
        Repository.open(store, PASSPHRASE)

    assert caught.value.name == specimen().names["passphrase slot"]
    assert opened_somehow(store, caught.value.name).snapshots


def test_damage_is_healed_by_putting_the_intact_object() -> None:
    """Every name but config's tells what belongs under it; a copy's bytes under the name are the cure."""
    for kind in KINDS[1:]:
        store = MemoryStore()
        store.objects = damaged(kind, intact(kind)[:-1])
        store.put(specimen().names[kind], intact(kind))
        assert check(opened(store), 3).sound, kind


# ---------------------------------------------------------------- the next backup


def lost(store: MemoryStore, harm: Callable[[bytes], bytes | None], spared: Collection[str] = ()) -> set[str]:
    """Harm every pack there is, but some; their names."""
    packs = {name for name in store.objects if name.startswith("packs/")} - set(spared)
    for name in packs:
        if (left := harm(store.objects[name])) is None:
            del store.objects[name]
        else:
            store.objects[name] = left
    return packs


@pytest.mark.parametrize("harm", [lambda data: None, lambda data: data[:-1]], ids=["gone", "cut"])
@pytest.mark.parametrize("unchanged", [True, False], ids=["incremental", "full"])
def test_the_next_backup_stores_anew_what_lay_in_lost_packs(
    tmp_path: Path, harm: Callable[[bytes], bytes | None], unchanged: bool
) -> None:
    files = {"small": b"a few bytes", "large": bytes(range(256)) * 4096, "sub/more": b"others"}
    root, store = plant(tmp_path / "data", files), MemoryStore()
    first = archived(new_repository(store), scanned(root)).snapshot
    packs = lost(store, harm)
    reports = Reports()

    repository = opened(store)
    done = archived(
        repository, scanned(root), snapshot_id="second", parent=first, report=reports.append,
        options=Options(workers=0, assume_unchanged=unchanged),
    )  # fmt: skip

    assert any(f"{len(packs)} packs of earlier backups are gone or cut off" in words for words in reports.messages)
    assert files_of(opened(store), done.snapshot, root) == files


def test_the_next_backup_stores_anew_what_lies_in_packs_that_a_check_found_damaged(tmp_path: Path) -> None:
    files = {"large": bytes(range(256)) * 4096, "small": b"a few bytes"}
    root, store = plant(tmp_path / "data", files), MemoryStore()
    first = archived(new_repository(store), scanned(root)).snapshot
    packs = lost(store, lambda data: data[:-60] + bytes(60))
    damaged = frozenset(bytes.fromhex(name.rpartition("/")[2]) for name in packs)

    done = archived(
        opened(store), scanned(root), snapshot_id="second", parent=first, options=Options(workers=0, damaged=damaged)
    )

    assert files_of(opened(store), done.snapshot, root) == files


@pytest.mark.parametrize("unchanged", [True, False], ids=["incremental", "full"])
@pytest.mark.parametrize(
    "harm",
    [lambda data: None, lambda data: data[:-1], lambda data: data[:200] + bytes(60) + data[260:]],
    ids=["gone", "cut", "overwritten"],
)
def test_older_snapshots_come_back_with_the_next_backup_of_the_same_data(
    tmp_path: Path, harm: Callable[[bytes], bytes | None], unchanged: bool
) -> None:
    """A check found the damage, nothing has changed at the source: what is stored anew serves every snapshot. All data
    is harmed, and the listing of the second; that of the first is nowhere else."""
    files = {"small": b"a few bytes", "large": bytes(range(256)) * 4096, "sub/more": b"others"}
    root, store = plant(tmp_path / "data", files), MemoryStore()
    first = archived(new_repository(store), scanned(root)).snapshot
    listing = {fmt.pack_name(digest) for digest in first.tree_packs}
    second = archived(opened(store), scanned(plant(root, {"new": b"of the second"})), "second", parent=first).snapshot
    lost(store, harm, spared=listing)
    problems = check(opened(store), 3, snapshots=[first, second]).problems
    damaged = frozenset(fmt.digest_of(problem.object) for problem in problems)

    archived(
        opened(store), scanned(root), "third", parent=second,
        options=Options(workers=0, assume_unchanged=unchanged, damaged=damaged),
    )  # fmt: skip

    repository = opened(store)
    assert check(repository, 3, snapshots=repository.snapshots).sound
    assert files_of(repository, repository.log.live["first"], root) == files
    for name in ("first", "second", "third"):
        target = tmp_path / name
        done = restore(
            repository, repository.log.live[name], bytes(target), base=bytes(root)[1:],
            options=RestoreOptions(workers=0),
        )  # fmt: skip
        assert not done.failed
        assert (target / "large").read_bytes() == files["large"]


def test_an_untouched_repository_is_deduplicated_as_ever(tmp_path: Path) -> None:
    root, store = plant(tmp_path / "data", {"large": bytes(range(256)) * 4096}), MemoryStore()
    seen = list(scanned(root))  # once: the directories above belong to everybody
    archived(new_repository(store), map(replace, seen))
    packs = {name for name in store.objects if name.startswith("packs/")}

    archived(opened(store), seen, snapshot_id="second", options=Options(workers=0, assume_unchanged=False))

    assert {name for name in store.objects if name.startswith("packs/")} == packs


# ---------------------------------------------------------------- anchors


def test_a_damaged_leaf_is_not_replaced_by_its_parents_as_an_anchor(tmp_path: Path) -> None:
    store, cache = MemoryStore(), tmp_path / "cache"
    repository = new_repository(store, cache=cache)
    archived(repository, scanned(plant(tmp_path / "data", {"a": b"1"})))
    leaf = repository.log.leaves[0]
    sound = store.objects[leaf]
    store.objects[leaf] = flipped(sound, len(sound) // 2, 1)
    assert opened(store, cache=cache).anchors == []

    del store.objects[leaf]

    with pytest.raises(Tampered, match=leaf):
        opened(store, cache=cache)


def test_records_that_are_healed_are_no_tampering(tmp_path: Path) -> None:
    store, cache = MemoryStore(), tmp_path / "cache"
    archived(new_repository(store, cache=cache), scanned(plant(tmp_path / "data", {"a": b"1"})))
    records = {name: data for name, data in store.objects.items() if name.startswith("log/")}
    for name, data in records.items():
        store.objects[name] = flipped(data, len(data) // 2, 1)
    opened(store, cache=cache)
    store.objects.update(records)

    assert len(opened(store, cache=cache).snapshots) == 1
