"""Space is given back when snapshots are forgotten, and nothing that is needed ever goes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from backups.engine import Compacted, CompactOptions, Repository, check, compact, compaction, preview, reindex
from backups.engine import format as fmt
from backups.engine.codec import Compressor
from backups.engine.envelope import EnvelopeWriter, Section
from backups.engine.errors import EngineError, LostLease, ObjectDamaged, ObjectMissing, StoreRefused
from backups.engine.format import SectionKind
from backups.engine.marks import Named, packs_of
from backups.engine.pack import read_pack
from backups.engine.store import Data, ObjectInfo
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import Reports, archived, files_of, new_repository, opened, plant, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm

ALL = CompactOptions(unused=0.0, grace=0.0)  # every byte counts, and nobody is waited for


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few KB make many packs."""
    monkeypatch.setattr(fmt, "FRAME_SIZE", 4000)
    monkeypatch.setattr(fmt, "PACK_SIZE", 12000)


def noise(name: str, size: int) -> bytes:
    """Bytes that do not shrink."""
    return hashlib.shake_256(name.encode()).digest(size)


class Story:
    """A repository in memory, a directory whose content changes, and what each snapshot held."""

    def __init__(self, folder: Path, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.repository = new_repository(self.store)
        self._folder = folder
        self.held: dict[str, dict[str, bytes]] = {}

    def backup(self, snapshot: str, files: Mapping[str, bytes]) -> None:
        """A snapshot of exactly these files."""
        root = plant(self._folder / snapshot, files)
        archived(opened(self.store), scanned(root), snapshot)
        self.held[snapshot] = dict(files)

    def forget(self, *snapshots: str) -> None:
        self.repository.log.append("forget", {"forget": list(snapshots)})
        for snapshot in snapshots:
            del self.held[snapshot]

    def compact(self, options: CompactOptions = ALL, **more: object) -> Compacted:
        """What a console does: it waits for everybody else, of whom there is nobody."""
        return compact(opened(self.store), options, **{"wait": nobody_else, **more})  # type: ignore[arg-type]

    def all_there(self) -> None:
        """Every snapshot restores byte for byte, and a check that reads everything finds nothing odd."""
        repository = opened(self.store)
        for snapshot, files in self.held.items():
            found = files_of(repository, repository.log.live[snapshot], self._folder / snapshot)
            assert found == files
        assert check(repository, 3, workers=0).problems == []

    def size(self, prefix: str = "packs/") -> int:
        return sum(info.size for info in self.store.list(prefix))


def nobody_else(_marks: Sequence[str]) -> bool:
    """There is nobody to wait for."""
    return True


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def files(*names: str, size: int = 3000) -> dict[str, bytes]:
    return {name: noise(name, size) for name in names}


# ------------------------------------------------------------------ space comes back


def test_it_gives_back_what_only_forgotten_snapshots_needed(story: Story) -> None:
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a", "b"))
    before = story.size()
    story.forget("old")

    done = story.compact()

    assert story.size() < before / 4
    assert done.freed > before / 2
    assert done.deleted > 3
    story.all_there()


def test_it_leaves_a_repository_alone_in_which_everything_is_needed(story: Story) -> None:
    story.backup("one", files("a", "b", "c"))
    before = dict(story.store.objects)

    done = story.compact()

    assert done.plan.idle
    assert story.store.objects == before


def test_it_keeps_what_two_snapshots_share_as_long_as_one_of_them_lives(story: Story) -> None:
    story.backup("one", files("shared", *(f"only{n}" for n in range(9))))
    story.backup("two", files("shared", "more"))
    story.forget("one")

    story.compact()

    story.all_there()
    assert opened(story.store).snapshots[0].id == "two"


def test_a_few_unused_bytes_stay_when_they_are_few_enough(story: Story) -> None:
    story.backup("big", files(*(f"big{n}" for n in range(40))))
    story.backup("small", files("small"))
    story.forget("small")
    before = dict(story.store.objects)

    done = story.compact(CompactOptions(unused=0.1, grace=0.0))

    assert 0 < done.plan.unused < 0.1 * done.plan.stored
    assert done.plan.idle
    assert story.store.objects == before


def test_the_budget_bounds_what_one_run_carries_and_the_next_goes_on(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(40))))
    story.backup("half", files(*(f"f{n}" for n in range(0, 40, 2))))
    story.forget("all")
    budget = CompactOptions(unused=0.0, grace=0.0, budget=20_000)

    carried = [story.compact(budget).carried for _ in range(9)]

    assert max(carried) < 26_000  # a plan counts frames; envelopes come on top
    assert len([bytes_ for bytes_ in carried if bytes_]) > 1
    assert carried[-1] == 0
    assert story.size() < 75_000
    story.all_there()


