"""Retrying, metering, choosing and breaking stores."""

from __future__ import annotations

import threading

import pytest

from backups.engine.errors import EngineError, ObjectMissing, StoreAbsent, StoreFull, StoreUnavailable
from backups.engine.stores import open_store
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore, Usage
from backups.engine.stores.retrying import Patience, RetryingStore
from tests.faults import Crash, Fault, FaultyStore, Harm


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


DEFAULT = Patience()


def patient(store: FaultyStore, clock: Clock, patience: Patience = DEFAULT, chance: float = 1.0) -> RetryingStore:
    return RetryingStore(store, patience, sleep=clock.sleep, clock=clock, chance=lambda: chance)


# -------------------------------------------------------------------- retrying


def test_it_tries_again_with_growing_pauses() -> None:
    faulty, clock = FaultyStore(MemoryStore(), [Fault(Harm.ERROR, "put", times=4)]), Clock()

    patient(faulty, clock, Patience(attempts=9, first=1, longest=4)).put("config", b"facts")

    assert faulty.inner.get("config") == b"facts"
    assert clock.naps == [1, 2, 4, 4]


def test_pauses_are_drawn_from_zero_to_full() -> None:
    faulty, clock = FaultyStore(MemoryStore(), [Fault(Harm.ERROR, "put", times=3)]), Clock()

    patient(faulty, clock, Patience(first=1), chance=0.25).put("config", b"facts")

    assert clock.naps == [0.25, 0.5, 1.0]


def test_it_gives_up_after_its_attempts_and_keeps_the_last_error() -> None:
    faulty, clock = FaultyStore(MemoryStore(), [Fault(Harm.ERROR, "get", times=99)]), Clock()

    with pytest.raises(StoreUnavailable, match=r"The connection broke\. \(Given up after 3 attempts in 3 s\.\)"):
        patient(faulty, clock, Patience(attempts=3, first=1)).get("config")

    assert faulty.counts["get"] == 3


def test_it_gives_up_before_its_time_is_over() -> None:
    faulty, clock = FaultyStore(MemoryStore(), [Fault(Harm.ERROR, "get", times=99)]), Clock()

    with pytest.raises(StoreUnavailable, match="Given up after 5 attempts in 15 s"):
        patient(faulty, clock, Patience(attempts=99, first=1, longest=60, total=30)).get("config")

    assert clock.now <= 30


def test_it_does_not_repeat_what_cannot_get_better() -> None:
    full = Fault(Harm.ERROR, "put", error=StoreFull("No space is left."), times=99)
    faulty, clock = FaultyStore(MemoryStore(), [full]), Clock()

    with pytest.raises(StoreFull, match=r"No space is left\.$"):
        patient(faulty, clock).put("config", b"facts")
    with pytest.raises(ObjectMissing):
        patient(faulty, clock).get("config")

    assert (faulty.counts["put"], faulty.counts["get"], clock.naps) == (1, 1, [])


def test_it_does_not_wait_for_a_place_that_is_not_there() -> None:
    """A later attempt of the work may find it mounted, so the error stays temporary."""
    absent = Fault(Harm.ERROR, "get", error=StoreAbsent("There is no store of ours."), times=99)
    faulty, clock = FaultyStore(MemoryStore(), [absent]), Clock()

    with pytest.raises(StoreAbsent, match=r"There is no store of ours\.$") as caught:
        patient(faulty, clock).get("config")

    assert not caught.value.permanent
    assert (faulty.counts["get"], clock.naps) == (1, [])


def test_a_lost_reply_is_harmless_for_every_verb() -> None:
    verbs = ("put", "get", "stat", "list", "delete")
    faulty, clock = FaultyStore(MemoryStore(), [Fault(Harm.LOST_REPLY, verb) for verb in verbs]), Clock()
    store = patient(faulty, clock)

    store.put("config", b"facts")
    got, info, listed = store.get("config"), store.stat("config"), list(store.list(""))
    store.delete("config")

    assert (got, info.size, listed) == (b"facts", 5, [("config", 5)])
    assert list(faulty.inner.list("")) == []
    assert [faulty.counts[verb] for verb in verbs] == [2] * 5


def test_a_listing_goes_on_where_it_broke() -> None:
    memory, clock = MemoryStore(), Clock()
    for number in range(10):
        memory.put(f"log/{number}", b"x")
    faulty = FaultyStore(memory, [Fault(Harm.ERROR, "list", times=3)])

    names = [info.name for info in patient(faulty, clock).list("log/")]

    assert names == [f"log/{number}" for number in range(10)]
    assert faulty.counts["list"] == 4


