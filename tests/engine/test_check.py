"""check(): what each level sees, whom it blames, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from backups.engine import Problem, Repository, Snapshot, check
from backups.engine import format as fmt
from backups.engine.errors import EngineError, StoreUnavailable
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import archived, files_of, new_repository, opened, plant, scanned
from tests.engine.test_workers import children
from tests.faults import Fault, FaultyStore, Harm

LARGE = os.urandom(400_000)
FILES = {"a/one": b"one", "a/two": b"two" * 50, "large": LARGE}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "data", FILES)


@pytest.fixture
def repository(store: MemoryStore, root: Path) -> Repository:
    """Two snapshots; the second has one file more."""
    repository = new_repository(store)
    first = archived(repository, scanned(root), "first").snapshot
    plant(root, {"b/three": b"three"})
    archived(repository, scanned(root), "second", parent=first)
    return opened(store)


def snapshot(repository: Repository, name: str) -> Snapshot:
    return repository.log.snapshot(name)


def data_pack(repository: Repository, content: bytes) -> str:
    """The pack that this content lies in as one blob."""
    repository.sync_index()
    return fmt.pack_name(repository.index.locate(repository.id_of(content)).pack)


def overwrite(store: MemoryStore, name: str, at: int = 100) -> None:
    data = store.objects[name]
    store.objects[name] = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def names(problems: list[Problem]) -> set[str]:
    return {problem.object for problem in problems}


# ------------------------------------------------------------------------ sound


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_sound_repository_has_no_problems(repository: Repository, store: MemoryStore, level: int) -> None:
    done = check(repository, level)

    assert done.sound
    assert done.unused_packs == 0
    objects = len(store.objects) - 1  # all but the config
    assert done.objects == objects
    assert (done.bytes > len(LARGE)) == (level > 1)


@pytest.mark.parametrize("level", [0, 4])
def test_there_are_three_levels(repository: Repository, level: int) -> None:
    with pytest.raises(EngineError, match=f"no check of level {level}: choose 1"):
        check(repository, level)


def test_an_empty_repository_is_sound(store: MemoryStore) -> None:
    assert check(new_repository(store), 3).sound


def test_problems_are_told_as_they_are_found(repository: Repository, store: MemoryStore) -> None:
    told: list[Problem] = []
    store.delete(data_pack(repository, b"one"))

    done = check(repository, 1, report=told.append)

    assert told == done.problems
    assert not done.sound


def test_every_damaged_pack_is_named_even_where_it_harms_nobody_who_was_asked_about(
    repository: Repository, store: MemoryStore
) -> None:
    gone, spoilt = data_pack(repository, b"one"), data_pack(repository, b"three")
    store.delete(gone)
    overwrite(store, spoilt)

    done = check(repository, 2)
    first_alone = check(opened(store), 1, snapshots=[snapshot(repository, "first")])

    assert {fmt.pack_name(digest) for digest in done.damaged_packs} == {gone, spoilt}
    assert {fmt.pack_name(digest) for digest in first_alone.damaged_packs} == {gone}


# ----------------------------------------------------------------------- levels


def test_level_1_sees_what_is_gone_or_has_another_size(repository: Repository, store: MemoryStore) -> None:
    gone, cut = data_pack(repository, b"one"), data_pack(repository, b"three")
    store.delete(gone)
    store.objects[cut] = store.objects[cut][:-1]

    done = check(repository, 1)

    found = {problem.object: problem for problem in done.problems}
    assert found[gone].message == "it is missing"
    assert found[cut].message.startswith("it has ")
    assert found[gone].snapshots == ("first", "second")
    assert {path.rpartition(b"/data/")[2] for path in found[gone].paths} == {b"a/one", b"a/two", b"large"}
    assert found[cut].snapshots == ("second",)


def test_level_2_sees_every_wrong_byte(repository: Repository, store: MemoryStore) -> None:
    name = data_pack(repository, b"one")
    overwrite(store, name)

    assert check(repository, 1).sound
    (problem,) = check(repository, 2).problems

    assert (problem.object, problem.message) == (name, "its SHA-256 is not its name")
    assert problem.snapshots == ("first", "second")


def test_level_3_tells_which_files_a_wrong_byte_harms(repository: Repository, store: MemoryStore) -> None:
    """The small files lie in a frame of their own; the large one in others."""
    name = data_pack(repository, b"one")
    location = repository.index.locate(repository.id_of(b"one"))
    overwrite(store, name, location.section.offset + 3)

    (problem,) = check(repository, 3).problems

    assert problem.object == name
    assert "blobs in it are damaged" in problem.message
    assert {path.rpartition(b"/")[2] for path in problem.paths} >= {b"one", b"two"}


def test_level_3_sees_a_pack_that_is_intact_and_lies(
    store: MemoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer with a fault in its memory sealed other bytes than it hashed."""
    right = Repository.id_of
    monkeypatch.setattr(Repository, "id_of", lambda self, data: right(self, b"other" if data == b"one" else data))
    archived(new_repository(store), scanned(root))
    monkeypatch.undo()
    again = opened(store)

    assert check(again, 2).sound
    problems = check(again, 3).problems

    assert [problem.message for problem in problems] == ["1 blobs in it are damaged"]
    assert [path.rpartition(b"/")[2] for path in problems[0].paths] == [b"one"]


