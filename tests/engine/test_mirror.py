"""mirror(): a copy is the repository byte for byte, whatever happens meanwhile and wherever it is cut off."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import pytest

from backups.engine import CompactOptions, Mirrored, MirrorOptions, Secret, check, compact, mirror, rekey
from backups.engine import format as fmt
from backups.engine.errors import (
    Cancelled,
    EngineError,
    ForeignRepository,
    NotARepository,
    StoreRefused,
    StoreUnavailable,
)
from backups.engine.hands import Hands
from backups.engine.repository import Repository
from backups.engine.store import Data, ObjectInfo, Place
from backups.engine.stores import open_store
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from backups.engine.stores.retrying import Patience, RetryingStore
from tests.engine.scenery import KEY, archived, files_of, new_repository, opened, plant, scanned
from tests.engine.specimen import CODE, flipped, specimen
from tests.engine.test_compaction import ALL, nobody_else, noise
from tests.engine.test_damage import KINDS
from tests.engine.test_repair import HARMS, harmed, held, place
from tests.faults import Crash, Fault, FaultyStore
from tests.faults import Harm as Blow
from tests.servers import s3

ALONE = MirrorOptions(parallel=1)  # in the caller's thread, so that operations come in the same order each time
NAMED = tuple(kind for kind in KINDS if kind != "config")  # objects whose names promise their bytes
PAPER = Secret.recovery_code(CODE)


class Told(MemoryStore):
    """Remembers what was put and deleted, in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.put_names: list[str] = []
        self.deleted: list[str] = []

    def put(self, name: str, data: Data) -> None:
        super().put(name, data)
        self.put_names.append(name)

    def delete(self, name: str) -> None:
        super().delete(name)
        self.deleted.append(name)


def copied(store: Place, **more: object) -> MemoryStore:
    copy = MemoryStore()
    assert mirror(store, copy, ALONE, **more).sound  # type: ignore[arg-type]
    return copy


def problems(done: Mirrored) -> dict[str, str]:
    return {problem.object: problem.message for problem in done.problems}


# ------------------------------------------------------------------ the same bytes


def test_a_copy_is_the_repository_byte_for_byte() -> None:
    store, copy = specimen().store(), MemoryStore()

    done = mirror(store, copy)

    assert copy.objects == store.objects == specimen().objects
    assert (done.sound, done.copied, done.objects) == (True, len(store.objects), len(store.objects))
    assert done.bytes_copied == done.bytes == done.bytes_done == done.bytes_expected
    assert done.bytes == sum(map(len, store.objects.values()))
    assert check(Repository.open(copy, PAPER), 3, workers=0).problems == []


PLACES: Mapping[str, Callable[[Path], Place]] = {
    "memory": lambda folder: open_store("memory", {}),
    "local": lambda folder: open_store("local", {"path": str(folder)}),
    "s3": lambda folder: s3.started().place(),
}


@pytest.mark.parametrize("to", PLACES)
@pytest.mark.parametrize("kind", PLACES)
def test_it_copies_between_all_kinds_of_places(kind: str, to: str, tmp_path: Path) -> None:
    source, copy = PLACES[kind](tmp_path / "source"), PLACES[to](tmp_path / "copy")
    archived(new_repository(source), scanned(plant(tmp_path / "data", {"a": noise("a", 70_000), "b": b"b"})))
    mirror(source, copy, create=True)
    archived(opened(source), scanned(plant(tmp_path / "data", {"c": noise("c", 9_000)})), "second")
    wrong = next(info for info in copy.list("packs/") if info.size > 60_000)
    spoil(copy, wrong.name)

    done = mirror(source, copy, MirrorOptions(verify=True))

    assert done.replaced.keys() == {wrong.name}
    assert [copy.get(aside) for aside in done.set_aside] == [b"spoilt"]
    assert contents(copy) == contents(source)
    assert sorted(opened(copy).log.live) == ["first", "second"]
    assert check(opened(copy), 3, workers=0).problems == []


def contents(store: Place) -> dict[str, bytes]:
    return {info.name: store.get(info.name) for info in store.list("") if fmt.is_object_name(info.name)}


