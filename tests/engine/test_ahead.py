"""A scan that begins while the repository is being opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from backups.engine import ahead
from backups.engine.ahead import Beside
from backups.engine.entry import Entry, Kind
from backups.engine.errors import WrongSecret
from backups.engine.remembered import footprint

PATIENCE = 30.0  # seconds; only a test that fails waits so long


def entry(number: int) -> Entry:
    return Entry(b"%03d" % number, Kind.FILE)


def test_entries_are_taken_while_the_call_is_under_way() -> None:
    third = threading.Event()

    def scanned() -> Iterator[Entry]:
        for number in range(5):
            if number == 3:
                third.set()
            yield entry(number)

    beside = Beside(lambda: third.wait(PATIENCE))

    assert list(beside.meanwhile(scanned())) == list(map(entry, range(5)))
    assert beside.result()


def test_no_entry_is_lost_or_doubled_when_the_call_has_ended_before() -> None:
    beside = Beside(lambda: "opened")
    beside.result()

    assert list(beside.meanwhile(map(entry, range(100)))) == list(map(entry, range(100)))
    assert beside.result() == "opened"


def test_no_more_entries_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "ROOM", 3 * footprint(entry(0)))
    taken, go = list[Entry](), threading.Event()

    def scanned() -> Iterator[Entry]:
        for number in range(9):
            taken.append(entry(number))
            yield taken[-1]

    beside = Beside(lambda: go.wait(PATIENCE))
    found = beside.meanwhile(scanned())
    waiting = len(taken)
    go.set()

    assert waiting == 4  # the last one found no room
    assert list(found) == list(map(entry, range(9)))
    assert beside.result()


def test_what_the_call_raises_is_raised_to_whoever_asks_for_its_result() -> None:
    def refused() -> None:
        raise WrongSecret("no slot opens")

    beside = Beside(refused)

    assert list(beside.meanwhile([entry(1), entry(2)])) == [entry(1), entry(2)]
    with pytest.raises(WrongSecret, match="no slot opens"):
        beside.result()
