"""The index: every blob is found where it is, whatever was merged, vanished, cut off or overwritten."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from backups.engine import format as fmt
from backups.engine import index as index_module
from backups.engine import merging, table
from backups.engine.envelope import METADATA, Envelope, Sealer, Section
from backups.engine.errors import BlobMissing, NewerFormat, ObjectDamaged
from backups.engine.format import ObjectType, SectionKind
from backups.engine.index import BlobIndex, Location, read_index, seal_index
from backups.engine.pack import FrameInfo, PackInfo
from backups.engine.segment import Segment, SegmentDamaged
from backups.engine.store import ObjectStore
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.metered import MeteredStore
from backups.engine.table import Plain, plain_table_of
from tests.engine.scenery import ID, RING

SEALER = Sealer(ID, RING)
Damage = Callable[[bytes], bytes]


def blob(seed: object) -> bytes:
    return fmt.sha256(repr(seed).encode())


def pack(frames: Sequence[Sequence[bytes]], seed: object = 0) -> PackInfo:
    """A pack that holds these blobs, a list for each frame; the n-th blob of a frame has n + 1 bytes."""
    infos, offset = [], fmt.HEADER.size
    for number, ids in enumerate(frames):
        lengths = list(range(1, len(ids) + 1))
        section = Section(number, SectionKind.FRAME, offset, 40 + number, 1, sum(lengths))
        offset += section.stored
        infos.append(FrameInfo(section, b"".join(ids), b"".join(n.to_bytes(4, "little") for n in lengths)))
    digest = blob(("pack", seed, tuple(map(tuple, frames))))
    return PackInfo(digest, Envelope(ObjectType.DATA_PACK, 1, blob(seed)), offset + 100, tuple(infos))


def put(store: MemoryStore, *packs: PackInfo) -> str:
    data = seal_index(SEALER, packs)
    name = fmt.index_name(fmt.sha256(data))
    store.put(name, data)
    return name


def synced(store: ObjectStore, cache: Path | None = None) -> BlobIndex:
    index = BlobIndex(cache)
    index.sync(store, SEALER)
    return index


def places(packs: Iterable[PackInfo]) -> dict[bytes, list[Location]]:
    """What an index of these packs should know: a plain dict beside the sorted tables."""
    known: dict[bytes, list[Location]] = {}
    for info in packs:
        for frame in info.frames:
            at = 0
            for one in frame.blobs():
                place = Location(info.digest, info.envelope, frame.section, at, one.length)
                known.setdefault(one.id, []).append(place)
                at += one.length
    return known


def agrees(index: BlobIndex, packs: Iterable[PackInfo]) -> None:
    known = places(packs)
    assert sorted(index.ids()) == sorted(found for found, where in known.items() for _ in where)
    for one, where in known.items():
        assert one in index
        assert index.locate(one) in where
        assert sorted(index.find_all(one)) == sorted(where)
    assert not any(blob(("never", n)) in index for n in range(20))


# --------------------------------------------------------------------- objects


@settings(deadline=None, max_examples=40)
@given(
    shapes=some.lists(some.lists(some.lists(some.binary(min_size=32, max_size=32), max_size=5), max_size=4), max_size=4)
)
def test_an_index_object_brings_back_its_packs(shapes: list[list[list[bytes]]]) -> None:
    packs = [pack(frames, number) for number, frames in enumerate(shapes)]
    store = MemoryStore()
    put(store, *packs)

    index = synced(store)

    agrees(index, packs)
    assert sorted(facts.digest for facts in index.packs()) == sorted(info.digest for info in packs)
    assert {facts.size for facts in index.packs()} == {info.size for info in packs}


def test_few_blobs_are_sorted_by_hand_as_numpy_would(monkeypatch: pytest.MonkeyPatch) -> None:
    packs = [pack([[blob((n, m) if m % 3 else m) for m in range(25)] for n in range(4)]) for _ in range(3)]
    by_hand = plain_table_of(packs)
    monkeypatch.setattr(table, "FEW", 0)

    assert plain_table_of(packs) == by_hand
    assert by_hand.blobs == 300
    assert plain_table_of([]) == Plain(b"", b"", (b"", b"", b"", b""), 0)


def test_an_index_of_many_blobs_has_many_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "INDEX_SECTION", 16)
    packs = [pack([[blob((n, m)) for m in range(25)] for n in range(4)])]
    data = seal_index(SEALER, packs)
    store = MemoryStore()
    put(store, *packs)

    table = read_index(SEALER, "index/story", data)

    assert len(table.rows.ids) == 100
    agrees(synced(store), packs)


def test_ids_that_begin_alike_are_told_apart() -> None:
    """The local index searches 16 bytes; the other 16 decide."""
    alike = [bytes(16) + blob(n)[:16] for n in range(50)] + [b"\xff" * 31 + bytes([n]) for n in range(50)]
    packs = [pack([alike])]
    store = MemoryStore()
    put(store, *packs)

    index = synced(store)

    agrees(index, packs)
    assert bytes(16) + blob("other")[:16] not in index


def test_a_blob_nobody_knows_is_missing() -> None:
    with pytest.raises(BlobMissing, match="is in no index"):
        synced(MemoryStore()).locate(bytes(32))


def test_a_blob_stored_twice_is_found_in_both_places() -> None:
    store, one = MemoryStore(), blob("one")
    packs = [pack([[one]], 1), pack([[blob("other"), one]], 2)]
    put(store, packs[0])
    index = synced(store)
    put(store, packs[1])
    index.sync(store, SEALER)

    assert {location.pack for location in index.find_all(one)} == {info.digest for info in packs}


# ------------------------------------------------------- segments and merging


class Synchronising(RuleBasedStateMachine):
    """Index objects come and go, caches are lost and damaged; the index always says what the objects say."""

    cache: Path | None = None

    @initialize(seed=some.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = MemoryStore()
        self.objects: dict[str, list[PackInfo]] = {}
        self.index = BlobIndex(self.cache)
        self.count = 0
        for path in self.cache.glob("*") if self.cache else ():
            path.unlink()

    @rule(blobs=some.integers(0, 30), shared=some.integers(0, 3))
    def write(self, blobs: int, shared: int) -> None:
        """A new index object; some of its blobs lie in other packs too."""
        self.count += 1
        known = sorted(places(info for packs in self.objects.values() for info in packs))
        ids = [blob((self.count, n)) for n in range(blobs)] + self.random.sample(known, min(shared, len(known)))
        packs = [pack([ids[::2], ids[1::2]], self.count)]
        self.objects[put(self.store, *packs)] = packs

    @rule()
    def compact(self) -> None:
        """Two index objects are replaced by one."""
        if len(self.objects) >= 2:
            gone = self.random.sample(sorted(self.objects), 2)
            packs = [info for name in gone for info in self.objects.pop(name)]
            self.objects[put(self.store, *packs)] = packs
            for name in gone:
                self.store.delete(name)

    @rule()
    def vanish(self) -> None:
        if self.objects:
            name = self.random.choice(sorted(self.objects))
            del self.objects[name]
            self.store.delete(name)

    @rule()
    def restart(self) -> None:
        """Another process, with what the cache holds."""
        self.index = BlobIndex(self.cache)

    @rule()
    def lose_a_cache_file(self) -> None:
        if self.cache and (files := sorted(self.cache.glob("*"))):
            self.random.choice(files).unlink()
            self.index = BlobIndex(self.cache)

    @rule()
    def damage_a_cache_file(self) -> None:
        if self.cache and (files := sorted(self.cache.glob("*"))):
            path = self.random.choice(files)
            data = bytearray(path.read_bytes())
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            path.unlink()  # what others have mapped stays as it was
            path.write_bytes(data)
            self.index = BlobIndex(self.cache)

    @invariant()
    def says_what_the_objects_say(self) -> None:
        self.index.sync(self.store, SEALER)
        assert not self.index.damaged
        agrees(self.index, [info for packs in self.objects.values() for info in packs])


@pytest.mark.parametrize("cached", [False, True], ids=["in memory", "cached"])
def test_it_always_says_what_the_objects_say(tmp_path: Path, cached: bool) -> None:
    class Here(Synchronising):
        cache = tmp_path if cached else None

    run_state_machine_as_test(Here, settings=settings(max_examples=20, stateful_step_count=15, deadline=None))


def test_many_segments_become_one(tmp_path: Path) -> None:
    store, index = MemoryStore(), BlobIndex(tmp_path)
    packs = []
    for number in range(index_module.TOGETHER):
        packs.append(pack([[blob(number)]], number))
        put(store, packs[-1])
        index.sync(store, SEALER)

    assert len(list(tmp_path.glob("*.segment"))) == 1
    agrees(index, packs)
    agrees(synced(store, tmp_path), packs)


@pytest.mark.parametrize("step", [1, 3, 50, 10_000])
def test_segments_of_any_size_become_one_range_by_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Blobs of packs that are gone stay behind; the others are found, whatever had to be cut where."""
    monkeypatch.setattr(merging, "STEP", step)
    monkeypatch.setattr(merging, "IN_A_BUCKET", 4)
    store, index = MemoryStore(), BlobIndex(tmp_path)
    sizes = [1, 700, 40, 300]
    packs = [
        [pack([[blob((n, half, m)) for m in range(size)]], (n, half)) for half in "ab"] for n, size in enumerate(sizes)
    ]
    names = []
    for number, (kept, gone) in enumerate(packs):
        names += [put(store, kept), put(store, gone)]
        if number < 3:
            index.sync(store, SEALER)  # a segment of its own
    for name in names[1::4]:
        store.delete(name)
    gone_packs = {id(packs[0][1]), id(packs[2][1])}

    index.sync(store, SEALER)

    assert len(list(tmp_path.glob("*.segment"))) == 1
    left = [one for pair in packs for one in pair if id(one) not in gone_packs]
    agrees(index, left)
    agrees(synced(store, tmp_path), left)
    assert sorted(facts.digest for facts in index.packs()) == sorted(one.digest for one in left)