def spoil(store: Place, name: str) -> None:
    """Put other bytes under a name that promises what they are, as no store would."""
    if isinstance(store, MemoryStore):
        store.objects[name] = b"spoilt"
    elif isinstance(store, LocalStore):
        path = Path(store._path, name)
        path.chmod(0o600)
        path.write_bytes(b"spoilt")
    else:
        store._client.put_object(Bucket=store._bucket, Key=store._root + name, Body=b"spoilt")  # type: ignore[attr-defined]


def test_nothing_is_sent_twice(tmp_path: Path) -> None:
    store, copy = specimen().store(), MeteredStore(copied(specimen().store()))

    done = mirror(store, copy)
    archived(opened(store), scanned(plant(tmp_path / "data", {"new": b"new"})), "fifth")
    later = mirror(store, copy)

    assert (done.copied, done.bytes_copied, done.bytes_expected) == (0, 0, 0)
    assert later.copied == 4  # a data pack, a tree pack, an index object and a record
    assert copy.usage.puts == 4
    assert copy.usage.gets <= 2 * 8  # to see whose it is


def test_the_order_shows_a_reader_nothing_before_what_it_needs() -> None:
    copy = Told()

    mirror(specimen().store(), copy, MirrorOptions(parallel=4))

    folders = [name.partition("/")[0] for name in copy.put_names]
    assert list(dict.fromkeys(folders)) == ["keys", "packs", "index", "log", "config"]
    records = [name for name in copy.put_names if name.startswith("log/")]
    assert records == sorted(records, reverse=True)
    assert len(folders) == len(specimen().objects)


def test_what_is_no_object_of_the_repository_stays_where_it_is() -> None:
    store = specimen().store()
    store.objects["quarantine/config/unread-1"] = b"seen"

    copy = copied(store)

    assert copy.objects == specimen().objects


# ------------------------------------------------------------------ damage in the repository


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped"])
@pytest.mark.parametrize("kind", NAMED)
def test_what_does_not_prove_itself_is_named_and_left_out(kind: str, harm: str) -> None:
    store, name, copy = harmed(kind, harm=HARMS[harm]), specimen().names[kind], MemoryStore()

    done = mirror(store, copy)

    assert problems(done) == {name: "its SHA-256 is not its name"}
    assert copy.objects == {key: data for key, data in specimen().objects.items() if key != name}


@pytest.mark.parametrize("kind", ["data pack of the first", "record of the third", "ring"])
def test_what_is_right_in_the_copy_stays_when_the_repository_loses_it(kind: str) -> None:
    copy = copied(specimen().store())
    store = harmed(kind, harm=HARMS["cut"])

    done = mirror(store, copy)

    assert problems(done) == {specimen().names[kind]: "it has another size than in the copy, where it is right"}
    assert copy.objects == specimen().objects


def test_a_sector_that_cannot_be_read_is_damage_and_a_place_that_does_not_answer_is_none() -> None:
    lost = specimen().names["tree pack of the second"]

    class Sectors(MemoryStore):
        answers = True

        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            if name == lost:
                raise StoreUnavailable("Input/output error")
            return super().get(name, start, length)

        def stat(self, name: str) -> ObjectInfo:
            if not self.answers:
                raise StoreUnavailable("Nobody answers.")
            return super().stat(name)

    store = Sectors()
    store.objects = dict(specimen().objects)

    done = mirror(store, copy := MemoryStore())
    store.answers = False

    assert problems(done) == {lost: "the place cannot read it"}
    assert copy.objects.keys() == specimen().objects.keys() - {lost}
    with pytest.raises(StoreUnavailable, match="Nobody answers"):
        mirror(store, MemoryStore())


def test_records_that_the_repository_has_lost_are_named_and_the_copy_keeps_everything() -> None:
    """Deleted, or rolled back: no key is needed to see it."""
    copy, names = copied(specimen().store()), specimen().names
    store = harmed("record of the fourth", "index of the fourth", "data pack of the fourth")

    done = mirror(store, copy, MirrorOptions(delete_after=0.0))

    assert problems(done).keys() == {names["record of the fourth"]}
    assert "rolled back" in problems(done)[names["record of the fourth"]]
    assert done.gone.keys() == {names["index of the fourth"], names["data pack of the fourth"]}
    assert (done.deleted, copy.objects) == (0, specimen().objects)