def test_a_preview_tells_the_bytes_and_writes_nothing(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(20))))
    story.backup("some", files("f0", "f9"))
    story.forget("all")
    before, size = dict(story.store.objects), story.size()

    plan = preview(opened(story.store), ALL)

    assert story.store.objects == before
    assert plan.stored == size
    freed = size - (story.compact(), story.size())[1]
    assert abs(plan.freed - freed) < 0.1 * size  # the new packs' own envelopes are not foreseen
    assert plan.unused >= plan.freed > 0


def test_frames_that_are_needed_whole_keep_their_compressed_bytes(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.backup("all", {f"f{n}": b"compresses well " * 400 + bytes([n]) for n in range(8)})
    story.backup("some", {f"f{n}": b"compresses well " * 400 + bytes([n]) for n in range(0, 8, 3)})
    story.forget("all")
    before = stored_frames(story)
    recoded: list[bytes] = []
    ordinary = EnvelopeWriter.add

    def add(writer: EnvelopeWriter, kind: SectionKind, raw: bytes, compressor: Compressor) -> Section:
        recoded.append(raw)
        return ordinary(writer, kind, raw, compressor)

    monkeypatch.setattr(EnvelopeWriter, "add", add)

    done = story.compact()

    assert done.carried
    assert stored_frames(story) < before  # nothing but what was there, under other keys
    assert not any(b"compresses well" in raw for raw in recoded)
    story.all_there()


def stored_frames(story: Story) -> set[bytes]:
    """Every data frame as its codec left it."""
    repository = opened(story.store)
    found: set[bytes] = set()
    for info in story.store.list("packs/"):
        pack, opened_pack = read_pack(repository.sealer, info.name, story.store.get(info.name))
        if pack.envelope.type == fmt.ObjectType.DATA_PACK:
            found.update(opened_pack.packed(frame.section) for frame in pack.frames)
    return found


def test_a_pack_with_little_to_gain_is_left_as_it_is(story: Story) -> None:
    """A frame less than 30 % of which is dead is carried whole, so nothing would come of it, day after day."""
    story.backup("all", files(*(f"f{n:02}" for n in range(20)), size=900))
    story.backup("most", files(*(f"f{n:02}" for n in range(20) if n % 4), size=900))
    story.forget("all")
    before = story.size()

    done = story.compact()

    assert done.carried < 2000  # a tree page that both snapshots share
    assert before * 0.8 < story.size() < before
    story.all_there()


def test_tree_pages_and_data_never_share_a_pack(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(20))))
    story.backup("some", files("f0", "f5", "f11"))
    story.forget("all")

    story.compact()

    repository = opened(story.store)
    pages = {s.root for s in repository.snapshots}
    for info in story.store.list("packs/"):
        pack, _ = read_pack(repository.sealer, info.name, story.store.get(info.name))
        if pages & {blob.id for frame in pack.frames for blob in frame.blobs()}:
            assert pack.envelope.type == fmt.ObjectType.TREE_PACK


