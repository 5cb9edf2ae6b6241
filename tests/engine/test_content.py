"""The packed form of content: empty, one blob, units, pages of units."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backups.engine import content
from backups.engine.content import ContentBuilder
from backups.engine.entry import Blob, Unit
from backups.engine.errors import EngineError
from backups.engine.format import sha256


class Pages(dict[bytes, bytes]):
    """Where content pages go."""

    def save(self, raw: bytes) -> bytes:
        self[sha256(raw)] = raw
        return sha256(raw)


BLOBS = some.lists(some.builds(Blob, some.binary(min_size=32, max_size=32), some.integers(0, 2**32 - 1)), min_size=1)


@some.composite
def files(draw: some.DrawFn) -> list[Unit]:
    """Units in order, with holes between some of them."""
    many = draw(some.lists(some.tuples(some.integers(0, 2**40), some.integers(0, 2**31), BLOBS), max_size=12))
    starts = accumulate((hole + length for hole, length, _ in many), initial=0)
    return [
        Unit(start + hole, length, sha256(start.to_bytes(8, "big")), tuple(blobs))
        for start, (hole, length, blobs) in zip(starts, many, strict=False)
    ]


def built(many: list[Unit], pages: Pages, page: int) -> content.Content:
    builder = ContentBuilder(pages.save, page)
    for unit in many:
        builder.add(unit)
    return builder.finish()


@given(many=files(), page=some.integers(1, 2000))
def test_units_come_back_in_order_however_they_are_paged(many: list[Unit], page: int) -> None:
    pages = Pages()

    packed = built(many, pages, page)

    assert list(content.units(packed, 0, pages.__getitem__)) == many
    assert list(content.blob_ids(packed, pages.__getitem__)) == [blob.id for unit in many for blob in unit.blobs]
    assert isinstance(packed, tuple) == bool(pages)


@given(many=files())
def test_units_are_never_mistaken_for_one_blob(many: list[Unit]) -> None:
    packed = b"".join(map(content.pack_unit, many))

    assert len(packed) != content.WHOLE
    assert list(content.unpack_units(packed)) == many


def test_short_content_stays_in_the_entry_and_long_content_goes_to_pages() -> None:
    many = [Unit(n * 10, 10, sha256(b""), (Blob(sha256(bytes([n])), 10),)) for n in range(10)]
    size, pages = len(content.pack_unit(many[0])), Pages()

    assert built(many, pages, 11 * size) == b"".join(map(content.pack_unit, many))
    assert not pages
    assert len(built(many, pages, 4 * size)) == 3
    assert sorted(map(len, pages.values())) == [2 * size, 4 * size, 4 * size]


def test_a_whole_small_file_is_one_blob() -> None:
    packed = content.whole(sha256(b"id"), sha256(b"content"))

    (unit,) = content.units(packed, 7, Pages().__getitem__)

    assert unit == Unit(0, 7, sha256(b"content"), (Blob(sha256(b"id"), 7),))
    assert list(content.blob_ids(packed, Pages().__getitem__)) == [sha256(b"id")]


def test_an_empty_file_is_made_of_nothing() -> None:
    assert list(content.units(b"", 0, Pages().__getitem__)) == []
    assert list(content.blob_ids(b"", Pages().__getitem__)) == []
    assert built([], Pages(), 100) == b""


@pytest.mark.parametrize("cut", [1, 20, 45, 46, 50, 81, 100])
def test_content_that_ends_too_early_is_told(cut: int) -> None:
    packed = content.pack_unit(Unit(0, 10, sha256(b""), (Blob(bytes(32), 5), Blob(bytes(32), 5))))

    with pytest.raises(EngineError, match="ends in the middle of a unit"):
        list(content.unpack_units(packed[:cut]))


def test_a_unit_without_blobs_is_told() -> None:
    with pytest.raises(EngineError, match="in the middle of a unit"):
        list(content.unpack_units(content.pack_unit(Unit(0, 0, sha256(b""), ()))))
