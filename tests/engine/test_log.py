"""The log: the one truth, whoever writes at the same time, whatever is lost, put back or added late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backups.engine import Snapshot
from backups.engine import format as fmt
from backups.engine.envelope import METADATA, Sealer
from backups.engine.errors import EngineError, NewerFormat, SnapshotMissing, Tampered
from backups.engine.format import ObjectType, SectionKind
from backups.engine.log import Log, covers
from backups.engine.store import ObjectInfo
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from tests.engine.scenery import ID, RING, new_repository, opened

SEALER = Sealer(ID, RING)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(autouse=True)
def _few_records_to_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "RECORDS_PER_CHECKPOINT", 8)


def fresh(store: Any) -> Log:
    """The log as somebody sees it who opens it now."""
    log = Log(store, SEALER, {"console": "story", "host": "here"})
    log.refresh()
    return log


def begun(store: Any) -> Log:
    """A log with its first record."""
    log = fresh(store)
    log.append_checkpoint(config=b"the config", keys=["keys/a"])
    return log


def snapshot(snapshot_id: str, time: float = 0.0) -> Snapshot:
    digest = fmt.sha256(snapshot_id.encode())
    return Snapshot(snapshot_id, time, digest, digest, digest, 1, 2, (digest,), ("index/x",), {"source": "story"})


def commit(log: Log, *ids: str) -> None:
    for name in ids:
        log.append_snapshot(snapshot(name))


def forget(log: Log, *ids: str) -> None:
    log.append("forget", {"forget": list(ids), "reason": "story"})


def live(log: Log) -> set[str]:
    return set(log.live)


class Stale:
    """A store whose listing stands still: what one of two writers sees who write at once."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._listed = list(store.list(""))

    def list(self, prefix: str) -> Sequence[ObjectInfo]:
        return [info for info in self._listed if info.name.startswith(prefix)]

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)


# --------------------------------------------------------------------- records


def test_it_brings_back_what_was_committed(store: MemoryStore) -> None:
    commit(begun(store), "one", "two")

    log = fresh(store)

    assert log.live["two"].pack() == snapshot("two").pack()
    assert log.live["two"].record == max(log.names)
    assert (log.config, log.keys) == (b"the config", ("keys/a",))
    assert [record.seq for record in map(log.read, sorted(log.names))] == [0, 1, 2]
    assert not log.damaged
    assert not log.missing