def test_a_merge_that_was_interrupted_leaves_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The merged file is there, and the four it was made of, too."""
    monkeypatch.setattr(index_module, "remove", lambda _path: None)
    store, index, packs = MemoryStore(), BlobIndex(tmp_path), []
    for number in range(index_module.TOGETHER):
        packs.append(pack([[blob(number)]], number))
        put(store, packs[-1])
        index.sync(store, SEALER)
    monkeypatch.undo()
    assert len(list(tmp_path.glob("*.segment"))) == index_module.TOGETHER + 1

    agrees(synced(store, tmp_path), packs)

    assert len(list(tmp_path.glob("*.segment"))) == 1


def test_the_work_for_old_blobs_does_not_grow_with_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 runs, each blob is written anew three times at most, not sixty."""
    monkeypatch.setattr(index_module, "SMALL", 1)
    written: list[int] = []
    made = merging.from_segments

    def counted(segments: Sequence[Segment], cache: Path | None) -> Segment:
        written.append(sum(segment.blobs for segment in segments))
        return made(segments, cache)

    monkeypatch.setattr(merging, "from_segments", counted)
    store, index, packs = MemoryStore(), BlobIndex(tmp_path), []

    for number in range(64):
        packs.append(pack([[blob(number)]], number))
        put(store, packs[-1])
        index.sync(store, SEALER)

    agrees(index, packs)
    assert 64 <= sum(written) <= 3 * 64