# ------------------------------------------------------------------ damage in the copy


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("harm", ["cut", "empty", "flipped"])
@pytest.mark.parametrize("kind", NAMED)
def test_a_damaged_object_of_the_copy_is_replaced_and_kept_aside(kind: str, harm: str, verify: bool) -> None:
    """Without reading the copy only another size is seen."""
    copy, name = harmed(kind, harm=HARMS[harm]), specimen().names[kind]
    wrong, seen = copy.objects[name], verify or harm != "flipped"

    done = mirror(specimen().store(), copy, MirrorOptions(verify=verify))

    assert done.sound
    assert done.replaced == ({name: "its SHA-256 is not its name"} if seen else {})
    assert (held(copy) == specimen().objects) == seen
    assert [copy.objects[aside] for aside in done.set_aside] == ([wrong] if seen else [])


def test_what_both_have_lost_is_named_and_stays_as_it_is() -> None:
    kind = "data pack of the third"
    store, copy = harmed(kind, harm=HARMS["flipped"]), harmed(kind, harm=HARMS["cut"])
    before = dict(copy.objects)

    done = mirror(store, copy, MirrorOptions(verify=True))

    assert problems(done) == {specimen().names[kind]: "its SHA-256 is not its name"}
    assert copy.objects == before


# ------------------------------------------------------------------ the config


@pytest.mark.parametrize("wrong", [b"", b"{}", b"no JSON"])
def test_a_damaged_config_of_the_copy_is_replaced(wrong: bytes) -> None:
    copy = copied(specimen().store())
    copy.objects["config"] = wrong

    done = mirror(specimen().store(), copy)

    assert (done.sound, held(copy)) == (True, specimen().objects)
    assert done.replaced == {"config": "it is no config of a repository"}
    assert [copy.objects[aside] for aside in done.set_aside] == [wrong]


def test_a_config_that_differs_is_told_because_only_a_key_tells_which_is_right() -> None:
    store, copy = specimen().store(), copied(specimen().store())
    store.objects["config"] = store.objects["config"].replace(b"65536", b"65537")

    done = mirror(store, copy)

    assert "only a key tells which is right" in problems(done)["config"]
    assert copy.objects == specimen().objects


@pytest.mark.parametrize(("harm", "why"), [("gone", "it is missing"), ("empty", "it is no config of a repository")])
def test_a_repository_without_its_config_is_copied_and_that_is_told(harm: str, why: str) -> None:
    store, copy = harmed("config", harm=HARMS[harm]), MemoryStore()

    done = mirror(store, copy)

    assert problems(done) == {"config": why}
    assert copy.objects.keys() == specimen().objects.keys() - {"config"}


# ------------------------------------------------------------------ whose place it is


@pytest.mark.parametrize("left", ["", "config", "keys/", "log/", "packs/"])
def test_another_repository_is_never_written_into(left: str) -> None:
    """Nor what is left of it."""
    other = MemoryStore()
    archived(new_repository(other), scanned(Path(__file__).parent / "__init__.py"))
    other.objects = {name: data for name, data in other.objects.items() if name.startswith(left)}
    before = dict(other.objects)

    with pytest.raises(ForeignRepository, match="choose an empty place, or that of a copy of this one"):
        mirror(specimen().store(), other, create=True)

    assert other.objects == before


def test_a_place_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("to friends")

    with pytest.raises(ForeignRepository, match="choose an empty or a new directory"):
        mirror(specimen().store(), LocalStore(str(tmp_path)), create=True)

    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_what_is_no_repository_is_not_copied(tmp_path: Path) -> None:
    copy = LocalStore(str(tmp_path / "copy"))

    with pytest.raises(NotARepository, match="There is no repository in"):
        mirror(MemoryStore(), copy, create=True)

    assert not (tmp_path / "copy").exists()


def test_only_the_expected_repository_is_copied() -> None:
    with pytest.raises(ForeignRepository, match=f"not {'0' * 32}"):
        mirror(specimen().store(), MemoryStore(), expected="0" * 32)


# ------------------------------------------------------------------ what the repository lets go


