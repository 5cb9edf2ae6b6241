"""The plan of a restore: every frame once, in the order of the packs, in tasks of a size that balances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backups.engine import plan
from backups.engine.entry import Entry, Kind
from backups.engine.index import BlobIndex
from backups.engine.plan import Part, Window, pack_file, unpack_file
from backups.engine.stores.memory import MemoryStore
from tests.engine.test_index import blob, pack, put, synced


def stored(*frames: list[bytes]) -> BlobIndex:
    """An index of one pack with these frames; the n-th blob of a frame has n + 1 bytes."""
    store = MemoryStore()
    put(store, pack(frames))
    return synced(store)


def collected(index: BlobIndex, wanted: list[tuple[bytes, list[Any]]]) -> list[Part]:
    window = Window()
    for blob_id, target in wanted:
        place = index.place(blob_id)
        assert place is not None
        window.add(place, blob_id, target)
    return list(window.parts())


def test_each_frame_comes_once_with_all_that_is_wanted_from_it() -> None:
    one, two, three = blob(1), blob(2), blob(3)
    index = stored([one, two], [three])

    (part,) = collected(index, [(three, [1, 0]), (two, [1, 10]), (one, [2, 0]), (two, [2, 5])])

    assert [(section.number, pieces) for _, _, section, pieces in part.frames] == [
        (0, [(0, 1, one, [2, 0]), (1, 2, two, [1, 10]), (1, 2, two, [2, 5])]),
        (1, [(0, 1, three, [1, 0])]),
    ]
    assert part.files == {1: 2, 2: 2}


def test_it_names_the_frames_as_the_index_does() -> None:
    index = stored([blob(1)], [blob(2)])

    (part,) = collected(index, [(blob(2), [1, 0])])

    location = index.locate(blob(2))
    assert part.frames[0][:3] == [location.pack, location.envelope, location.section]


def many(count: int) -> list[list[bytes]]:
    return [[blob((frame, n)) for n in range(10)] for frame in range(count)]


@pytest.mark.parametrize(
    "limit", [lambda m: m.setattr(plan, "BATCH_PIECES", 25), lambda m: m.setattr(plan, "BATCH_RAW", 150)]
)
def test_tasks_are_cut_between_frames(monkeypatch: pytest.MonkeyPatch, limit: Callable[[Any], None]) -> None:
    limit(monkeypatch)
    frames = many(10)

    parts = collected(stored(*frames), [(blob_id, [1, 0]) for ids in frames for blob_id in ids])

    numbers = [[section.number for _, _, section, _ in part.frames] for part in parts]
    assert numbers == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [part.files for part in parts] == [{1: 30}, {1: 30}, {1: 30}, {1: 10}]


def test_a_window_begins_anew() -> None:
    index = stored([blob(1)])
    window, place = Window(), index.place(blob(1))
    assert place is not None
    window.add(place, blob(1), [1, 0])

    assert len(window) == 1
    assert len(list(window.parts())) == 1
    assert len(window) == 0
    assert list(window.parts()) == []


def test_whole_files_are_counted_as_no_large_ones() -> None:
    entry = Entry(b"a", Kind.FILE, size=1)

    (part,) = collected(stored([blob(1)]), [(blob(1), pack_file(entry))])

    assert part.files == {}


def test_a_file_keeps_all_that_it_gets_back() -> None:
    xattrs = ((b"user.x", b"1"), (b"user.y", b""))
    entry = Entry(b"d/a", Kind.FILE, 0o4755, 1, 2, "user", "group", 3, size=4, xattrs=xattrs, flags=16)

    assert unpack_file(pack_file(entry)) == entry