def test_of_a_blob_that_two_hosts_stored_one_copy_stays(tmp_path: Path) -> None:
    store = MemoryStore()
    one, two = new_repository(store), opened(store)
    one.sync_index(), two.sync_index()
    root = plant(tmp_path / "data", files(*(f"f{n}" for n in range(10))))
    archived(one, scanned(root), "one")
    archived(two, scanned(root), "two")
    before = sum(info.size for info in store.list("packs/"))

    compact(opened(store), ALL, wait=nobody_else)

    assert sum(info.size for info in store.list("packs/")) < 0.6 * before
    again = opened(store)
    wanted = files(*(f"f{n}" for n in range(10)))
    assert [files_of(again, snapshot, root) for snapshot in again.snapshots] == [wanted, wanted]


def test_a_copy_is_only_given_up_when_the_other_one_is_whole(tmp_path: Path) -> None:
    store = MemoryStore()
    one, two = new_repository(store), opened(store)
    one.sync_index(), two.sync_index()
    root = plant(tmp_path / "data", files("file"))
    archived(one, scanned(root), "one")
    archived(two, scanned(root), "two")
    again = opened(store)
    blob = next(b for b in again.sync_index().ids() if len(files_of_blob(again, b)) == 2)
    spoiled = max(files_of_blob(again, blob))  # of equal ones the greater name is kept
    data = store.objects[fmt.pack_name(spoiled)]
    store.objects[fmt.pack_name(spoiled)] = data[:70] + bytes([data[70] ^ 1]) + data[71:]

    compact(opened(store), ALL, wait=nobody_else)

    healed = opened(store)
    assert files_of(healed, healed.log.live["one"], root) == files("file")


def files_of_blob(repository: Repository, blob: bytes) -> list[bytes]:
    return [location.pack for location in repository.index.find_all(blob)]


# ------------------------------------------------------------------ marks and sweeps


def test_without_anybody_to_wait_for_a_second_run_sweeps(story: Story) -> None:
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a"))
    story.forget("old")
    patient = CompactOptions(unused=0.0)  # a day between mark and sweep

    first = story.compact(patient, wait=None)
    at_once = story.compact(patient, wait=None)
    size = story.size()
    later = story.compact(ALL, wait=None)

    assert later.plan.idle
    assert (first.deleted, at_once.deleted) == (0, 0)
    assert first.marked == at_once.marked > 0
    assert at_once.plan.idle
    assert later.deleted
    assert story.size() < size / 3
    story.all_there()


def test_while_somebody_has_not_ended_nothing_is_swept_and_a_later_run_may(story: Story) -> None:
    """What a console does that has no time to wait: it remembers the marks, and names those that are ripe."""
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a"))
    story.forget("old")
    marks: list[str] = []
    patient = CompactOptions(unused=0.0)

    def not_yet(names: Sequence[str]) -> bool:
        marks.extend(names)
        return False

    first = story.compact(patient, wait=not_yet)
    held = story.compact(patient, wait=lambda names: False, ripe=lambda name, named: False)
    second = story.compact(patient, wait=lambda names: False, ripe=lambda name, named: name in marks)

    assert (first.deleted, held.deleted) == (0, 0)
    assert first.marked == held.marked > 0
    assert second.deleted
    assert second.marked == 0
    story.all_there()


def test_nothing_new_relies_on_marked_packs(story: Story) -> None:
    story.backup("old", files("returns", "goes"))
    story.backup("new", files("a"))
    story.forget("old")
    story.compact(CompactOptions(unused=0.0), wait=None)

    story.backup("again", files("returns"))
    done = story.compact(ALL, wait=None)

    assert done.deleted
    assert done.spared == 0
    story.all_there()


def test_packs_that_came_back_into_use_are_let_go(story: Story, tmp_path: Path) -> None:
    """By a writer that opened the repository before the mark, and commits before the sweep."""
    story.backup("old", files("returns", "goes"))
    story.backup("new", files("a"))
    story.forget("old")
    early = opened(story.store)
    early.sync_index()

    def wait(_marks: Sequence[str]) -> bool:
        archived(early, scanned(plant(tmp_path / "again", files("returns"))), "again")
        story.held["again"] = files("returns")
        return True

    done = story.compact(wait=wait)

    assert done.spared == 1
    story.all_there()


