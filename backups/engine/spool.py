"""Spool: records kept for later, in memory while they are few and in an unnamed file when they are many."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

_IN_MEMORY = 4 << 20  # bytes


class Spool:
    """Appended first, then read in the same order or the reverse. Costs 8 bytes a record beyond the first 4 MiB."""

    def __init__(self, directory: int) -> None:
        """directory: an open handle on where the file goes; it must stay open."""
        self._file = SpooledTemporaryFile(_IN_MEMORY, dir=f"/proc/self/fd/{directory}")  # noqa: SIM115  # closed below
        self._ends = array("Q", [0])

    def append(self, record: bytes) -> None:
        self._file.write(record)
        self._ends.append(self._ends[-1] + len(record))

    def backwards(self) -> Iterator[bytes]:
        for number in range(len(self._ends) - 1, 0, -1):
            start, end = self._ends[number - 1], self._ends[number]
            self._file.seek(start)
            yield self._file.read(end - start)

    def forwards(self) -> Iterator[bytes]:
        self._file.seek(0)
        for number in range(1, len(self._ends)):
            yield self._file.read(self._ends[number] - self._ends[number - 1])

    def close(self) -> None:
        self._file.close()
