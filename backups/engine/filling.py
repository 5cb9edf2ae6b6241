"""One file of a restore while it is filled: by several processes, in any order, or as a killed restore left it."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from backups.engine.entry import Entry
from backups.engine.errors import EngineError

if TYPE_CHECKING:
    from backups.engine.extract import DirectoryWriter


class NotRestored(EngineError):
    """One item cannot be written to this target; the others can."""


class Identity(NamedTuple):
    """Which file on this machine it is that we have made, whatever bears its name later."""

    device: int
    inode: int


class FileWriter:
    """One file that is being filled. As a context manager it finishes, or aborts when it is left with an exception."""

    def __init__(self, owner: DirectoryWriter, entry: Entry, fd: int, *, again: bool = False) -> None:
        self._owner, self._entry, self._fd = owner, entry, fd
        self._end = entry.size if again else 0  # of what has been written
        if entry.flags and not again:
            owner.attributes.begin(fd, entry)

    def has_room(self) -> bool:
        """Whether the file that was found is not longer than it is to be."""
        self._end = os.fstat(self._fd).st_size
        return self._end <= self._entry.size

    def read_at(self, offset: int, length: int) -> bytes:
        """What stands there, shorter at the end; of a file from open_kept()."""
        return os.pread(self._fd, length, offset)

    def is_hole(self, start: int, stop: int) -> bool:
        """Whether only zeros stand between; of a file from open_kept(). Holes are not read."""
        while start < stop:
            try:
                start = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing behind it
                    return True
                raise self._owner.failure(self._entry, error) from None
            piece = self.read_at(start, min(1 << 20, stop - start)) if start < stop else b""
            if not piece or piece.strip(b"\0"):
                return not piece
            start += len(piece)
        return True

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes in their place, in any order; what is never written is a hole."""
        end = offset + len(data)
        if offset < 0 or end > self._entry.size:
            raise NotRestored("Its content reaches beyond its size: the snapshot is damaged.")
        try:
            written = os.pwrite(self._fd, data, offset)
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], offset + written)
        except OSError as error:
            raise self._owner.failure(self._entry, error) from None
        self._end = max(self._end, end)

    def _stretch(self) -> None:
        try:
            if self._end < self._entry.size:
                os.ftruncate(self._fd, self._entry.size)
        except OSError as error:
            raise self._owner.failure(self._entry, error) from None

    def leave(self) -> Identity:
        """Close the file unfinished, in its full size; DirectoryWriter.open_again() opens it."""
        try:
            self._stretch()
            st = os.fstat(self._fd)
        except BaseException:
            self.abort()
            raise
        os.close(self._fd)
        self._fd = -1
        return Identity(st.st_dev, st.st_ino)

    def finish(self) -> None:
        """The file is whole: give it its size and attributes."""
        self._stretch()
        self._owner.attributes.give_back(self._fd, self._entry)
        os.close(self._fd)
        self._fd = -1

    def abort(self) -> None:
        """The file cannot be whole: remove it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._owner.remove(self._entry)

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.finish()
        except BaseException:
            self.abort()
            raise