def test_a_checkpoint_tells_of_marks_and_of_what_is_condemned(story: Story) -> None:
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a"))
    story.forget("old")
    story.compact(CompactOptions(unused=0.0), wait=None)
    marked = opened(story.store).log.marks.leaving
    story.repository.log.append_checkpoint()

    again = opened(story.store)

    assert len(again.log.unread) > 3
    assert again.log.marks.leaving == marked != frozenset()
    assert story.compact(ALL, wait=None).deleted
    story.all_there()


def test_index_objects_that_are_gone_are_missed_by_nobody(story: Story) -> None:
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("old1"))
    story.forget("old")
    gone = set(opened(story.store).log.live["new"].index)

    story.compact()

    left = {info.name for info in story.store.list("index/")}
    assert set(opened(story.store).log.live["new"].index) == gone & left
    story.repository.log.append_checkpoint()
    assert set(opened(story.store).log.live["new"].index) == gone & left
    story.all_there()


def test_a_reader_that_opened_before_finds_what_was_moved(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(20))))
    story.backup("some", files("f0", "f9"))
    reader = opened(story.store)
    reader.sync_index()
    story.forget("all")

    story.compact()

    base = story._folder / "some"
    assert files_of(reader, reader.log.live["some"], base) == files("f0", "f9")


def test_a_reader_looks_only_once_for_what_is_lost(story: Story) -> None:
    story.backup("one", files("f"))
    reader = opened(story.store)
    blob = next(iter(reader.sync_index().ids()))
    story.store.delete(fmt.pack_name(reader.index.locate(blob).pack))
    listed: list[str] = []
    ordinary = story.store.list
    story.store.list = lambda prefix: listed.append(prefix) or ordinary(prefix)  # type: ignore[method-assign,func-returns-value]

    for _ in range(3):
        with pytest.raises(ObjectMissing):
            reader.load_blob(blob)

    assert listed == ["index/"]


def test_what_somebody_else_condemned_is_carried_over_before_it_goes(story: Story) -> None:
    """It names a pack that is needed: the sweep of another compactor that did not see a snapshot."""
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a", "b"))
    story.forget("old")
    needed = bytes.fromhex(needed_pack(story).rpartition("/")[2])

    def wait(_marks: Sequence[str]) -> bool:
        story.repository.log.append("sweep", {"marks": [], "packs": [needed], "index": []})
        return True

    done = story.compact(wait=wait)

    assert done.carried > 0
    assert fmt.pack_name(needed) not in story.store.objects
    story.compact()  # its rows go from the index, too
    story.all_there()


@pytest.mark.parametrize("found_last", [False, True])
def test_what_lies_in_a_marked_and_a_condemned_pack_keeps_the_marked_one(
    story: Story, tmp_path: Path, found_last: bool
) -> None:
    """A late writer relied on both; the mark is settled when its time has come."""
    one, two = opened(story.store), opened(story.store)
    one.sync_index(), two.sync_index()
    root = plant(tmp_path / "data", files("file"))
    archived(one, scanned(root), "one")
    archived(two, scanned(root), "two")
    twice = opened(story.store)
    blob = next(b for b in twice.sync_index().ids() if len(files_of_blob(twice, b)) == 2)
    marked, condemned = files_of_blob(twice, blob)[:: -1 if found_last else 1]
    twice.log.append("mark", {"packs": [marked], "index": []})
    twice.log.append("sweep", {"marks": [], "packs": [condemned], "index": []})

    story.compact(wait=None, ripe=lambda name, named: False, progress=soon_over())

    assert fmt.pack_name(condemned) not in story.store.objects
    story.compact(wait=None, ripe=lambda name, named: True)
    after = opened(story.store)
    assert [files_of(after, snapshot, root) for snapshot in after.snapshots] == [files("file")] * 2