class Lived:
    """A repository that forgot a snapshot and gave its space back, after a copy was made."""

    def __init__(self, folder: Path, copy: MemoryStore) -> None:
        self.store, self.copy, self.folder = MemoryStore(), copy, folder
        self.kept = {"kept": noise("kept", 5000)}
        repository = new_repository(self.store)
        archived(repository, scanned(plant(folder / "old", {"old": noise("old", 30_000)})), "old")
        archived(opened(self.store), scanned(plant(folder / "kept", self.kept)), "kept")
        mirror(self.store, copy, ALONE)
        self.forget()

    def forget(self) -> None:
        opened(self.store).log.append("forget", {"forget": ["old"]})
        compact(opened(self.store), ALL, wait=nobody_else)

    def is_there(self, store: MemoryStore) -> None:
        repository = opened(store)
        assert files_of(repository, repository.log.snapshot("kept"), self.folder / "kept") == self.kept
        assert check(repository, 3, workers=0).problems == []


@pytest.fixture
def lived(tmp_path: Path) -> Lived:
    return Lived(tmp_path, Told())


def test_the_copy_keeps_what_the_repository_let_go_and_tells_the_bytes(lived: Lived) -> None:
    extra = lived.copy.objects.keys() - lived.store.objects.keys()

    done = mirror(lived.store, lived.copy)

    assert done.gone.keys() == extra
    assert done.bytes_gone == sum(len(lived.copy.objects[name]) for name in extra) > 30_000
    assert done.deleted == 0
    assert lived.copy.objects.items() >= lived.store.objects.items()
    lived.is_there(lived.copy)


def test_it_lets_go_of_it_when_the_delay_is_over(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = MirrorOptions(delete_after=3600.0)
    first = mirror(lived.store, lived.copy, hour)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3500)
    second = mirror(lived.store, lived.copy, hour, gone=first.gone)
    monkeypatch.setattr(time, "time", lambda: now + 3700)

    third = mirror(lived.store, lived.copy, hour, gone=second.gone)

    assert [done.deleted for done in (first, second, third)] == [0, 0, len(first.gone)]
    assert third.bytes_deleted == first.bytes_gone
    assert (third.gone, third.bytes_gone) == ({}, 0)
    assert lived.copy.objects == lived.store.objects


def test_index_objects_go_before_the_packs_that_they_tell_of(lived: Lived) -> None:
    assert isinstance(lived.copy, Told)

    mirror(lived.store, lived.copy, MirrorOptions(delete_after=0.0))

    folders = list(dict.fromkeys(name.partition("/")[0] for name in lived.copy.deleted))
    assert folders == ["index", "packs"]


def test_nothing_goes_while_something_is_damaged(lived: Lived) -> None:
    """The copy may be the only place that has it."""
    name = next(name for name in lived.store.objects if name.startswith("packs/"))
    lived.store.objects[name] = lived.store.objects[name][:-1]

    done = mirror(lived.store, lived.copy, MirrorOptions(delete_after=0.0))

    assert problems(done).keys() == {name}
    assert (done.deleted, len(done.gone) > 2) == (0, True)


def test_what_only_the_copy_has_is_read_too_and_told_until_it_goes(lived: Lived) -> None:
    """Nothing heals it; a check of the copy would tell it as well."""
    gone = max(mirror(lived.store, lived.copy).gone)
    lived.copy.objects[gone] = flipped(lived.copy.objects[gone], 5)

    quick = mirror(lived.store, lived.copy)
    thorough = mirror(lived.store, lived.copy, MirrorOptions(verify=True))
    last = mirror(lived.store, lived.copy, MirrorOptions(verify=True, delete_after=0.0))

    assert (quick.sound, last.sound) == (True, True)
    assert problems(thorough) == {gone: "in the copy its SHA-256 is not its name, and the repository no longer has it"}
    assert lived.copy.objects == lived.store.objects