def test_a_record_names_the_one_before_it_and_its_writer(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")

    first, second, third = map(log.read, sorted(log.names))

    assert (first.parents, second.parents, third.parents) == ((), (first.name,), (second.name,))
    assert [record.kind for record in (first, second, third)] == ["checkpoint", "snapshot", "snapshot"]
    assert log.leaves == [third.name]


def test_committing_twice_is_committing_once(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")

    again = fresh(store).append_snapshot(snapshot("one", time=99))

    assert again == log.live["one"]
    assert len(log.names) == 2


def test_a_put_whose_reply_was_lost_is_found_by_the_next_attempt(store: MemoryStore) -> None:
    log = begun(store)
    other = fresh(store)
    commit(log, "one")  # it got through, and the writer never heard of it

    other.append_snapshot(snapshot("one"))

    assert len(fresh(store).names) == 2


def test_latest_is_by_time_and_ids_may_be_shortened(store: MemoryStore) -> None:
    log = begun(store)
    for name, time in (("abc", 3.0), ("abd", 2.0), ("ab", 1.0)):
        log.append_snapshot(snapshot(name, time))

    assert log.snapshot("latest").id == "abc"
    assert log.snapshot("abd").id == "abd"
    assert log.snapshot("ab").id == "ab"


@pytest.mark.parametrize(("asked", "said"), [("ab", "Several"), ("x", "No snapshot begins"), ("", "Several")])
def test_an_unclear_id_is_refused(store: MemoryStore, asked: str, said: str) -> None:
    log = begun(store)
    commit(log, "abc", "abd")

    with pytest.raises(SnapshotMissing, match=said):
        log.snapshot(asked)


# -------------------------------------------------------------- many writers


def test_two_writers_at_once_leave_two_leaves_and_the_next_record_joins_them(store: MemoryStore) -> None:
    begun(store)
    one, two = fresh(Stale(store)), fresh(Stale(store))
    commit(one, "one")
    commit(two, "two")
    log = fresh(store)
    assert len(log.leaves) == 2

    commit(log, "three")

    assert log.read(log.leaves[0]).parents == tuple(sorted(one.leaves + two.leaves))
    assert live(fresh(store)) == {"one", "two", "three"}


def test_a_writer_sees_what_others_wrote_meanwhile(store: MemoryStore) -> None:
    one = begun(store)
    two = fresh(store)
    commit(two, "theirs")

    commit(one, "mine")

    assert live(one) == {"theirs", "mine"}
    assert one.leaves == [max(one.names)]


def test_a_record_with_the_number_of_a_checkpoint_is_not_covered_by_it(store: MemoryStore) -> None:
    """Both writers take the same number; whichever hash is greater, the snapshot must be seen."""
    for attempt in range(8):  # both orders of the hashes come up
        store.objects.clear()
        begun(store)
        stale = fresh(Stale(store))
        fresh(store).append_checkpoint()

        commit(stale, f"late {attempt}")

        assert live(fresh(store)) == {f"late {attempt}"}


def test_a_record_that_arrives_late_is_found_in_spite_of_a_checkpoint(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    slow = fresh(Stale(store))
    commit(log, "two", "three")
    log.append_checkpoint()
    commit(log, "four")

    commit(slow, "late")

    assert min(fmt.record_seq(leaf) for leaf in fresh(store).leaves) == 2
    assert live(fresh(store)) == {"one", "two", "three", "four", "late"}


def test_a_log_that_is_open_sees_a_late_record_too(store: MemoryStore) -> None:
    log = begun(store)
    slow = fresh(Stale(store))
    commit(log, "one")
    log.append_checkpoint()
    watching = fresh(store)
    commit(slow, "late")

    watching.refresh()

    assert live(watching) == {"one", "late"}


def put_record(store: Any, log: Log, seq: int, snapshot_id: str) -> str:
    """A record of this number, whoever counts otherwise; its name."""
    record, data = log._sealed("snapshot", snapshot(snapshot_id).pack(), seq, log.leaves)
    store.put(record.name, data)
    return record.name


def test_what_others_wrote_into_the_next_directory_is_seen_before_one_writes(store: MemoryStore) -> None:
    put_record(store, begun(store), 999, "the last of its thousand")
    one, two = fresh(store), fresh(store)
    commit(two, "theirs")

    commit(one, "mine")

    assert [fmt.record_seq(name) for name in sorted(store.objects)] == [0, 999, 1000, 1001]
    assert one.read(max(store.objects)).parents == tuple(two.leaves)


def test_who_writes_lists_the_end_of_the_log_and_a_look_at_all_of_it_tells_what_came_late(store: MemoryStore) -> None:
    log = begun(store)
    put_record(store, log, 2000, "newest")
    log = fresh(store)
    put_record(store, fresh(store), 5, "late")  # from somebody who counted long ago

    commit(log, "mine")
    before = live(log)
    log.refresh()

    assert before == {"newest", "mine"}
    assert live(log) == {"newest", "mine", "late"}


@settings(max_examples=60, deadline=None)
@given(steps=some.lists(some.tuples(some.integers(0, 2), some.sampled_from("sSfcr")), max_size=25))
def test_writers_in_any_order_agree_in_the_end(steps: list[tuple[int, str]]) -> None:
    """Each of three writers now and then looks (r), and between two looks works on what it saw."""
    store = MemoryStore()
    begun(store)
    seen = [Stale(store) for _ in range(3)]
    kept: set[str] = set()
    gone: set[str] = set()
    for number, (who, step) in enumerate(steps):
        log = fresh(store if step == "S" else seen[who])
        if step in "sS":
            commit(log, f"snapshot {number}")
            kept.add(f"snapshot {number}")
        elif step == "f" and log.live:
            chosen = min(log.live)
            forget(log, chosen)
            gone.add(chosen)
        elif step == "c":
            log.append_checkpoint()
        elif step == "r":
            seen[who] = Stale(store)

    log = fresh(store)

    assert live(log) == kept - gone
    assert not log.missing
    fresh(store).append_checkpoint()
    assert live(fresh(store)) == kept - gone


# ------------------------------------------------------------------ forgetting


def test_what_is_forgotten_is_gone_for_everybody(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")
    forget(log, "one")

    assert live(log) == live(fresh(store)) == {"two"}


def test_a_fork_and_checkpoints_never_bring_back_the_forgotten(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")
    stale = fresh(Stale(store))
    forget(log, "one")
    log.append_checkpoint()

    stale.append_checkpoint()  # its writer has not heard that "one" is forgotten

    assert live(fresh(store)) == {"two"}
    fresh(store).append_checkpoint()
    assert live(fresh(store)) == {"two"}


def test_what_is_forgotten_cannot_be_committed_again(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    forget(log, "one")
    before = dict(store.objects)

    with pytest.raises(EngineError, match="what is forgotten never comes back"):
        commit(fresh(store), "one")

    assert store.objects == before


# ----------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_due_after_so_many_records_and_not_again_at_once(store: MemoryStore) -> None:
    log = begun(store)
    due = []
    for number in range(3 * fmt.RECORDS_PER_CHECKPOINT):
        commit(log, str(number))
        if log.checkpoint_due():
            log.append_checkpoint()
            due.append(number + 1)

    assert due == [8, 16, 24]


def test_no_checkpoint_hides_that_a_record_is_gone(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")
    gone = next(name for name in store.objects if fmt.is_record_name(name) and fmt.record_seq(name) == 1)
    del store.objects[gone]

    for number in range(2 * fmt.RECORDS_PER_CHECKPOINT):
        commit(log := fresh(store), str(number))
        assert not log.checkpoint_due()

    assert fresh(store).missing == {gone}


def test_opening_reads_one_checkpoint_and_what_came_after(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, *map(str, range(20)))
    log.append_checkpoint()
    commit(log, "a", "b")
    metered = MeteredStore(store)

    again = fresh(metered)
    opened_with = metered.usage.gets
    again.refresh()
    commit(again, "c")

    assert opened_with == 3
    assert metered.usage.gets == 3
    assert len(again.live) == 23


def test_a_checkpoint_carries_keys_and_config_on(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    log.append_checkpoint()

    again = fresh(store)

    assert (again.config, again.keys) == (b"the config", ("keys/a",))


def test_a_damaged_checkpoint_costs_reading_not_snapshots(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")
    name = log.append_checkpoint().name
    store.objects[name] = store.objects[name][:-1]

    again = fresh(store)

    assert live(again) == {"one", "two"}
    assert [damage.name for damage in again.damaged] == [name]


def test_no_checkpoint_is_written_while_a_record_is_damaged(store: MemoryStore) -> None:
    """It would cover the damaged record: healed later from a copy, nobody would ever read it again."""
    log = begun(store)
    commit(log, "one")
    intact, name = dict(store.objects), log.leaves[0]
    store.objects[name] = store.objects[name][:-1]
    log = fresh(store)
    commit(log, *map(str, range(10)))

    assert not log.checkpoint_due()
    store.objects[name] = intact[name]
    assert "one" in live(fresh(store))
    assert fresh(store).checkpoint_due()


def test_covers_counts_and_hashes_each_directory_of_the_log() -> None:
    names = [fmt.record_name(seq, bytes([seq % 251] * 32)) for seq in (0, 1, 999, 1000, 1001, 5000)]

    found = covers(names, 1001)

    assert {directory: count for directory, (count, _) in found.items()} == {"log/000000000": 3, "log/000000001": 1}
    assert covers(reversed(names), 1001) == found
    assert covers(names[1:], 1001) != found
    assert covers(names, 0) == {}


# ------------------------------------------------------------ damage and malice


def test_a_damaged_record_is_told_and_the_others_count(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two", "three")
    name = log.live["two"].record
    store.objects[name] = bytes([store.objects[name][0] ^ 1]) + store.objects[name][1:]

    again = fresh(store)

    assert live(again) == {"one", "three"}
    assert [(d.name, d.why) for d in again.damaged] == [(name, "its SHA-256 is not its name")]


def test_a_record_missing_in_the_middle_is_told_every_time_one_looks(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two", "three")
    name = log.live["two"].record
    store.delete(name)

    again = fresh(store)
    again.refresh()
    commit(again, "four")

    assert again.missing == {name}
    assert live(again) == {"one", "three", "four"}


def test_a_record_missing_before_a_checkpoint_is_told_and_its_snapshot_lives_on(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")
    name = log.live["two"].record
    log.append_checkpoint()
    store.delete(name)

    again = fresh(store)

    assert again.missing == {name}
    assert live(again) == {"one", "two"}


def test_a_leaf_that_was_seen_and_is_gone_means_tampering(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    anchors = log.leaves
    store.delete(anchors[0])

    again = Log(store, SEALER, {})

    with pytest.raises(Tampered, match=f"{anchors[0]} was here before and is gone"):
        again.refresh(anchors)


def test_a_log_rolled_back_under_an_open_repository_blocks_the_commit(store: MemoryStore) -> None:
    log = begun(store)
    older = dict(store.objects)
    commit(log, "one")
    store.objects = dict(older)

    with pytest.raises(Tampered):
        commit(log, "two")

    assert store.objects == older


def test_a_covered_record_that_goes_while_the_log_is_open_is_noticed(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one", "two")
    log.append_checkpoint()
    again = fresh(store)
    store.delete(log.live["one"].record)

    with pytest.raises(Tampered):
        again.refresh()


def test_two_histories_that_were_both_seen_cannot_pass_for_one(store: MemoryStore) -> None:
    """A fork: two consoles were shown two different continuations of one log."""
    begun(store)
    shown = []
    for name in ("one", "other"):
        copy = MemoryStore()
        copy.objects = dict(store.objects)
        log = fresh(copy)
        commit(log, name)
        shown.append((copy, log.leaves))

    for copy, _ in shown:
        with pytest.raises(Tampered):
            Log(copy, SEALER, {}).refresh([leaf for _, leaves in shown for leaf in leaves])


def test_without_an_anchor_a_cut_tail_cannot_be_seen(store: MemoryStore) -> None:
    """The bound of the promise, as docs/format.md tells it."""
    log = begun(store)
    commit(log, "one", "two")
    store.delete(log.leaves[0])

    again = fresh(store)

    assert live(again) == {"one"}
    assert not again.missing


@pytest.mark.parametrize(
    "name",
    [
        "log/notes",
        "log/000000000/notes",
        "log/000000000/000000000001",
        "log/000000000/000000000001-abc",
        "log/000000001/000000000001-" + "0" * 32,  # a record of this number lies in 000000000
        "log/9/000000009000-" + "0" * 32,
    ],
)
def test_what_is_no_record_is_told_and_stops_nobody(store: MemoryStore, name: str) -> None:
    log = begun(store)
    commit(log, "one")
    store.objects[name] = b"scribble"

    again = fresh(store)
    commit(again, "two")

    assert live(fresh(store)) == {"one", "two"}
    assert [damage.name for damage in again.damaged] == [name]


def test_a_number_that_anybody_can_invent_moves_nothing(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    store.objects["log/999999999/999999999999-" + "0" * 32] = b"not a record"

    again = fresh(store)
    commit(again, "two")

    assert [fmt.record_seq(leaf) for leaf in again.leaves] == [2]
    assert live(fresh(store)) == {"one", "two"}


def test_a_record_under_another_number_is_damaged(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    data = store.get(log.leaves[0])
    replayed = fmt.record_name(7, fmt.sha256(data))
    store.put(replayed, data)

    again = fresh(store)

    assert [(d.name, d.why) for d in again.damaged] == [(replayed, "it was written under another sequence number")]
    assert live(again) == {"one"}


def test_another_object_under_a_records_name_is_damaged(store: MemoryStore) -> None:
    begun(store)
    writer = SEALER.new(ObjectType.INDEX)
    writer.add(SectionKind.RECORD, b"\x80", METADATA)
    data = writer.finish({}, METADATA)
    name = fmt.record_name(1, fmt.sha256(data))
    store.put(name, data)

    again = fresh(store)

    assert [damage.name for damage in again.damaged] == [name]


def test_a_record_of_a_newer_format_is_not_guessed_at(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = begun(store)
    monkeypatch.setattr(fmt, "FORMAT", fmt.FORMAT + 1)
    commit(log, "one")
    monkeypatch.undo()

    with pytest.raises(NewerFormat):
        fresh(store)


def test_a_kind_of_record_that_comes_later_is_passed_over(store: MemoryStore) -> None:
    log = begun(store)
    commit(log, "one")
    log.append("greeting", {"text": "hello"})

    assert live(fresh(store)) == {"one"}


# ------------------------------------------------------- through the repository


def test_the_cache_remembers_the_leaves(tmp_path: Path) -> None:
    store = MemoryStore()
    repository = new_repository(store, cache=tmp_path)
    older = dict(store.objects)
    repository.log.append_snapshot(snapshot("one"))
    repository.remember_leaves()
    store.objects = older

    with pytest.raises(Tampered, match="rolled back to an older state"):
        opened(store, cache=tmp_path)
    assert opened(store).snapshots == []


@pytest.mark.parametrize("change", [lambda text: "", lambda text: "[", lambda text: text[:-70] + "0" + text[-69:]])
def test_a_damaged_memory_of_the_leaves_blocks_nobody(tmp_path: Path, change: Callable[[str], str]) -> None:
    store = MemoryStore()
    repository = new_repository(store, cache=tmp_path)
    assert repository.cache
    memory = repository.cache / "leaves"
    intact = memory.read_text()
    memory.write_text(change(intact))

    opened(store, cache=tmp_path)

    assert memory.read_text() == intact


def test_anchors_from_elsewhere_count_too() -> None:
    store = MemoryStore()
    new_repository(store)
    lost = fmt.record_name(1, bytes(32))

    with pytest.raises(Tampered, match=lost):
        opened(store, anchors=[lost])