def test_what_an_object_lock_holds_stays_condemned_and_nothing_else_waits_for_it(story: Story) -> None:
    class Locked(FaultyStore):
        def delete(self, name: str) -> None:
            if name == held:
                raise StoreRefused("The object is locked.")
            super().delete(name)

    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a"))
    story.forget("old")
    held = next(name for name in story.store.objects if name.startswith("packs/"))
    reports = Reports()

    first = compact(opened(Locked(story.store)), ALL, wait=nobody_else, report=reports.append)
    story.backup("newer", files("b"))
    again = compact(opened(Locked(story.store)), ALL, wait=nobody_else)
    kept = held in story.store.objects
    story.compact()

    assert (first.deleted > 3, kept, held in story.store.objects) == (True, True, False)
    assert ["locked" in report.message for report in reports] == [True]
    assert again.freed == 0
    story.all_there()


@pytest.mark.parametrize("name", ["packs/00/" + "ab" * 32, "packs/ab/abab", "packs/ab/" + "ab" * 31 + "zz"])
def test_what_lies_under_no_packs_name_is_no_pack(story: Story, name: str) -> None:
    story.backup("one", files("a"))
    packs = story.repository.stored_packs()

    story.store.objects[name] = b"whatever"

    assert story.repository.stored_packs() == packs


def soon_over(steps: int = 1000) -> Callable[[Compacted], None]:
    """Fails when a run takes more steps than it can have."""
    left = itertools.count(steps, -1)

    def step(_done: Compacted) -> None:
        assert next(left), "it does not come to an end"

    return step


def test_marks_that_somebody_else_settled_are_settled(story: Story) -> None:
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a", "b"))
    story.forget("old")

    def wait(_marks: Sequence[str]) -> bool:
        assert story.compact().deleted
        return True

    assert story.compact(wait=wait).deleted == 0
    story.all_there()


def test_it_writes_a_checkpoint_when_one_is_due(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.backup("old", files("x", "y"))
    story.backup("new", files("a"))
    story.forget("old")
    monkeypatch.setattr(fmt, "RECORDS_PER_CHECKPOINT", 4)

    story.compact()

    again = opened(story.store)
    assert again.log.newest is not None
    assert again.log.newest.kind == "checkpoint"
    assert again.log.marks.leaving == frozenset()
    story.all_there()


def test_long_lists_of_content_are_needed_too(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "CONTENT_PAGE", 40)
    monkeypatch.setattr(fmt, "UNIT_SIZE", 200_000)
    large = {"large": noise("large", 900_000)}
    story.backup("old", {**large, **files(*(f"old{n}" for n in range(40)))})
    story.backup("new", large)
    story.backup("newer", {**large, "more": b"x"})
    story.forget("old")

    done = story.compact()

    assert done.freed > 100_000
    story.all_there()


def test_index_objects_are_written_in_pieces_and_one_that_went_is_not_missed(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "BLOBS_AT_ONCE", 2)
    story.backup("old", files(*(f"f{n}" for n in range(8))))
    story.backup("older", files(*(f"g{n}" for n in range(8))))
    story.backup("new", files("f1", "g1"))
    story.forget("old", "older")
    ordinary, ghost = story.store.list, f"index/{'0' * 64}"
    monkeypatch.setattr(
        story.store, "list", lambda prefix: [*ordinary(prefix), *([ObjectInfo(ghost, 5)] if prefix == "index/" else [])]
    )

    assert story.compact().deleted

    monkeypatch.undo()
    story.all_there()


def test_an_index_object_that_is_spoiled_meanwhile_is_not_superseded(story: Story) -> None:
    story.backup("one", files("a"))
    repository = opened(story.store)
    repository.sync_index()
    spoil(story, min(name for name in story.store.objects if name.startswith("index/")))

    with pytest.raises(ObjectDamaged, match="its SHA-256 is not its name"):
        reindex.supersede(repository, {bytes(32)})


# ------------------------------------------------------------------ cut off


@pytest.mark.parametrize("harm", [Harm.CRASH, Harm.CRASH_AFTER])
def test_cut_off_at_any_step_it_loses_nothing_and_the_next_run_finishes(story: Story, harm: Harm) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(12))))
    story.backup("some", files("f0", "f5", "f9"))
    story.forget("all")
    before, ended = dict(story.store.objects), False
    for step in itertools.count(1):
        story.store.objects = dict(before)
        ended = run_until(story, Fault(harm, "any", step))
        story.all_there()
        story.compact()
        assert story.size() < 16_000
        story.all_there()
        if ended:
            break
    assert step > 40


