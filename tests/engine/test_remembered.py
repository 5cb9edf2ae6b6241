"""Keeping entries in memory, as long as there is room."""

from __future__ import annotations

import pytest

from backups.engine import remembered
from backups.engine.entry import Entry, Kind
from backups.engine.remembered import Remembered, footprint


def test_entries_are_kept_while_there_is_room_and_then_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (Entry(name, Kind.FILE, content=b"c" * 64) for name in (b"a", b"b", b"c"))
    monkeypatch.setattr(remembered, "ROOM", 2 * footprint(first))
    kept = Remembered()

    kept.add(first)
    kept.add(second)
    fitting = list(kept.entries or ())
    kept.add(third)
    kept.add(first)

    assert fitting == [first, second]
    assert kept.entries is None


@pytest.mark.parametrize(
    "long",
    [
        Entry(b"p" * 60_000, Kind.FILE),
        Entry(b"a", Kind.FILE, content=b"c" * 60_000),
        Entry(b"a", Kind.FILE, content=(b"i" * 32,) * 1000),
        Entry(b"a", Kind.FILE, xattrs=((b"user.note", b"v" * 60_000),)),
        Entry(b"a", Kind.SYMLINK, target=b"t" * 60_000),
    ],
    ids=["path", "content", "pages of content", "attributes", "target"],
)
def test_whatever_can_be_long_takes_room(long: Entry) -> None:
    assert footprint(long) >= 32_000
