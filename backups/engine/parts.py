"""Large files of a restore, which several workers fill at once: who waits for what, and when is a file whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backups.engine.entry import Entry
from backups.engine.extract import DirectoryWriter, Identity, NotRestored
from backups.engine.plan import pack_file

Outcome = Callable[[Entry, str], None]  # an entry that is settled, and why it failed; "": it is whole


class LargeFiles:
    """Makes each file empty, hands it out by its number, and gives it its attributes when all its pieces are there.

    outcome  told once of each file
    """

    def __init__(self, writer: DirectoryWriter, outcome: Outcome) -> None:
        self._writer, self._outcome = writer, outcome
        self._files: dict[int, _Large] = {}
        self._next = 0

    def begin(self, entry: Entry, identity: Identity | None = None) -> int | None:
        """The number of a new file, or of one that stands there already; None when it cannot be made, which is told."""
        try:
            identity = identity or self._writer.open_writer(entry).leave()
        except NotRestored as error:
            self._outcome(entry, str(error))
            return None
        self._next += 1
        self._files[self._next] = _Large(entry, identity)
        return self._next

    def expect(self, number: int) -> None:
        """One more piece of it has been planned."""
        self._files[number].left += 1

    def planned(self, number: int, failed: str = "") -> None:
        """No more pieces come; failed: why it cannot be whole."""
        large = self._files[number]
        large.planned = True
        large.failed = large.failed or failed
        self._settle(number, large)

    def facts(self, numbers: dict[int, int]) -> dict[int, list[Any]]:
        """What a worker needs to write to these files."""
        return {number: [list(self._files[number].identity), self._files[number].facts] for number in numbers}

    def arrived(self, counts: dict[int, int], failed: dict[int, str]) -> None:
        """So many pieces of each file have been dealt with; failed: those that could not be written, and why."""
        for number, count in counts.items():
            large = self._files[number]
            large.left -= count
            large.failed = large.failed or failed.get(number, "")
            self._settle(number, large)

    def _settle(self, number: int, large: _Large) -> None:
        if large.left or not large.planned:
            return
        del self._files[number]
        why = large.failed
        if why:
            self._writer.remove(large.entry)
        else:
            why = self._finish(large)
        self._outcome(large.entry, why)

    def _finish(self, large: _Large) -> str:
        try:
            with self._writer.open_again(large.entry, large.identity):
                return ""
        except NotRestored as error:
            return str(error)


class _Large:
    __slots__ = ("entry", "facts", "failed", "identity", "left", "planned")

    def __init__(self, entry: Entry, identity: Identity) -> None:
        self.entry, self.identity = entry, identity
        self.facts = pack_file(entry)
        self.left, self.planned, self.failed = 0, False, ""
