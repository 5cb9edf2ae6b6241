"""The sealed envelope: nothing in it can be moved, exchanged, cut off or blown up without being noticed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as some

from backups.engine import format as fmt
from backups.engine.codec import Codec, Compressor
from backups.engine.envelope import METADATA, Envelope, Opened, Sealer, Section
from backups.engine.errors import EngineError, NewerFormat, ObjectDamaged, WrongSecret
from backups.engine.format import ObjectType, SectionKind
from backups.engine.keys import KeyRing
from tests.engine.scenery import ID, RING

SEALER = Sealer(ID, RING)
PLAIN = Compressor(Codec.RAW)
FIRST, SECOND = b"first section " * 20, b"second section " * 30
ANY = tuple(ObjectType)


def sealed(
    *raws: bytes, kind: ObjectType = ObjectType.DATA_PACK, sealer: Sealer = SEALER, compressor: Compressor = METADATA
) -> bytes:
    writer = sealer.new(kind)
    for raw in raws or (FIRST, SECOND):
        writer.add(SectionKind.FRAME, raw, compressor)
    return writer.finish({"note": "story"}, compressor)


def opened(data: bytes, kind: ObjectType = ObjectType.DATA_PACK, sealer: Sealer = SEALER) -> Opened:
    return Opened(sealer, "packs/ab/story", data, (kind,))


def contents(data: bytes, sealer: Sealer = SEALER) -> list[bytes]:
    found = opened(data, sealer=sealer)
    return [found.section(section) for section in found.sections]


def with_header(data: bytes, **changes: Any) -> bytes:
    names = ("magic", "format", "type", "epoch", "repository", "salt")
    values = dict(zip(names, fmt.HEADER.unpack(data[: fmt.HEADER.size]), strict=True))
    return fmt.HEADER.pack(*{**values, **changes}.values()) + data[fmt.HEADER.size :]


def _blocks(data: bytes) -> set[bytes]:
    """Sixteen bytes each, between header and trailer."""
    return {data[at : at + 16] for at in range(fmt.HEADER.size, len(data) - fmt.TRAILER.size - 16, 16)}


@given(raws=some.lists(some.binary(max_size=300), max_size=8), packed=some.booleans())
def test_it_gives_back_every_section(raws: list[bytes], packed: bool) -> None:
    writer = SEALER.new(ObjectType.TREE_PACK)
    for raw in raws:
        writer.add(SectionKind.FRAME, raw, METADATA if packed else PLAIN)
    data = writer.finish({"note": 7}, METADATA)

    found = opened(data, ObjectType.TREE_PACK)

    assert [found.section(section) for section in found.sections] == raws
    assert found.sections == writer.sections[:-1]
    assert found.directory["note"] == 7


def test_the_same_content_is_never_sealed_to_the_same_bytes() -> None:
    one, two = sealed(), sealed()

    assert not _blocks(one) & _blocks(two)


def test_every_flipped_bit_is_noticed() -> None:
    """Header, salt, every section, every tag, the directory, the trailer: one byte after the other."""
    data = sealed(b"first", b"second " * 9)

    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(EngineError):
            contents(damaged)


@pytest.mark.parametrize("keep", [0, 1, fmt.HEADER.size, fmt.HEADER.size + fmt.TRAILER.size, -100, -1])
def test_a_cut_off_object_is_damaged(keep: int) -> None:
    with pytest.raises(ObjectDamaged, match=r"bytes|cut off|authentication"):
        contents(sealed()[:keep])


def test_what_follows_an_object_is_noticed() -> None:
    with pytest.raises(ObjectDamaged):
        contents(sealed() + b"\0")


def test_what_was_put_between_sections_and_directory_is_noticed() -> None:
    data = sealed()
    _, stored, _, _, _ = fmt.TRAILER.unpack(data[-fmt.TRAILER.size :])
    at = len(data) - fmt.TRAILER.size - stored

    with pytest.raises(ObjectDamaged, match="its directory does not describe all of it"):
        contents(data[:at] + b"smuggled" + data[at:])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"magic": b"AIHC"}, "does not begin like an object of ours"),
        ({"type": ObjectType.RECORD}, "of type 4, which does not belong"),
        ({"type": ObjectType.TREE_PACK}, "of type 2, which does not belong"),
        ({"repository": bytes(16)}, "belongs to another repository"),
        ({"salt": bytes(32)}, "fails its authentication"),
        ({"format": 0}, "fails its authentication|format 0"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_every_field_of_the_header_is_bound(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ObjectDamaged, match=said) as caught:
        contents(with_header(sealed(), **changes))

    assert caught.value.name == "packs/ab/story"


def test_a_type_is_bound_by_the_key_not_only_by_the_reader() -> None:
    data = with_header(sealed(), type=ObjectType.TREE_PACK)

    with pytest.raises(ObjectDamaged, match="fails its authentication"):
        Opened(SEALER, "packs/ab/story", data, ANY)


def test_a_repository_is_bound_by_the_seal_not_only_by_the_reader() -> None:
    other = Sealer(bytes(16), RING)  # even with the same keys

    with pytest.raises(ObjectDamaged, match="fails its authentication"):
        contents(with_header(sealed(), repository=other.repository_id), sealer=other)


def test_an_epoch_is_bound() -> None:
    both = Sealer(ID, KeyRing(1, {1: RING.masters[1], 2: bytes(32)}, RING.id_key, RING.chunker_seed))
    data = sealed()

    with pytest.raises(ObjectDamaged, match="fails its authentication"):
        contents(with_header(data, epoch=2), sealer=both)
    with pytest.raises(WrongSecret, match="epoch 3"):
        contents(with_header(data, epoch=3), sealer=both)


def test_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(NewerFormat, match="Upgrade first"):
        contents(with_header(sealed(), format=fmt.FORMAT + 1))


def test_another_repositorys_keys_open_nothing() -> None:
    with pytest.raises(ObjectDamaged, match="fails its authentication"):
        contents(sealed(), sealer=Sealer(ID, KeyRing.generate()))


# --------------------------------------------------------------------- sections


def alone(data: bytes, section: Section, envelope: Envelope, **changes: int) -> bytes:
    stored = data[section.offset : section.offset + section.stored]
    return SEALER.open_section(envelope, section._replace(**changes), stored, "packs/ab/story")


def test_a_section_opens_alone_with_what_the_index_knows_of_it() -> None:
    data = sealed()
    found = opened(data)

    assert alone(data, found.sections[1], found.envelope) == SECOND


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 0},
        {"number": 2},
        {"kind": SectionKind.DIRECTORY},
        {"kind": SectionKind.INDEX_BLOBS},
        {"codec": Codec.RAW},
        {"codec": Codec.GZIP},
        {"raw": len(SECOND) - 1},
        {"raw": 1 << 31},
    ],
    ids=str,
)
def test_every_fact_of_a_section_is_bound(changes: dict[str, int]) -> None:
    data = sealed()
    found = opened(data)

    with pytest.raises(ObjectDamaged, match=r"section \d fails its authentication"):
        alone(data, found.sections[1], found.envelope, **changes)


def test_sections_cannot_change_places() -> None:
    data = sealed(b"a" * 40, b"b" * 40, compressor=PLAIN)
    one, two = opened(data).sections
    swapped = (
        data[: one.offset]
        + data[two.offset : two.offset + two.stored]
        + data[one.offset : one.offset + one.stored]
        + data[two.offset + two.stored :]
    )

    with pytest.raises(ObjectDamaged, match="section 0 fails its authentication"):
        contents(swapped)


def test_sections_cannot_be_exchanged_between_objects() -> None:
    mine, theirs = (sealed(b"a" * 40, b"b" * 40, compressor=PLAIN) for _ in range(2))
    two = opened(mine).sections[1]
    end = two.offset + two.stored

    with pytest.raises(ObjectDamaged, match="section 1 fails its authentication"):
        contents(mine[: two.offset] + theirs[two.offset : end] + mine[end:])


def test_a_whole_directory_cannot_come_from_another_object() -> None:
    mine, theirs = (sealed(b"a" * 40, compressor=PLAIN) for _ in range(2))
    end = opened(mine).sections[-1].offset + 40 + 16

    with pytest.raises(ObjectDamaged, match="section 1 fails its authentication"):
        contents(mine[:end] + theirs[end:])


def test_an_object_without_its_last_sections_is_noticed() -> None:
    """Cut behind the first section and closed with the old directory."""
    data = sealed(b"a" * 40, b"b" * 40, compressor=PLAIN)
    _, two = opened(data).sections

    with pytest.raises(ObjectDamaged):
        contents(data[: two.offset] + data[two.offset + two.stored :])


@pytest.mark.parametrize("body", [{"final": False}, {"count": 1}, {"count": 3}, {"final": 1}])
def test_only_a_final_directory_that_counts_its_sections_is_one(body: dict[str, Any]) -> None:
    writer = SEALER.new(ObjectType.DATA_PACK)
    for raw in (FIRST, SECOND):
        writer.add(SectionKind.FRAME, raw, METADATA)

    with pytest.raises(ObjectDamaged, match="does not count its sections"):
        contents(writer.finish(body, METADATA))


# ----------------------------------------------------------------------- limits


def test_a_bomb_in_a_section_costs_nothing() -> None:
    """A forger who has the keys seals zeros that blow up to 64 MiB and announces 1,000 bytes."""
    _, packed = METADATA(bytes(64 << 20))
    envelope = SEALER.new(ObjectType.DATA_PACK).envelope
    section = Section(0, SectionKind.FRAME, 64, len(packed) + 16, Codec.ZSTD, 1000)
    aad = envelope.header(ID) + fmt.SECTION_FACTS.pack(section.kind, section.codec, section.raw)
    stored = SEALER.cipher(envelope).encrypt(bytes(12), packed, aad)
    tracemalloc.start()

    try:
        with pytest.raises(ObjectDamaged, match="announces another length"):
            SEALER.open_section(envelope, section, stored, "packs/ab/story")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


def test_a_directory_that_announces_gigabytes_is_not_read() -> None:
    data = sealed()
    number, stored, _, codec, magic = fmt.TRAILER.unpack(data[-fmt.TRAILER.size :])

    with pytest.raises(ObjectDamaged, match="its end is overwritten"):
        contents(data[: -fmt.TRAILER.size] + fmt.TRAILER.pack(number, stored, 1 << 31, codec, magic))


def test_a_directory_that_points_beyond_the_end_is_damaged() -> None:
    writer = SEALER.new(ObjectType.DATA_PACK)
    rows = [[SectionKind.FRAME, 1 << 30, Codec.RAW, 1 << 30]]

    with pytest.raises(ObjectDamaged, match=r"does not describe all of it"):
        contents(_with_directory(writer, {"final": True, "count": 1, "sections": rows}))


def _with_directory(writer: Any, directory: dict[str, Any]) -> bytes:
    """An object whose directory says this: what a writer with a fault might leave."""
    writer.add(SectionKind.FRAME, FIRST, PLAIN)
    section = writer.add(SectionKind.DIRECTORY, msgpack.packb(directory), PLAIN)
    trailer = fmt.TRAILER.pack(section.number, section.stored, section.raw, section.codec, fmt.TRAILER_MAGIC)
    return bytes(writer.buffer[: writer.size]) + trailer