@pytest.mark.parametrize("field", ["magic", "format", "type", "epoch", "repository", "salt", "trailer"])
@pytest.mark.parametrize("level", [2, 3])
def test_a_damaged_header_is_told_like_any_damage(
    repository: Repository, store: MemoryStore, field: str, level: int
) -> None:
    at = {"magic": 0, "format": 4, "type": 5, "epoch": 7, "repository": 9, "salt": 30, "trailer": -1}[field]
    name = data_pack(repository, b"one")
    overwrite(store, name, at % len(store.objects[name]))

    done = check(repository, level)

    assert names(done.problems) == {name}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_packs_may_be_read(store: MemoryStore, root: Path, share: float, tmp_path: Path) -> None:
    repository = new_repository(store)
    for number in range(8):
        archived(repository, scanned(plant(tmp_path / "more", {"file": b"%d" % number})), str(number))
    repository = opened(store)

    whole, part, again = (check(repository, 2, read_share=s) for s in (1.0, share, share))

    assert part.objects == whole.objects
    assert (part.bytes, again.bytes) == (part.bytes, part.bytes)
    assert part.bytes < whole.bytes


# ------------------------------------------------------------------ small objects


def test_every_small_object_that_is_gone_is_told(repository: Repository, store: MemoryStore) -> None:
    ring, _, slot = repository.log.keys
    index = snapshot(repository, "first").index[0]
    record = snapshot(repository, "first").record
    for name in ("config", ring, slot, index, record):
        store.delete(name)

    done = check(repository, 1)

    assert names(done.problems) >= {"config", ring, slot, index, record}


def test_every_small_object_that_is_damaged_is_told(repository: Repository, store: MemoryStore) -> None:
    small = [name for name in store.objects if not name.startswith("packs/")]
    for name in small:
        overwrite(store, name, 50)

    done = check(repository, 2)

    assert names(done.problems) >= set(small)


def test_a_damaged_small_object_is_told_once(repository: Repository, store: MemoryStore) -> None:
    name = snapshot(repository, "first").record
    overwrite(store, name, 50)

    done = check(opened(store), 3)

    assert [problem.object for problem in done.problems] == [name]


def test_what_is_lost_with_an_index_is_told(repository: Repository, store: MemoryStore) -> None:
    (name,) = snapshot(repository, "second").index
    store.delete(name)

    done = check(repository, 1)

    assert Problem(name, "the index object is missing", ("second",)) in done.problems
    assert {s for problem in done.problems for s in problem.snapshots} == {"second"}
    assert done.unused_packs == 2


def test_objects_that_nobody_uses_are_counted_or_told(repository: Repository, store: MemoryStore) -> None:
    orphan = b"left by a run that was killed"
    store.put(fmt.pack_name(fmt.sha256(orphan)), orphan)
    stray = "packs/zz/" + fmt.sha256(orphan).hex()
    store.objects[stray] = orphan
    store.objects["packs/ab/notes"] = b"x"

    done = check(repository, 1)

    assert done.unused_packs == 1
    assert names(done.problems) == {stray, "packs/ab/notes"}


def test_a_record_that_goes_while_the_repository_is_open_is_told(repository: Repository, store: MemoryStore) -> None:
    leaf = repository.log.leaves[0]
    store.delete(leaf)

    done = check(repository, 1)

    assert any(problem.object == leaf and "was here before and is gone" in problem.message for problem in done.problems)


