"""What a worker process does with a task: read, cut, hash, deduplicate, hand to the packer.

A task is carried whole by one worker: a batch of small files, one unit of a large file, or one buffer of a stream.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from backups.engine import format as fmt
from backups.engine.chunker import DETECT_LENGTH, Chunker, cut_blocks, detect_block
from backups.engine.content import pack_unit, unpack_units, whole
from backups.engine.disk import DiskTree, reason
from backups.engine.entry import Blob, Notes, Unit, kept_time
from backups.engine.pack import PackWriter

TRIES = 3  # reads of a small file that keeps changing, before it is stored as it is
WINDOW = 4 << 20  # bytes of a large file read at once

_CHANGED = int(Notes.CHANGED)

SMALL, UNIT, BUFFER = "small", "unit", "buffer"


class Known(Protocol):
    def __contains__(self, blob_id: bytes, /) -> bool: ...


class Stable(NamedTuple):
    """The stat values that must not move while a file is read."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, st: os.stat_result) -> Stable:
        return cls(st.st_ino, st.st_size, kept_time(st.st_mtime_ns), kept_time(st.st_ctime_ns))


class Capture:
    """One worker's tools. Tasks and results are plain lists and dictionaries, because they travel between processes."""

    def __init__(
        self,
        tree: DiskTree,
        id_of: Callable[[bytes | memoryview], bytes],
        chunker: Chunker,
        known: Callable[[bytes], bool],
        claim: Callable[[bytes], bool],
        packer: PackWriter,
    ) -> None:
        self._tree, self._id_of, self._chunker = tree, id_of, chunker
        self._known, self._claim, self.packer = known, claim, packer
        self._buffer = bytearray(WINDOW + fmt.CHUNK_MAX)

    def store(self, data: bytes | memoryview) -> bytes:
        """A blob's id; the blob goes to the packer if nobody has it yet."""
        blob_id = self._id_of(data)
        if not self._known(blob_id) and self._claim(blob_id):
            self.packer.add(blob_id, data)
        return blob_id

    # small files

    def small(self, paths: list[bytes]) -> list[dict[str, Any]]:
        """One result for each file; see _small_file."""
        return [self._small_file(path) for path in paths]

    def _small_file(self, path: bytes) -> dict[str, Any]:
        """{content, stat, xattrs, flags, notes, bytes}, {large: stat}, or what lost() tells.

        large says that the file has grown into one that must be carried in units.
        """
        try:
            for attempt in range(TRIES):
                result = self._read_small(path)
                if not result["notes"] or attempt == TRIES - 1:
                    return self._stored(result)
            raise AssertionError("unreachable")
        except OSError as error:
            return lost(error)

    def _read_small(self, path: bytes) -> dict[str, Any]:
        fd, before = self._tree.open_file(path)
        try:
            if before.st_size > fmt.UNIT_SIZE:
                return {"large": _size_and_times(before), "notes": 0}
            data = read_all(fd, before.st_size)
            after = os.fstat(fd)
            changed = _moved(before, after) or len(data) != before.st_size
            return {
                "data": data,
                "stat": _size_and_times(before),
                "notes": _CHANGED if changed else 0,
                "xattrs": self._tree.xattrs(fd, path),
                "flags": self._tree.flags(fd),
            }
        finally:
            os.close(fd)

    def _stored(self, result: dict[str, Any]) -> dict[str, Any]:
        if "large" in result:
            return result
        data: bytes = result.pop("data")
        result["bytes"] = result["stat"][0] = len(data)
        if len(data) > fmt.SMALL_FILE:  # it grew past a small file while it was read
            unit = self._cut(memoryview(data), 0, 0)
            result["content"] = pack_unit(unit)
        else:
            result["content"] = whole(self.store(data), fmt.sha256(data)) if data else b""
        return result

    # units of large files

    def unit(
        self, path: bytes, offset: int, length: int, block: int, stable: list[int], before: bytes
    ) -> dict[str, Any]:
        """One unit of a large file: {unit, notes, bytes, xattrs, flags}, or what lost() tells.

        before  the packed unit of the parent snapshot at this offset, or b""
        """
        try:
            fd, st = self._tree.open_file(path)
        except OSError as error:
            return lost(error)
        try:
            unit = self._repeated(fd, offset, length, block, before) or self._read_unit(fd, offset, length, block)
            return self._unit(fd, path, length, unit, Stable(*stable), st)
        except OSError as error:
            return lost(error)
        finally:
            os.close(fd)

    def _unit(
        self, fd: int, path: bytes, length: int, unit: Unit, stable: Stable, before: os.stat_result
    ) -> dict[str, Any]:
        changed = Stable.of(before) != stable or Stable.of(os.fstat(fd)) != stable
        notes = (Notes.CHANGED if changed else Notes.NONE) | (Notes.SHORT if unit.length < length else Notes.NONE)
        return {"unit": pack_unit(unit) if unit.blobs else b"", "bytes": unit.length, "notes": int(notes),
                "xattrs": self._tree.xattrs(fd, path), "flags": self._tree.flags(fd)}  # fmt: skip

    def _repeated(self, fd: int, offset: int, length: int, block: int, before: bytes) -> Unit | None:
        """The parent's unit, where the file still holds the same blobs: then its SHA-256 is known, the dearest of all
        that a unit takes. None at the first difference; from then on the unit is read from its beginning."""
        if not before:
            return None
        (known,) = unpack_units(before)
        if known.length != length:
            return None
        expected = iter(known.blobs)
        for piece in self._pieces(fd, offset, length, block):
            blob_id = self._id_of(piece)
            if next(expected, None) != (blob_id, len(piece)) or not self._known(blob_id):
                return None
        return known if next(expected, None) is None else None

    def _read_unit(self, fd: int, offset: int, length: int, block: int) -> Unit:
        digest = hashlib.sha256()
        blobs: list[Blob] = []
        total = 0
        for piece in self._pieces(fd, offset, length, block):
            digest.update(piece)
            blobs.append(Blob(self.store(piece), len(piece)))
            total += len(piece)
        return Unit(offset, total, digest.digest(), tuple(blobs))

    def _pieces(self, fd: int, offset: int, length: int, block: int) -> Iterator[memoryview]:
        """The chunks or blocks of one unit, in order, cut from a sliding window. Short when the file is."""
        block = block or detect_block(os.pread(fd, DETECT_LENGTH, 0))
        view = memoryview(self._buffer)
        position, end, kept = offset, offset + length, 0
        while True:
            got = _fill(fd, view[kept : kept + min(WINDOW, end - position)], position)
            position += got
            final = position >= end or got == 0
            have, used = kept + got, 0
            for start, stop in self._cuts(view[:have], block, final):
                yield view[start:stop]
                used = stop
            if final:
                return
            kept = have - used
            view[:kept] = view[used:have]

    def _cuts(self, data: memoryview, block: int, final: bool) -> Iterator[tuple[int, int]]:
        return cut_blocks(len(data), block, final) if block else self._chunker.cut(data, final)

    def _cut(self, data: memoryview, offset: int, block: int) -> Unit:
        pieces = [data[start:stop] for start, stop in self._cuts(data, block, True)]
        blobs = tuple(Blob(self.store(piece), len(piece)) for piece in pieces)
        return Unit(offset, len(data), hashlib.sha256(data).digest(), blobs)

    # buffers of streams

    def buffer(self, data: memoryview, offset: int, lengths: list[int]) -> dict[str, Any]:
        """One buffer of a stream that the feeder has cut already: {unit, bytes}."""
        blobs, at = [], 0
        for length in lengths:
            blobs.append(Blob(self.store(data[at : at + length]), length))
            at += length
        unit = Unit(offset, at, hashlib.sha256(data[:at]).digest(), tuple(blobs))
        return {"unit": pack_unit(unit), "bytes": at, "notes": 0, "xattrs": [], "flags": 0}