def test_what_the_place_does_not_delete_stays(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object lock."""

    def refuse(_name: str) -> None:
        raise StoreRefused("It is locked.")

    monkeypatch.setattr(lived.copy, "delete", refuse)

    done = mirror(lived.store, lived.copy, MirrorOptions(delete_after=0.0))

    assert (done.sound, done.deleted) == (True, 0)
    assert done.bytes_gone > 30_000


# ------------------------------------------------------------------ others at work meanwhile


class Disturbed(MemoryStore):
    """Somebody else does something just before the operation of this number."""

    def __init__(self, objects: Mapping[str, bytes], at: int, deed: Callable[[MemoryStore], object]) -> None:
        super().__init__()
        self.objects = dict(objects)
        self.called = False
        self._operations, self._at, self._deed = 0, at, deed

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self._count()
        return super().get(name, start, length)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._count()
        return super().list(prefix)

    def _count(self) -> None:
        self._operations += 1
        if self._operations == self._at and not self.called:
            self.called = True
            self._deed(self)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Busy:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "FRAME_SIZE", 4000)
        small.setattr(fmt, "PACK_SIZE", 12000)
        return Busy(tmp_path_factory.mktemp("busy"))


class Busy:
    """A repository of which another one takes a part away, adds to it, or changes the keys at any moment."""

    def __init__(self, folder: Path) -> None:
        self.folder, store = folder, MemoryStore()
        self.files = {name: {name: noise(name, 7000), "both": noise("both", 4000)} for name in ("old", "kept", "new")}
        new_repository(store)
        for name in ("old", "kept"):
            archived(opened(store), scanned(plant(folder / name, self.files[name])), name)
        plant(folder / "new", self.files["new"])
        self.objects = dict(store.objects)

    def compaction(self, store: MemoryStore) -> None:
        opened(store).log.append("forget", {"forget": ["old"]})
        compact(opened(store), CompactOptions(unused=0.0, grace=0.0), wait=nobody_else)

    def backup(self, store: MemoryStore) -> None:
        archived(opened(store), scanned(self.folder / "new"), "new")

    def new_keys(self, store: MemoryStore) -> None:
        rekey.rotate(opened(store))

    def everything(self, store: MemoryStore) -> None:
        self.backup(store)
        self.new_keys(store)
        self.compaction(store)

    def judge(self, copy: MemoryStore, *, check_it: bool) -> list[str]:
        """What a copy lists is whole; the ids."""
        repository = Repository.open(copy, KEY)
        for snapshot in repository.snapshots:
            assert files_of(repository, snapshot, self.folder / snapshot.id) == self.files[snapshot.id]
        assert not check_it or check(repository, 3, workers=0).problems == []
        return sorted(repository.log.live)


@pytest.mark.parametrize("deed", ["compaction", "backup", "new_keys", "everything"])
def test_whatever_others_do_at_any_moment_the_copy_is_whole(deed: str, busy: Busy) -> None:
    at, disturbed = 0, True
    while disturbed:
        at += 1
        store, copy = Disturbed(busy.objects, at, getattr(busy, deed)), MemoryStore()

        done = mirror(store, copy, ALONE)

        disturbed = store.called
        assert done.sound, at
        assert "kept" in busy.judge(copy, check_it=True), at
        mirror(store, copy, MirrorOptions(1, delete_after=0.0), gone=done.gone)
        assert copy.objects == store.objects, at
    assert at > 20


def test_a_repository_that_never_comes_to_rest_leaves_the_old_state_in_the_copy(busy: Busy) -> None:
    """Objects keep vanishing: no record is put that may need them."""

    class Restless(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            found = list(super().list(prefix))
            ghost = fmt.pack_name(fmt.sha256(str(time.monotonic_ns()).encode()))
            return iter(sorted([*found, ObjectInfo(ghost, 5)]) if prefix in ("", "packs/") else found)

    store, copy = Restless(), MemoryStore()
    store.objects = dict(busy.objects)

    with pytest.raises(StoreUnavailable, match="no new record was put"):
        mirror(store, copy, ALONE)

    assert not any(name.startswith(("log/", "config")) for name in copy.objects)


# ------------------------------------------------------------------ cut off


@pytest.mark.parametrize("blow", [Blow.CRASH, Blow.CRASH_AFTER])
def test_cut_off_anywhere_it_shows_nothing_that_is_not_whole_and_goes_on(blow: Blow, busy: Busy) -> None:
    store = place(busy.objects)
    counted = FaultyStore(MemoryStore())
    mirror(store, counted, ALONE)
    for at in range(1, counted.operations + 1):
        copy = MemoryStore()

        with suppress(Crash):  # to see that there is nothing is no deed behind which one could be killed
            mirror(store, FaultyStore(copy, [Fault(blow, "any", at)]), ALONE)

        assert seen(busy, copy) in ([], ["kept"], ["kept", "old"]), at
        missing = len(store.objects) - len(copy.objects)
        assert mirror(store, copy, ALONE).copied == missing, at
        assert copy.objects == store.objects, at
    assert counted.operations > 15


@pytest.mark.parametrize("blow", [Blow.CRASH, Blow.CRASH_AFTER])
def test_cut_off_while_it_is_brought_up_to_date_it_loses_nothing(blow: Blow, busy: Busy) -> None:
    """After a backup, new keys, and a compaction; what was let go is deleted in the copy as well."""
    store = place(busy.objects)
    old = copied(store)
    busy.everything(store)
    options = MirrorOptions(1, delete_after=0.0)
    counted = FaultyStore(place(old.objects))
    mirror(store, counted, options)
    for at in range(1, counted.operations + 1):
        copy = place(old.objects)

        with pytest.raises(Crash):
            mirror(store, FaultyStore(copy, [Fault(blow, "any", at)]), options)

        assert "kept" in busy.judge(copy, check_it=False), at
        mirror(store, copy, options)
        assert copy.objects == store.objects, at
    assert busy.judge(place(store.objects), check_it=True) == ["kept", "new"]
    assert counted.operations > 15


def seen(busy: Busy, copy: MemoryStore) -> list[str]:
    """The snapshots that somebody sees there, each of them whole; none where it does not open yet."""
    try:
        Repository.open(copy, KEY)
    except EngineError:
        assert "config" not in copy.objects
        return []
    return busy.judge(copy, check_it=False)


def test_a_storm_on_both_sides_is_sat_out() -> None:
    stormy = (FaultyStore(store, storm=0.2, seed=3) for store in (specimen().store(), MemoryStore()))
    source, copy = (RetryingStore(store, Patience(attempts=40), sleep=lambda _: None) for store in stormy)

    done = mirror(source, copy, ALONE)

    assert done.sound
    assert contents(copy) == specimen().objects


@pytest.mark.parametrize("parallel", [1, 4])
def test_who_asks_for_the_end_gets_it_and_nothing_is_lost(parallel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100_000))
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)), time=time.time)
    monkeypatch.setattr(importlib.import_module("backups.engine.mirror"), "time", clock)
    store, copy = specimen().store(), MemoryStore()

    def ended(done: Mirrored) -> None:
        if done.copied == 5:
            raise Cancelled("Somebody asked for the end.")

    with pytest.raises(Cancelled):
        mirror(store, copy, MirrorOptions(parallel), progress=ended)

    assert 5 <= len(copy.objects) < len(store.objects)
    assert mirror(store, copy).sound
    assert copy.objects == store.objects


# ------------------------------------------------------------------ many at once


def test_no_more_objects_are_in_memory_than_there_are_hands() -> None:
    class Counting(MemoryStore):
        now = most = 0
        lock = Lock()

        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.002)
            data = super().get(name, start, length)
            with self.lock:
                self.now -= 1
            return data

    store = Counting()
    store.objects = dict(specimen().objects)

    mirror(store, MemoryStore(), MirrorOptions(parallel=3))

    assert 1 < store.most <= 3


def test_results_come_in_the_order_of_the_names_and_the_first_error_ends_it() -> None:
    ticks, begun = list[int](), list[str]()

    def deed(name: str) -> str:
        begun.append(name)
        if name == "5":
            raise StoreUnavailable("The connection broke.")
        time.sleep(0.001 * (9 - int(name) % 10))
        return name

    hands = Hands(3, lambda: ticks.append(1))

    assert list(hands.results(deed, "01234")) == list("01234")
    with pytest.raises(StoreUnavailable):
        list(hands.results(deed, map(str, range(5, 1000))))
    assert len(begun) < 30


def test_unfinished_uploads_of_a_copy_that_was_cut_off_are_taken_away(tmp_path: Path) -> None:
    copy = LocalStore(str(tmp_path / "copy"))
    mirror(specimen().store(), copy, create=True)
    left = [tmp_path / "copy" / "packs" / f".tmp-{number:016x}" for number in range(2)]
    for path, age in zip(left, (0, 2 * 24 * 3600), strict=True):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)

    mirror(specimen().store(), copy)

    assert [path.exists() for path in left] == [True, False]
