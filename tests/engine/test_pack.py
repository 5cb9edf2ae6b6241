"""Packs: blobs go in, durable objects come out; what a pack says of itself is enough to adopt it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backups.engine import format as fmt
from backups.engine import pack as pack_module
from backups.engine.codec import Codec, Compressor
from backups.engine.entry import Blob
from backups.engine.envelope import METADATA, EnvelopeWriter, Sealer, Section
from backups.engine.errors import EngineError, ObjectDamaged, StoreFull
from backups.engine.format import ObjectType, SectionKind
from backups.engine.pack import PackInfo, PackWriter, Put, read_ends, read_pack
from backups.engine.store import Data
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import ID, RING

SEALER = Sealer(ID, RING)
BLOBS = some.lists(some.binary(max_size=300), max_size=40)
FAST = Compressor(Codec.ZSTD, 1)


def quiet(_: PackInfo) -> None:
    pass


def writer(
    put: Put, sealed: Callable[[PackInfo], None] = quiet, compressor: Compressor = FAST, verify: int = 1
) -> PackWriter:
    return PackWriter(SEALER, ObjectType.DATA_PACK, compressor, put, sealed, verify)


def packed(store: MemoryStore, blobs: list[bytes], compressor: Compressor = FAST) -> list[PackInfo]:
    infos: list[PackInfo] = []
    pack = writer(store.put, infos.append, compressor)
    for data in blobs:
        pack.add(fmt.sha256(data), data)
    pack.close()
    return infos


def contents(store: MemoryStore, info: PackInfo) -> list[tuple[Blob, bytes]]:
    """Every blob, read from the stored object with nothing but what it says of itself."""
    name = fmt.pack_name(info.digest)
    again, opened = read_pack(SEALER, name, store.get(name))
    assert again == info
    found = []
    for frame in again.frames:
        raw, at = opened.section(frame.section), 0
        for blob in frame.blobs():
            found.append((blob, raw[at : at + blob.length]))
            at += blob.length
        assert at == len(raw)
    return found


@settings(deadline=None, max_examples=40)
@given(blobs=BLOBS, codec=some.sampled_from(Codec))
def test_what_goes_in_comes_out(blobs: list[bytes], codec: Codec) -> None:
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "FRAME_SIZE", 500)
        small.setattr(fmt, "PACK_SIZE", 2000)

        infos = packed(store, blobs, Compressor(codec, 1))

    found = [pair for info in infos for pair in contents(store, info)]
    assert [data for _, data in found] == blobs
    assert [blob for blob, _ in found] == [Blob(fmt.sha256(data), len(data)) for data in blobs]
    assert {fmt.pack_name(info.digest): info.size for info in infos} == {i.name: i.size for i in store.list("packs/")}


def test_frames_and_packs_are_closed_when_they_are_full() -> None:
    store = MemoryStore()
    blobs = [bytes([n]) * 1000 + fmt.sha256(bytes([n])) for n in range(250)]
    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "FRAME_SIZE", 10_000)
        small.setattr(fmt, "PACK_SIZE", 100_000)

        infos = packed(store, blobs, Compressor(Codec.RAW))

    assert [len(info.frames) for info in infos] == [11, 11, 6]
    assert all(frame.section.raw <= 10_000 for info in infos for frame in info.frames)
    assert all(info.size < 120_000 for info in infos)


def test_a_pack_of_very_small_blobs_is_closed_before_its_directory_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "FRAME_SIZE", 50)
    monkeypatch.setattr(fmt, "PACK_BLOBS", 20)
    blobs = [b"%05d" % number for number in range(45)]

    infos = packed(store := MemoryStore(), blobs)

    assert [sum(len(frame.ids) // 32 for frame in info.frames) for info in infos] == [20, 20, 5]
    assert [data for info in infos for _, data in contents(store, info)] == blobs


def test_a_blob_greater_than_a_frame_has_one_of_its_own() -> None:
    store, big = MemoryStore(), bytes(fmt.FRAME_SIZE + 1)

    (info,) = packed(store, [b"before", big, b"after"])

    assert [len(frame.lengths) // 4 for frame in info.frames] == [1, 1, 1]
    assert [data for _, data in contents(store, info)] == [b"before", big, b"after"]


def test_a_blob_that_nobody_could_read_again_is_refused() -> None:
    with pytest.raises(EngineError, match="could not be read again"):
        packed(MemoryStore(), [bytes(fmt.FRAME_LIMIT + 1)])


def test_nothing_in_makes_nothing_out() -> None:
    store = MemoryStore()

    assert packed(store, []) == []
    assert not store.objects


def test_a_pack_is_named_by_its_hash_and_salted_anew_each_time() -> None:
    store = MemoryStore()

    one, two = packed(store, [b"the same"])[0], packed(store, [b"the same"])[0]

    assert one.digest != two.digest
    assert one.envelope.salt != two.envelope.salt
    assert all(fmt.name_matches(name, data) for name, data in store.objects.items())


def test_what_the_index_is_told_survives_the_way_between_processes() -> None:
    (info,) = packed(MemoryStore(), [b"one", b"two"])

    assert PackInfo.unpack(info.pack()) == info


def test_a_pack_is_reported_only_when_it_is_durable() -> None:
    stored: list[str] = []
    reported: list[tuple[str, bool]] = []

    def sealed(info: PackInfo) -> None:
        reported.append((fmt.pack_name(info.digest), fmt.pack_name(info.digest) in stored))

    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "PACK_SIZE", 100)
        small.setattr(fmt, "FRAME_SIZE", 50)
        pack = writer(lambda name, data: stored.append(name), sealed)
        for number in range(9):
            pack.add(fmt.sha256(bytes([number])), fmt.sha256(bytes([number])) * 3)
        pack.flush()

    assert len(reported) > 3
    assert all(durable for _, durable in reported)
    assert [name for name, _ in reported] == stored


def test_a_store_that_fails_fails_the_writer_and_nothing_is_reported() -> None:
    reported: list[PackInfo] = []

    def full(name: str, data: Data) -> None:
        raise StoreFull("No space is left.")

    pack = writer(full, reported.append)
    pack.add(bytes(32), b"data")

    with pytest.raises(StoreFull):
        pack.flush()
    assert not reported


def test_the_next_pack_fills_while_one_is_being_stored() -> None:
    may_go_on, begun = threading.Event(), threading.Event()
    stored: list[str] = []

    def slow(name: str, data: Data) -> None:
        begun.set()
        assert may_go_on.wait(10)
        stored.append(name)

    with pytest.MonkeyPatch.context() as small:
        small.setattr(fmt, "PACK_SIZE", 100)
        small.setattr(fmt, "FRAME_SIZE", 50)
        pack = writer(slow)
        pack.add(bytes(32), fmt.sha256(b"one") * 4)
        assert begun.wait(10)

        pack.add(bytes([1]) * 32, b"goes in while the first is on its way")

    assert not stored
    may_go_on.set()
    pack.flush()
    assert len(stored) == 2


@pytest.mark.parametrize(("verify", "proved"), [(1, 8), (3, 2), (8, 1), (9, 0)])
def test_so_many_frames_are_opened_again(monkeypatch: pytest.MonkeyPatch, verify: int, proved: int) -> None:
    opened: list[int] = []
    original = Sealer.open_section

    def counting(self: Sealer, envelope: object, section: Section, stored: bytes, name: str) -> bytes:
        opened.append(section.number)
        return original(self, envelope, section, stored, name)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(Sealer, "open_section", counting)
    monkeypatch.setattr(fmt, "FRAME_SIZE", 10)
    pack = writer(MemoryStore().put, verify=verify)
    for number in range(8):
        pack.add(bytes([number]) * 32, bytes(10))
    pack.flush()

    assert len(opened) == proved


def test_a_machine_that_miscalculates_is_noticed_before_anything_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault of memory or processor: what is sealed is not what was given."""
    original = EnvelopeWriter.add

    def faulty(self: EnvelopeWriter, kind: SectionKind, raw: bytes, compressor: Compressor) -> Section:
        wrong = bytes([raw[0] ^ 1]) + raw[1:] if kind is SectionKind.FRAME else raw
        return original(self, kind, wrong, compressor)

    monkeypatch.setattr(EnvelopeWriter, "add", faulty)
    store = MemoryStore()

    with pytest.raises(EngineError, match="memory or CPU is at fault"):
        packed(store, [b"data"])
    assert not store.objects