def test_a_listing_that_never_gets_further_is_given_up() -> None:
    memory, clock = MemoryStore(), Clock()
    memory.put("log/1", b"x")
    faulty = FaultyStore(memory, [Fault(Harm.ERROR, "list", times=99)])

    with pytest.raises(StoreUnavailable, match="Given up after 4 attempts"):
        list(patient(faulty, clock, Patience(attempts=4)).list(""))


def test_a_fresh_store_is_as_patient() -> None:
    faulty, clock = FaultyStore(MemoryStore(), [Fault(Harm.ERROR, "put", times=2)]), Clock()

    patient(faulty, clock).fresh().put("config", b"facts")

    assert len(clock.naps) == 2


# -------------------------------------------------------------------- metering


def test_it_counts_requests_and_bytes_that_succeeded() -> None:
    store = MeteredStore(MemoryStore())

    store.put("log/1", b"12345")
    store.put("log/2", b"123")
    store.get("log/1", 1, 2)
    store.stat("log/1")
    list(store.list(""))
    store.delete("log/1")
    with pytest.raises(ObjectMissing):
        store.get("log/1")

    assert store.usage == Usage(puts=2, gets=1, stats=1, lists=1, deletes=1, bytes_put=8, bytes_got=2)


def test_counts_of_children_add_up() -> None:
    store = MeteredStore(MemoryStore())
    store.put("log/1", b"12345")
    child = store.fresh()

    child.get("log/1")

    assert store.usage + child.usage == Usage(puts=1, gets=1, bytes_put=5, bytes_got=5)


def test_no_count_is_lost_between_threads() -> None:
    store = MeteredStore(MemoryStore())
    store.put("log/1", b"12345")
    readers = [threading.Thread(target=lambda: [store.get("log/1") for _ in range(500)]) for _ in range(4)]

    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert (store.usage.gets, store.usage.bytes_got) == (2000, 10000)


# -------------------------------------------------------------------- faults on purpose


def test_a_place_that_lies_is_imitated() -> None:
    memory = MemoryStore()
    memory.put("config", b"0123456789")
    store = FaultyStore(memory, [Fault(Harm.SHORT, "get"), Fault(Harm.CORRUPT, "get", at=2)], seed=3)

    short, corrupt, sound = (store.get("config") for _ in range(3))

    assert short == b"01234"
    assert sum(a != b for a, b in zip(corrupt, sound, strict=True)) == 1
    assert sound == b"0123456789"


def test_a_slow_place_is_imitated() -> None:
    clock = Clock()
    store = FaultyStore(MemoryStore(), [Fault(Harm.DELAY, "put", at=2, seconds=9)], sleep=clock.sleep)

    store.put("log/1", b"")
    store.put("log/2", b"")

    assert clock.naps == [9]


@pytest.mark.parametrize(("harm", "kept"), [(Harm.CRASH, ["log/1"]), (Harm.CRASH_AFTER, ["log/1", "log/2"])])
def test_after_a_crash_nothing_answers_any_more(harm: Harm, kept: list[str]) -> None:
    store = FaultyStore(MemoryStore(), [Fault(harm, at=2)])
    store.put("log/1", b"")

    with pytest.raises(Crash):
        store.put("log/2", b"")
    with pytest.raises(Crash):
        store.get("log/1")

    assert [info.name for info in store.inner.list("")] == kept


def test_the_same_seed_brings_the_same_storm() -> None:
    def outcomes(seed: int) -> list[bool]:
        store = FaultyStore(MemoryStore(), storm=0.5, seed=seed)
        return [_succeeds(store, f"log/{number}") for number in range(50)]

    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


def _succeeds(store: FaultyStore, name: str) -> bool:
    try:
        store.put(name, b"")
    except StoreUnavailable:
        return False
    return True


# -------------------------------------------------------------------- choosing


def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(EngineError, match="There is no storage kind 'tape'; choose one of local, s3, memory"):
        open_store("tape", {})


def test_wrong_options_are_named_and_their_values_are_not() -> None:
    with pytest.raises(EngineError, match=r"options of the local storage do not fit.*password") as caught:
        open_store("local", {"path": "/nowhere", "password": "hunter2"})

    assert "hunter2" not in str(caught.value)
