"""What a run looks at before it relies on what is stored: little, and never less than loss needs to be noticed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backups.engine import Archived, Options, check, lookout
from backups.engine import format as fmt
from backups.engine.lookout import EACH_RUN, LONGEST, SHARDS, Memory
from backups.engine.store import ObjectInfo
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import Reports, archived, files_of, new_repository, opened, plant, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm


class Watched(MemoryStore):
    """Notes down what is listed and read."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []
        self.read: list[str] = []

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.listed.append(prefix)
        return super().list(prefix)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self.read.append(name)
        return super().get(name, start, length)

    def forget_what_was_asked(self) -> None:
        self.listed, self.read = [], []


class Story:
    """A host with a cache that backs up one directory."""

    def __init__(self, place: Path) -> None:
        self.store, self.cache, self.count = Watched(), place / "cache", 0
        self.root = plant(place / "data", {"first": bytes(range(256)) * 40, "second": b"other words"})
        new_repository(self.store, self.cache)

    def run(self, store: FaultyStore | None = None, *, full: bool = False) -> tuple[Archived, Reports]:
        self.count += 1
        repository, reports = opened(store or self.store, cache=self.cache, recall=True), Reports()
        parent = next(repository.log.live.latest_first(), None)
        done = archived(
            repository, scanned(self.root), f"snapshot {self.count}", parent=parent, report=reports.append,
            options=Options(workers=0, assume_unchanged=not full),
        )  # fmt: skip
        return done, reports

    def data_packs(self) -> list[str]:
        """Names of those that hold contents, the last one first."""
        repository = opened(self.store)
        kinds = {pack.digest: pack.envelope.type for pack in repository.sync_index().packs()}
        names = [name for name in reversed(self.store.objects) if name.startswith("packs/")]
        return [name for name in names if kinds[fmt.digest_of(name)] == fmt.ObjectType.DATA_PACK]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


@pytest.fixture
def long_known(story: Story) -> Story:
    """A host that has seen all shards a while ago."""
    story.run()
    return story


def looked_at(story: Story) -> list[str]:
    return [prefix for prefix in story.store.listed if prefix.startswith("packs/")]


def test_the_first_run_lists_all_packs_and_the_next_one_a_few_shards(story: Story) -> None:
    story.run()
    assert looked_at(story) == ["packs/"]
    story.store.forget_what_was_asked()

    story.run()

    held = len(story.store.objects)  # each pack that the new tree relies on is looked for, too
    assert EACH_RUN <= len(looked_at(story)) <= EACH_RUN + held < SHARDS
    assert "index/" not in story.store.listed