def test_packs_are_built_in_the_same_memory_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "PACK_SIZE", 4000)
    monkeypatch.setattr(fmt, "FRAME_SIZE", 1000)
    store, infos = MemoryStore(), list[PackInfo]()
    buffers: list[object] = []

    def put(name: str, data: Data) -> None:
        assert isinstance(data, memoryview)
        buffers.append(data.obj)
        store.put(name, data)

    pack, blobs = writer(put, infos.append), [os.urandom(300) for _ in range(200)]
    for data in blobs:
        pack.add(fmt.sha256(data), memoryview(data))
    pack.close()

    assert len(infos) > 10
    assert len(set(map(id, buffers))) == 2  # one that is stored while the other is filled
    assert [data for info in infos for _, data in contents(store, info)] == blobs


def test_a_blob_may_be_overwritten_as_soon_as_it_is_taken() -> None:
    store, infos, memory = MemoryStore(), list[PackInfo](), bytearray(b"first")
    pack = writer(store.put, infos.append)

    pack.add(bytes(32), memoryview(memory))
    memory[:] = b"other"
    pack.close()

    assert [data for _, data in contents(store, infos[0])] == [b"first"]


# --------------------------------------------------------------------- damage


def test_every_damaged_byte_of_a_pack_is_noticed() -> None:
    store = MemoryStore()
    (info,) = packed(store, [b"one" * 20, b"two" * 20])
    data = store.get(fmt.pack_name(info.digest))

    for at in range(len(data)):
        with pytest.raises(EngineError):
            broken = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
            again, opened = read_pack(SEALER, "packs/ab/story", broken)
            [opened.section(frame.section) for frame in again.frames]