def test_a_record_damaged_since_the_repository_was_opened_is_told(repository: Repository, store: MemoryStore) -> None:
    other = opened(store)
    archived(other, [], "third")
    record = other.log.snapshot("third").record
    overwrite(store, record)

    assert names(check(repository, 1).problems) == {record}


# ------------------------------------------------------------------- some snapshots


def test_only_what_some_snapshots_need_is_checked(repository: Repository, store: MemoryStore) -> None:
    first, second = (snapshot(repository, name) for name in ("first", "second"))
    store.delete(data_pack(repository, b"three"))
    overwrite(store, second.record)
    overwrite(store, second.index[0])

    assert check(repository, 3, snapshots=[first]).sound
    told = names(check(repository, 3, snapshots=[second]).problems)

    assert told >= {second.record, second.index[0]}
    assert check(repository, 3, snapshots=[first]).bytes < check(repository, 3).bytes


def test_a_snapshot_needs_the_packs_of_those_before_it(repository: Repository, store: MemoryStore) -> None:
    name = data_pack(repository, b"one")
    overwrite(store, name)

    (problem,) = check(repository, 2, snapshots=[snapshot(repository, "second")]).problems

    assert (problem.object, problem.snapshots) == (name, ("second",))


def test_a_damaged_tree_is_told_with_its_snapshots(repository: Repository, store: MemoryStore) -> None:
    name = fmt.pack_name(snapshot(repository, "second").tree_packs[0])
    overwrite(store, name)

    (problem,) = check(repository, 3).problems

    assert (problem.object, problem.snapshots) == (name, ("second",))
    assert files_of(opened(store), snapshot(repository, "first"))


def test_a_root_page_is_the_one_that_the_record_names(repository: Repository) -> None:
    forged = dataclasses.replace(snapshot(repository, "first"), root_sha256=bytes(32))

    (problem,) = check(repository, 1, snapshots=[forged]).problems

    assert "the root page is not the one that the record names" in problem.message


def test_a_damaged_copy_harms_nobody_while_another_is_sound(store: MemoryStore, root: Path) -> None:
    one = new_repository(store)
    two = opened(store)
    two.sync_index()
    archived(one, scanned(root), "one")
    archived(two, scanned(root), "two")
    repository = opened(store)
    packs = [info.name for info in store.list("packs/")]
    assert len(packs) == 4

    for name in packs:
        intact = store.objects[name]
        overwrite(store, name)
        for level in (2, 3):
            (problem,) = check(opened(store), level).problems
            assert (problem.object, problem.snapshots, problem.paths) == (name, (), ())
        store.objects[name] = intact
    assert repository.snapshots


# ------------------------------------------------------------------------ workers


@pytest.mark.parametrize("level", [2, 3])
def test_worker_processes_find_the_same(tmp_path: Path, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "FRAME_SIZE", 5_000)
    monkeypatch.setattr(fmt, "PACK_SIZE", 20_000)
    root = plant(tmp_path / "data", {f"{n}": os.urandom(1000) for n in range(150)})
    store = LocalStore(str(tmp_path / "store"))
    archived(new_repository(store), scanned(root))
    victim = sorted(info.name for info in store.list("packs/"))[3]
    path = tmp_path / "store" / victim
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(
        data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
    )  # a fixed letter would be there already, once in 256
    before = children()

    inline, forked = (check(opened(store), level, workers=workers) for workers in (0, 2))

    assert names(inline.problems) == {victim}
    assert inline.problems == forked.problems
    assert (inline.bytes, inline.objects) == (forked.bytes, forked.objects)
    assert children() <= before


def test_a_store_that_does_not_answer_is_no_damage(store: MemoryStore, repository: Repository) -> None:
    faulty = FaultyStore(store)
    again = opened(faulty)
    for verb in ("get", "list"):
        faulty.faults = [Fault(Harm.ERROR, verb, at=faulty.counts[verb] + 2, times=99)]

        with pytest.raises(StoreUnavailable):
            check(again, 3)
        faulty.faults = []


def test_an_object_that_goes_while_it_is_checked_is_told(store: MemoryStore, repository: Repository) -> None:
    victims = {snapshot(repository, "first").record, repository.log.keys[0], data_pack(repository, b"one")}

    class Racing(MemoryStore):
        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            if name in victims and armed:
                self.delete(name)
            return super().get(name, start, length)

    racing, armed = Racing(), False
    racing.objects = dict(store.objects)
    again = opened(racing)
    armed = True

    assert names(check(again, 2).problems) >= victims