def test_all_shards_have_their_turn(long_known: Story) -> None:
    long_known.store.forget_what_was_asked()

    for _ in range(SHARDS // EACH_RUN):
        long_known.run()

    assert set(looked_at(long_known)) == {f"packs/{shard:02x}/" for shard in range(SHARDS)}


def test_a_shard_that_was_not_seen_for_a_week_is_looked_at() -> None:
    memory, now = Memory("here", [1000.0] * SHARDS), 1000.0 + LONGEST
    memory.shards[200] -= 1.0

    assert memory.due(now)[0] == 200
    assert len(memory.due(now)) == EACH_RUN
    assert len(memory.due(now + 1.0)) == SHARDS


def test_what_was_seen_in_a_time_to_come_was_never_seen() -> None:
    assert len(Memory("here", [2000.0] * SHARDS).due(1999.0)) == SHARDS


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_something_new_does_not_rely_on_a_lost_pack_that_is_not_due(long_known: Story, harm: str) -> None:
    lost = long_known.data_packs()[0]
    data = long_known.store.objects.pop(lost)
    if harm == "cut":
        long_known.store.objects[lost] = data[:-1]
    plant(long_known.root, {"again": bytes(range(256)) * 40})

    done, _ = long_known.run(full=True)

    assert files_of(opened(long_known.store), done.snapshot, long_known.root) == {
        path.name: path.read_bytes() for path in long_known.root.iterdir()
    }


def test_after_a_lost_pack_was_met_the_next_run_looks_at_everything(long_known: Story) -> None:
    long_known.store.delete(long_known.data_packs()[0])
    plant(long_known.root, {"again": bytes(range(256)) * 40})
    long_known.run()
    long_known.store.forget_what_was_asked()

    _, reports = long_known.run()

    assert "packs/" in looked_at(long_known)
    assert any("1 packs of earlier backups are gone" in words for words in reports.messages)


def test_a_lost_pack_that_nothing_new_needs_is_told_within_as_many_runs_as_there_are_turns(long_known: Story) -> None:
    long_known.store.delete(long_known.data_packs()[0])

    told = [words for _ in range(SHARDS // EACH_RUN) for words in long_known.run()[1].messages]

    assert any("1 packs of earlier backups are gone" in words for words in told)
    last = opened(long_known.store)
    assert check(last, 3, snapshots=[last.log.live[f"snapshot {long_known.count}"]]).sound


def test_a_killed_run_is_followed_by_one_that_looks_at_everything(long_known: Story) -> None:
    plant(long_known.root, {"new": b"of the killed run"})
    with suppress(Crash):
        long_known.run(FaultyStore(long_known.store, [Fault(Harm.CRASH_AFTER, "put", at=3)]))  # its index object
    packs = long_known.data_packs()
    long_known.store.forget_what_was_asked()

    long_known.run()

    assert {"packs/", "index/"} <= set(long_known.store.listed)
    assert long_known.data_packs() == packs


def test_index_objects_of_others_are_learned_of_from_the_log(long_known: Story) -> None:
    other = opened(long_known.store)
    archived(other, scanned(plant(long_known.root.parent / "other", {"theirs": b"what another host has"})), "theirs")
    plant(long_known.root, {"ours": b"what another host has"})
    packs = long_known.data_packs()
    long_known.store.forget_what_was_asked()

    long_known.run()

    assert "index/" not in long_known.store.listed
    assert long_known.data_packs() == packs


@pytest.mark.parametrize("kind", ["mark", "sweep", "unheard of"])
def test_after_space_was_given_back_the_index_objects_are_listed(long_known: Story, kind: str) -> None:
    opened(long_known.store).log.append(kind, {"packs": [], "index": []})
    long_known.store.forget_what_was_asked()

    long_known.run()

    assert "index/" in long_known.store.listed


def test_index_objects_are_listed_once_a_day(long_known: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LISTED", -1.0)
    long_known.store.forget_what_was_asked()

    long_known.run()

    assert "index/" in long_known.store.listed


def test_an_index_that_lost_a_part_of_its_cache_is_listed(long_known: Story) -> None:
    long_known.run()
    for path in long_known.cache.rglob("*.segment"):
        path.unlink()
    long_known.store.forget_what_was_asked()

    long_known.run()

    assert "index/" in long_known.store.listed


def test_an_index_object_that_is_gone_is_no_end(long_known: Story) -> None:
    other = opened(long_known.store)
    made = archived(other, scanned(plant(long_known.root.parent / "other", {"theirs": b"of another host"})), "theirs")
    long_known.store.delete(made.snapshot.index[0])

    done, _ = long_known.run()

    assert check(opened(long_known.store), 3, snapshots=[done.snapshot]).sound


def test_after_a_check_told_of_damage_the_next_run_looks_at_everything(long_known: Story) -> None:
    long_known.store.delete(long_known.data_packs()[0])
    assert not check(opened(long_known.store, cache=long_known.cache), 1).sound

    done, reports = long_known.run()

    assert any("1 packs of earlier backups are gone" in words for words in reports.messages)
    assert check(opened(long_known.store), 3, snapshots=[done.snapshot]).sound


def test_a_damaged_memory_is_none(long_known: Story) -> None:
    path = next(long_known.cache.rglob("seen"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    long_known.store.forget_what_was_asked()

    long_known.run()

    assert looked_at(long_known) == ["packs/"]


def test_what_was_seen_of_one_storage_does_not_count_for_its_copy(tmp_path: Path) -> None:
    here, root, cache = (
        LocalStore(str(tmp_path / "here")),
        plant(tmp_path / "data", {"a": b"words"}),
        tmp_path / "cache",
    )
    first = archived(new_repository(here, cache), scanned(root)).snapshot
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    copy = LocalStore(str(tmp_path / "copy"))
    for pack in opened(copy).sync_index().packs():
        copy.delete(fmt.pack_name(pack.digest))
    reports = Reports()

    archived(opened(copy, cache=cache), scanned(root), "second", parent=first, report=reports.append)

    assert any("2 packs of earlier backups are gone" in words for words in reports.messages)


# ---------------------------------------------------------------- the log's newest records


def records_read(store: Watched) -> list[str]:
    return [name for name in store.read if name.startswith("log/")]


def test_records_that_were_read_before_are_not_fetched_again(long_known: Story) -> None:
    long_known.run()
    long_known.store.forget_what_was_asked()

    repository = opened(long_known.store, cache=long_known.cache, recall=True)

    assert [fmt.record_seq(name) for name in records_read(long_known.store)] == [0]  # the checkpoint
    assert list(repository.log.live) == ["snapshot 1", "snapshot 2"]


def test_a_check_reads_the_records_themselves(long_known: Story) -> None:
    name = opened(long_known.store).log.live["snapshot 1"].record
    long_known.store.objects[name] = long_known.store.objects[name][:-1]

    told = check(opened(long_known.store, cache=long_known.cache), 1).problems

    assert name in {problem.object for problem in told}


def test_what_is_kept_of_the_log_is_sealed_and_its_damage_is_none(long_known: Story) -> None:
    path = next(long_known.cache.rglob("records"))
    data = path.read_bytes()
    assert b"story" not in data
    path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])

    repository = opened(long_known.store, cache=long_known.cache, recall=True)

    assert list(repository.log.live) == ["snapshot 1"]