def _moved(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_mtime_ns != after.st_mtime_ns
        or before.st_ctime_ns != after.st_ctime_ns
        or before.st_size != after.st_size
        or before.st_ino != after.st_ino
    )


def _size_and_times(st: os.stat_result) -> list[int]:
    return [st.st_size, kept_time(st.st_mtime_ns), kept_time(st.st_ctime_ns)]


def read_all(fd: int, size: int) -> bytes:
    """The whole file, one read where its size holds; a file that grows without end is cut a MiB beyond."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    pieces, got = [data], len(data)
    while pieces[-1] and got <= size + fmt.MiB:  # it grew, or the kernel gave less than asked
        pieces.append(os.read(fd, fmt.MiB))
        got += len(pieces[-1])
    return b"".join(pieces)


def _fill(fd: int, view: memoryview, position: int) -> int:
    """Fill the view from a position; the bytes got are fewer only at the end of the file."""
    got = 0
    while got < len(view):
        count = os.preadv(fd, [view[got:]], position + got)
        if not count:
            break
        got += count
    return got


def lost(error: OSError) -> dict[str, Any]:
    """Why an item could not be read, as a sentence beside which its path stands: {gone} or {error}."""
    if isinstance(error, FileNotFoundError):
        return {"gone": "It vanished between being listed and being read."}
    return {"error": f"It cannot be read: {reason(error)}."}