@pytest.mark.parametrize("body", [{}, {"blobs": []}, {"blobs": [[bytes(32), bytes(4)]] * 2}])
def test_a_directory_that_does_not_describe_its_frames_is_damage(body: dict[str, object]) -> None:
    envelope = SEALER.new(ObjectType.DATA_PACK)
    envelope.add(SectionKind.FRAME, b"data", METADATA)

    with pytest.raises(ObjectDamaged, match="does not describe its frames"):
        read_pack(SEALER, "packs/ab/story", envelope.finish(body, METADATA))


def test_an_index_object_is_no_pack() -> None:
    envelope = SEALER.new(ObjectType.INDEX)

    with pytest.raises(ObjectDamaged, match="of type 3, which does not belong"):
        read_pack(SEALER, "packs/ab/story", envelope.finish({"blobs": []}, METADATA))


@pytest.mark.parametrize("tail", [1 << 16, 300, 40])
def test_its_two_ends_tell_as_much_as_all_of_it(monkeypatch: pytest.MonkeyPatch, tail: int) -> None:
    monkeypatch.setattr(pack_module, "TAIL", tail)
    store, read = MemoryStore(), list[int]()
    (info,) = packed(store, [bytes([number]) * 9000 for number in range(60)], Compressor(Codec.RAW, 0))

    def get(name: str, start: int, length: int) -> bytes:
        read.append(length)
        return store.get(name, start, length)

    assert read_ends(SEALER, info.digest, info.size, get) == info
    assert sum(read) < info.size / 5


@pytest.mark.parametrize("size", [-1, 0])
def test_what_is_cut_off_has_no_end_to_read(size: int) -> None:
    store = MemoryStore()
    (info,) = packed(store, [b"some bytes"])
    name = fmt.pack_name(info.digest)
    store.objects[name] = store.objects[name][:size]

    with pytest.raises(ObjectDamaged):
        read_ends(SEALER, info.digest, len(store.objects[name]), store.get)