def run_until(story: Story, fault: Fault) -> bool:
    """A compaction that is killed at one operation of the store; True when it came to its end before."""
    try:
        compact(opened(FaultyStore(story.store, [fault])), ALL, wait=nobody_else)
        return True
    except Crash:
        return False


def test_what_was_carried_before_a_crash_is_not_carried_again(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(30))))
    story.backup("some", files(*(f"f{n}" for n in range(0, 30, 2))))
    story.forget("all")

    def holding() -> None:
        raise LostLease("It was asked for before the mark.")

    with pytest.raises(LostLease):
        story.compact(holding=holding)
    size = story.size()

    done = story.compact()

    assert done.carried == 0
    assert story.size() < size / 2
    story.all_there()


def test_somebody_else_at_work_ends_it_before_anything_is_deleted(story: Story) -> None:
    story.backup("old", files(*(f"old{n}" for n in range(20))))
    story.backup("new", files("a"))
    story.forget("old")

    def holding() -> None:
        if opened(story.store).log.marks.condemned:
            raise LostLease("Another compaction is at work.")

    packs = {info.name for info in story.store.list("packs/")}
    with pytest.raises(LostLease):
        story.compact(holding=holding)

    assert packs <= story.store.objects.keys()
    story.compact()
    assert not packs <= story.store.objects.keys()
    story.all_there()


def test_it_looks_at_its_lease_between_every_hundred_objects(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "PACK_SIZE", 100)
    monkeypatch.setattr(fmt, "FRAME_SIZE", 100)
    story.backup("old", files(*(f"old{n}" for n in range(230)), size=400))
    story.backup("new", files("a"))
    story.forget("old")
    packs = [sum(1 for _ in story.store.list("packs/"))]

    story.compact(holding=lambda: packs.append(sum(1 for _ in story.store.list("packs/"))))

    assert max(before - after for before, after in itertools.pairwise(packs)) == 100
    story.all_there()


# ------------------------------------------------------------------ orphans


def test_packs_of_a_crashed_run_go_after_a_day(story: Story) -> None:
    story.backup("one", files("a"))
    orphan = leave_orphan(story)
    patient, late = CompactOptions(unused=0.0), CompactOptions(unused=0.0, grace=0.0)

    first = story.compact(patient)

    assert first.plan.orphans == [orphan]
    assert fmt.pack_name(orphan) in story.store.objects
    assert story.compact(patient).plan.idle
    story.compact(late)
    assert fmt.pack_name(orphan) not in story.store.objects
    story.all_there()


def test_a_run_that_goes_on_may_still_name_its_packs(story: Story, tmp_path: Path) -> None:
    """Its packs are no orphans, though no index object named them when they were marked."""
    story.backup("one", files("a"))
    names: set[str] = set()
    ordinary = story.store.put

    def put(name: str, data: Data) -> None:
        ordinary(name, data)
        if name.startswith("packs/") and not names:
            names.add(name)
            compact(opened(story.store), CompactOptions(unused=0.0), wait=nobody_else)

    story.store.put = put  # type: ignore[method-assign]
    story.backup("slow", files("b", "c"))
    marked = opened(story.store).log.marks.orphans
    story.store.put = ordinary  # type: ignore[method-assign]
    done = story.compact()

    assert {fmt.pack_name(pack) for pack in marked} == names
    assert done.spared == 1
    assert names <= story.store.objects.keys()
    story.all_there()