def test_a_fresh_cache_is_filled_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "AT_ONCE", 10)
    store, packs = MemoryStore(), [pack([[blob((n, m)) for m in range(4)]], n) for n in range(20)]
    for one in packs:
        put(store, one)

    agrees(synced(store, tmp_path), packs)


def test_a_bit_that_turns_in_a_bucket_is_noticed_when_somebody_looks_there(tmp_path: Path) -> None:
    """Opening it reads what stands before the rows; the rows are proved when they are needed."""
    store, packs = MemoryStore(), [pack([[blob(n) for n in range(3_000)]])]
    put(store, *packs)
    synced(store, tmp_path)
    (path,) = tmp_path.glob("*.segment")
    intact = path.read_bytes()
    path.unlink()
    path.write_bytes(intact[:-40_000] + bytes([intact[-40_000] ^ 4]) + intact[-39_999:])
    metered = MeteredStore(store)
    index = synced(metered, tmp_path)
    before = metered.usage.gets

    agrees(index, packs)

    assert (before, metered.usage.gets) == (0, 1)
    assert path.read_bytes() == intact


def test_a_second_process_reads_nothing_that_the_cache_holds(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, pack([[blob(1)]]))
    synced(store, tmp_path)
    metered = MeteredStore(store)

    index = BlobIndex(tmp_path)
    index.sync(metered, SEALER)

    assert metered.usage.gets == 0
    assert blob(1) in index


def test_what_is_left_is_not_read_again_when_an_object_goes(tmp_path: Path) -> None:
    """A segment made of two objects forgets what one of them told."""
    store = MemoryStore()
    gone, kept = put(store, pack([[blob(1)]], 1)), put(store, pack([[blob(2)]], 2))
    index = synced(store, tmp_path)
    store.delete(gone)
    metered = MeteredStore(store)

    index.sync(metered, SEALER)

    assert blob(1) not in index
    assert blob(2) in index
    assert metered.usage.gets == 0
    assert metered.stat(kept)


