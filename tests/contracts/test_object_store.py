"""The promises of the port, kept by every store and through every wrapper.

A new kind adds one line to PLACES.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from backups.engine.errors import EngineError, ObjectDamaged, ObjectExists, ObjectMissing
from backups.engine.store import ObjectInfo, Place
from backups.engine.stores import open_store
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from backups.engine.stores.retrying import Patience, RetryingStore
from tests.faults import FaultyStore
from tests.servers import s3

# A place that is made anew for each test, by the folder it may use.
PLACES: dict[str, Callable[[Path], Place]] = {
    "memory": lambda folder: open_store("memory", {}),
    "local": lambda folder: open_store("local", {"path": str(folder / "store")}),
    "s3": lambda folder: s3.started().place(),
    "s3, checksums required": lambda folder: s3.started().place(checksums="required"),
}


def _stormy(store: Place) -> Place:
    """A third of all operations fails or loses its reply, and the retry wrapper hides it."""
    return RetryingStore(FaultyStore(store, storm=0.33, seed=7), Patience(attempts=40), sleep=lambda seconds: None)


WRAPPERS: dict[str, Callable[[Place], Place]] = {
    "bare": lambda store: store,
    "retried": RetryingStore,
    "metered": MeteredStore,
    "faulty, without faults": FaultyStore,
    "stormy, retried": _stormy,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made = PLACES[request.param](tmp_path)
    made.create()
    return made


@pytest.fixture(params=WRAPPERS)
def store(request: pytest.FixtureRequest, place: Place) -> Place:
    return WRAPPERS[request.param](place)


def named(data: bytes, folder: str = "packs/ab") -> str:
    return f"{folder}/{hashlib.sha256(data).hexdigest()}"


def test_it_returns_what_was_put(store: Place) -> None:
    store.put("packs/ab/one", b"some bytes")

    assert store.get("packs/ab/one") == b"some bytes"
    assert store.stat("packs/ab/one") == ObjectInfo("packs/ab/one", 10)


def test_it_keeps_nothing_of_memory_that_is_used_again(store: Place) -> None:
    memory = bytearray(b"some bytes and more")
    name = named(b"some bytes")

    for _ in range(2):  # the second time it compares
        store.put(name, memoryview(memory)[:10])
    memory[:] = bytes(len(memory))

    assert store.get(name) == b"some bytes"


def test_it_keeps_empty_and_large_objects(store: Place) -> None:
    large = bytes(range(256)) * (3 << 12) + b"odd"
    store.put("empty", b"")
    store.put("large", large)

    assert store.get("empty") == b""
    assert store.get("large") == large
    assert store.stat("empty").size == 0


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, None, b"0123456789"), (3, 4, b"3456"), (9, 1, b"9"), (4, None, b"456789"), (10, None, b""), (10, 0, b"")],
)
def test_it_reads_exactly_the_asked_range(store: Place, start: int, length: int | None, expected: bytes) -> None:
    store.put("log/0", b"0123456789")

    assert store.get("log/0", start, length) == expected


@pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (11, None), (11, 0), (1 << 40, 1)])
def test_it_never_returns_less_than_was_asked(store: Place, start: int, length: int | None) -> None:
    store.put("log/0", b"0123456789")

    with pytest.raises(ObjectDamaged, match="log/0 is damaged: it ends at byte 10"):
        store.get("log/0", start, length)


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
def test_it_refuses_ranges_that_make_no_sense(store: Place, start: int, length: int | None) -> None:
    store.put("log/0", b"0123456789")

    with pytest.raises(ValueError, match="cannot be negative"):
        store.get("log/0", start, length)


def test_it_says_which_object_is_missing_and_where(store: Place) -> None:
    for verb in (store.get, store.stat):
        with pytest.raises(ObjectMissing, match="Object index/nothing is missing in") as caught:
            verb("index/nothing")
        assert caught.value.name == "index/nothing"
        assert store.describe() in str(caught.value)


def test_it_forgets_what_was_deleted_and_deletes_twice_in_peace(store: Place) -> None:
    store.put("packs/ab/one", b"1")

    store.delete("packs/ab/one")
    store.delete("packs/ab/one")
    store.delete("never/was/there")

    assert list(store.list("")) == []
    with pytest.raises(ObjectMissing):
        store.get("packs/ab/one")


def test_it_takes_the_same_object_again(store: Place) -> None:
    data = b"the same" * 1000
    store.put(named(data), data)

    store.put(named(data), data)

    assert list(store.list("")) == [ObjectInfo(named(data), len(data))]


@pytest.mark.parametrize("damaged", [b"", b"short", b"X" * 8000])
def test_it_heals_a_damaged_object_when_it_is_put_again(store: Place, place: Place, damaged: bytes) -> None:
    data = b"the same" * 1000
    for name in (named(data), f"log/000000/000000000042-{hashlib.sha256(data).hexdigest()[:32]}"):
        _damage(place, name, damaged)

        store.put(name, data)

        assert store.get(name) == data


def _damage(place: Place, name: str, damaged: bytes) -> None:
    """Leave other bytes under the name, as bad disks do; each kind has its own way in."""
    place.put(name, damaged)


def test_it_refuses_other_bytes_under_a_hash(store: Place) -> None:
    data = b"the right bytes"
    store.put(named(data), data)

    with pytest.raises(ObjectDamaged, match="do not have the SHA-256 of the name"):
        store.put(named(data), b"other bytes")

    assert store.get(named(data)) == data


def test_it_never_overwrites_the_config(store: Place) -> None:
    store.put("config", b"repository one")
    store.put("config", b"repository one")

    with pytest.raises(ObjectExists, match=r"Object config already exists in .* with other content"):
        store.put("config", b"repository two")

    assert store.get("config") == b"repository one"


def test_it_keeps_wrong_bytes_aside_while_the_right_ones_take_the_name(store: Place, place: Place) -> None:
    data, wrong = b"the same" * 1000, b"what the disk made of it"
    aside = f"quarantine/{named(data)}/{hashlib.sha256(wrong).hexdigest()}"
    _damage(place, named(data), wrong)

    store.set_aside(named(data), aside)
    assert store.get(named(data)) == store.get(aside) == wrong
    store.put(named(data), data)
    store.set_aside(named(data), aside)

    assert store.get(named(data)) == data
    assert store.get(aside) == wrong


def test_it_says_what_cannot_be_set_aside(store: Place) -> None:
    with pytest.raises(ObjectMissing, match="Object packs/ab/nothing is missing"):
        store.set_aside("packs/ab/nothing", "quarantine/packs/ab/nothing")

    assert list(store.list("")) == []


def test_it_lists_by_prefix_in_name_order(store: Place) -> None:
    names = ["config", "log/000/2", "log/000/10", "packs/a-b/1", "packs/a/1", "packs/ab/1", "packs-of/1", "keys/0"]
    for name in names:
        store.put(name, name.encode())

    def listed(prefix: str) -> list[str]:
        return [info.name for info in store.list(prefix)]

    assert listed("") == sorted(names)
    for prefix in ("log/", "packs", "packs/", "packs/a", "packs/a/", "packs/ab/1", "c", "config", "config/", "zz", "/"):
        assert listed(prefix) == sorted(name for name in names if name.startswith(prefix))
    assert all(info.size == len(info.name) for info in store.list(""))


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", "A", "a b", "../a", "a/../b", ".hidden", "a/.b", "ä", "a\n", "a\0", "-a", "a_b"],
)
def test_it_refuses_names_that_no_store_may_keep(store: Place, name: str) -> None:
    deeds: list[Callable[[], object]] = [
        lambda: store.put(name, b""),
        lambda: store.get(name),
        lambda: store.stat(name),
        lambda: store.delete(name),
    ]
    for deed in deeds:
        with pytest.raises(EngineError, match="is not an object name"):
            deed()


@pytest.mark.parametrize("prefix", ["../", ".", "A", "*", "a\n"])
def test_it_refuses_prefixes_that_begin_no_name(store: Place, prefix: str) -> None:
    with pytest.raises(EngineError, match="cannot begin an object name"):
        list(store.list(prefix))


def test_a_fresh_store_sees_the_same_place(store: Place) -> None:
    store.put("config", b"here")

    fresh = store.fresh()

    assert fresh.get("config") == b"here"
    assert fresh.describe() == store.describe()


def test_creating_and_sweeping_leave_finished_objects_alone(store: Place) -> None:
    store.put("config", b"here")

    store.create()

    assert store.sweep(0) == 0
    assert store.get("config") == b"here"


def test_it_may_be_deleted_from_while_it_is_listed(store: Place) -> None:
    for number in range(20):
        store.put(f"packs/{number:02}/x", b"x")

    seen = []
    for info in store.list("packs/"):
        seen.append(info.name)
        store.delete(info.name)

    assert seen == [f"packs/{number:02}/x" for number in range(20)]
    assert list(store.list("")) == []


def test_readers_see_all_of_an_object_or_none_while_writers_race(place: Place) -> None:
    data = bytes(range(256)) * 1024
    wrong: list[object] = []

    def write() -> None:
        for _ in range(30):
            place.put(named(data), data)
            place.delete(named(data))

    def read() -> None:
        for _ in range(200):
            try:
                if place.get(named(data)) != data:
                    wrong.append("bytes")
            except ObjectMissing:
                pass
            wrong.extend(info for info in place.list("") if info.size != len(data))

    threads = [threading.Thread(target=deed) for deed in (write, write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_it_tells_what_it_can_do(store: Place, place: Place) -> None:
    able = store.capabilities()

    assert able.across_processes == able.durable == (not isinstance(place, MemoryStore))
    assert able.writable
    assert able.parallel >= 1


NAMES = some.sampled_from([f"{folder}/{leaf}" for folder in ("packs/aa", "packs/ab", "index") for leaf in "xyz"])
BYTES = some.binary(max_size=40)


class AgainstADict(RuleBasedStateMachine):
    """Whatever is asked in whatever order, the store and a dict agree."""

    kind = "memory"
    base = Path()

    @initialize(wrapper=some.sampled_from(sorted(WRAPPERS)))
    def begin(self, wrapper: str) -> None:
        self.store = WRAPPERS[wrapper](PLACES[self.kind](Path(mkdtemp(dir=self.base))))
        self.store.create()
        self.model: dict[str, bytes] = {}

    @rule(name=NAMES, data=BYTES)
    def put(self, name: str, data: bytes) -> None:
        if self.model.setdefault(name, data) == data:
            self.store.put(name, data)
        else:
            with pytest.raises(ObjectExists):
                self.store.put(name, data)

    @rule(data=BYTES)
    def put_by_hash(self, data: bytes) -> None:
        self.store.put(named(data), data)
        self.model[named(data)] = data

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.store.delete(name)
        self.model.pop(name, None)

    @rule(name=NAMES, start=some.integers(0, 50), length=some.none() | some.integers(0, 50))
    def get(self, name: str, start: int, length: int | None) -> None:
        kept = self.model.get(name)
        if kept is None:
            with pytest.raises(ObjectMissing):
                self.store.get(name, start, length)
        elif start + (length or 0) > len(kept):
            with pytest.raises(ObjectDamaged):
                self.store.get(name, start, length)
        else:
            assert self.store.get(name, start, length) == kept[start:][:length]

    @rule(prefix=some.sampled_from(["", "packs/", "packs/a", "packs/ab/", "index/x", "i", "none"]))
    def list(self, prefix: str) -> None:
        expected = [(name, len(data)) for name, data in sorted(self.model.items()) if name.startswith(prefix)]
        assert [tuple(info) for info in self.store.list(prefix)] == expected

    @invariant()
    def sweeping_finds_nothing(self) -> None:
        if hasattr(self, "store"):
            assert self.store.sweep(0) == 0


@pytest.mark.parametrize("kind", PLACES)
def test_it_agrees_with_a_dict_in_any_order_of_deeds(kind: str, tmp_path: Path) -> None:
    machine = type("Machine", (AgainstADict,), {"kind": kind, "base": tmp_path})

    run_state_machine_as_test(
        machine, settings=settings(max_examples=50, stateful_step_count=30, deadline=None, derandomize=True)
    )