def leave_orphan(story: Story) -> bytes:
    """A pack that a crashed run sealed and no index object names; its SHA-256."""
    other = Story(story._folder / "crashed", MemoryStore())
    other.store.objects = dict(story.store.objects)
    other.backup("crashed", files("crashed"))
    name = next(n for n in sorted(other.store.objects) if n.startswith("packs/") and n not in story.store.objects)
    story.store.put(name, other.store.objects[name])
    return bytes.fromhex(name.rpartition("/")[2])


# ------------------------------------------------------------------ what is damaged stays


Spoil = Callable[[Story], object]
HARMS: dict[str, Spoil] = {
    "a record": lambda story: spoil(story, max(n for n in story.store.objects if n.startswith("log/"))),
    "an index object": lambda story: spoil(story, min(n for n in story.store.objects if n.startswith("index/"))),
    "a pack that is gone": lambda story: story.store.delete(needed_pack(story)),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=list(HARMS))
def test_it_gives_nothing_back_while_something_is_damaged(story: Story, harm: Spoil) -> None:
    story.backup("old", files("old"))
    story.backup("new", files("a"))
    story.forget("old")
    harm(story)
    before = dict(story.store.objects)

    with pytest.raises(EngineError, match=r"is damaged.*nothing is given back.*Check it"):
        story.compact()

    assert story.store.objects == before


def spoil(story: Story, name: str) -> None:
    data = story.store.objects[name]
    story.store.objects[name] = data[:-1] + bytes([data[-1] ^ 1])


def needed_pack(story: Story) -> str:
    repository = opened(story.store)
    return fmt.pack_name(repository.sync_index().locate(repository.log.live["new"].root).pack)


def test_a_damaged_pack_is_left_as_it_is(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(12))))
    story.backup("some", files("f0", "f5", "f9"))
    story.forget("all")
    victims = [fmt.pack_name(pack) for pack in preview(opened(story.store), ALL).victims]
    spoil(story, victims[0])
    spoiled, items = story.store.objects[victims[0]], list[object]()

    story.compact(report=items.append)

    gone = [name for name in victims if name not in story.store.objects]
    assert story.store.objects.get(victims[0]) == spoiled or victims[0] in gone
    assert len(items) <= 1


def test_a_pack_known_to_be_damaged_goes_only_when_nobody_needs_it(story: Story) -> None:
    story.backup("all", files(*(f"f{n}" for n in range(12))))
    story.backup("some", files("f0"))
    story.forget("all")
    known = frozenset(preview(opened(story.store), ALL).victims)
    careful = CompactOptions(unused=0.0, grace=0.0, damaged=known)

    plan = preview(opened(story.store), careful)

    assert set(plan.victims) < known
    assert plan.carried == 0
    story.compact(careful)
    story.all_there()


def test_a_needed_blob_in_a_condemned_pack_that_is_damaged_stops_it(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot was committed at the same moment; what it needs cannot be carried, so nothing is deleted."""
    story.backup("old", files("returns", "goes"))
    story.backup("new", files("a"))
    early = opened(story.store)
    early.sync_index()
    story.forget("old")
    ordinary = compaction._Run._in_use

    def overlooked(run: compaction._Run, marked: dict[str, Named]) -> set[bytes]:
        ordinary(run, marked)
        archived(early, scanned(plant(story._folder / "late", files("returns"))), "late")
        for pack in packs_of(marked.values()):
            spoil(story, fmt.pack_name(pack))
        return set()

    monkeypatch.setattr(compaction._Run, "_in_use", overlooked)
    packs = {info.name for info in story.store.list("packs/")}

    with pytest.raises(EngineError, match="is needed and damaged, so nothing is deleted"):
        story.compact()

    assert packs <= story.store.objects.keys()