def test_an_object_that_goes_between_being_listed_and_read_is_passed_over() -> None:
    class Racing(MemoryStore):
        def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
            if name == lost:
                self.delete(name)
            return super().get(name, start, length)

    store = Racing()
    lost = ""
    put(store, pack([[blob(2)]], 2))
    lost = put(store, pack([[blob(1)]], 1))

    index = synced(store)

    assert blob(2) in index
    assert blob(1) not in index
    assert not index.damaged


# --------------------------------------------------------------------- damage


DAMAGES: dict[str, Damage] = {
    "one bit": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "cut by a byte": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_index_object_is_named_and_the_others_count(damage: Damage) -> None:
    store = MemoryStore()
    bad, _ = put(store, pack([[blob(1)]], 1)), put(store, pack([[blob(2)]], 2))
    store.objects[bad] = damage(store.objects[bad])

    index = synced(store)

    assert [(error.name, error.why) for error in index.damaged] == [(bad, "its SHA-256 is not its name")]
    assert blob(1) not in index
    assert blob(2) in index


def test_a_healed_index_object_counts_again() -> None:
    store = MemoryStore()
    name = put(store, pack([[blob(1)]]))
    intact = store.objects[name]
    store.objects[name] = intact[:-1]
    index = synced(store)
    store.put(name, intact)

    index.sync(store, SEALER)

    assert blob(1) in index
    assert not index.damaged


def test_an_index_of_another_type_or_repository_is_damaged() -> None:
    store = MemoryStore()
    writer = SEALER.new(ObjectType.RECORD)
    writer.add(SectionKind.INDEX_PACKS, b"\x92\xc4\x00\xc4\x00", METADATA)
    for data in (writer.finish({"blobs": 0}, METADATA), seal_index(Sealer(bytes(16), RING), [pack([[blob(1)]])])):
        store.put(fmt.index_name(fmt.sha256(data)), data)

    assert len(synced(store).damaged) == 2


def test_an_index_that_counts_wrong_is_damaged() -> None:
    packs = [pack([[blob(1)]])]
    data = seal_index(SEALER, packs)
    table = read_index(SEALER, "index/story", data)
    writer = SEALER.new(ObjectType.INDEX)
    writer.add(SectionKind.INDEX_PACKS, b"\x92\xc4\x00\xc4\x00", METADATA)

    with pytest.raises(ObjectDamaged, match="another number of blobs"):
        read_index(SEALER, "index/story", writer.finish({"blobs": len(table.rows.ids)}, METADATA))


def test_an_index_of_a_newer_format_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr(fmt, "FORMAT", fmt.FORMAT + 1)
    put(store, pack([[blob(1)]]))
    monkeypatch.undo()

    with pytest.raises(NewerFormat):
        synced(store)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_cache_file_is_made_anew(tmp_path: Path, damage: Damage) -> None:
    store, packs = MemoryStore(), [pack([[blob(1), blob(2)]])]
    put(store, *packs)
    synced(store, tmp_path)
    (path,) = tmp_path.glob("*.segment")
    intact = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(intact))

    agrees(synced(store, tmp_path), packs)

    assert path.read_bytes() == intact


def test_a_cache_on_a_disk_that_returns_wrong_bytes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, index = MemoryStore(), BlobIndex(tmp_path)
    packs = [pack([[blob(number)]], number) for number in range(index_module.TOGETHER)]
    put(store, *packs)
    from_segments = merging.from_segments

    def from_disk(segments: list[Segment], cache: Path | None) -> Segment:
        if any(segment.path for segment in segments):
            raise SegmentDamaged
        return from_segments(segments, cache)

    monkeypatch.setattr(merging, "from_segments", from_disk)
    monkeypatch.setattr(index_module, "AT_ONCE", 1)

    index.sync(store, SEALER)

    agrees(index, packs)


def test_a_place_for_the_cache_that_takes_nothing_costs_no_more_than_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store, packs = MemoryStore(), [pack([[blob(1)]])]
    put(store, *packs)

    agrees(synced(store, tmp_path / "file" / "cache"), packs)


def test_a_full_disk_under_the_cache_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, packs = MemoryStore(), [pack([[blob(1)]])]
    put(store, *packs)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backups.engine.merging.os.rename", full)

    agrees(synced(store, tmp_path), packs)

    assert not list(tmp_path.iterdir())


def test_a_stranger_in_the_cache_is_harmless(tmp_path: Path) -> None:
    """A segment of another repository, or of objects long gone, is left alone and not used."""
    foreign = MemoryStore()
    put(foreign, pack([[blob("theirs")]]))
    synced(foreign, tmp_path)
    store, packs = MemoryStore(), [pack([[blob(1)]])]
    put(store, *packs)

    agrees(synced(store, tmp_path), packs)
