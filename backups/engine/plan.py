"""What a restore fetches next: blobs of a stretch of the tree, in the order of the packs they lie in.

Every frame of a window is fetched, opened and proved once, whatever number of files it holds pieces of.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from backups.engine.entry import Entry, Kind
from backups.engine.index import Place
from backups.engine.segment import Segment

BATCH_RAW = 8 << 20  # raw bytes of the frames of one task
BATCH_PIECES = 512  # pieces of one task; a frame is never shared by two tasks

Target = list[Any]  # of a whole file its facts (see pack_file), of a part [number of the file, offset in it]
_Piece = tuple[int, int, int, int, bytes, Target]  # number of a segment, frame, start, length, blob id, target


class Part(NamedTuple):
    """What one task carries.

    frames  [pack, envelope, section, pieces] each, the pieces [start, length, blob id, target] in order
    files   number of a large file → how many of the pieces are its
    """

    frames: list[list[Any]]
    files: dict[int, int]


class Window:
    """Collects pieces; parts() gives them back in tasks, and begins anew."""

    def __init__(self) -> None:
        self._segments: dict[Segment, int] = {}  # the index may make them anew while we plan: ours stay readable
        self._pieces: list[_Piece] = []

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, place: Place, blob_id: bytes, target: Target) -> None:
        segment, frame, start, length = place
        number = self._segments.setdefault(segment, len(self._segments))
        self._pieces.append((number, frame, start, length, blob_id, target))

    def parts(self) -> Iterator[Part]:
        pieces, self._pieces = self._pieces, []
        segments, self._segments = list(self._segments), {}
        pieces.sort(key=itemgetter(0, 1, 2))
        part, size, count = Part([], {}), 0, 0
        for (segment, frame), group in groupby(pieces, key=itemgetter(0, 1)):
            if size >= BATCH_RAW or count >= BATCH_PIECES:
                yield part
                part, size, count = Part([], {}), 0, 0
            pack, envelope, section = segments[segment].frame(frame)
            wanted = [piece[2:] for piece in group]
            part.frames.append([pack, envelope, section, wanted])
            _count_files(part.files, wanted)
            size, count = size + section.raw, count + len(wanted)
        if part.frames:
            yield part


def _count_files(files: dict[int, int], pieces: list[tuple[Any, ...]]) -> None:
    for piece in pieces:
        number = piece[3][0]
        if isinstance(number, int):
            files[number] = files.get(number, 0) + 1


def pack_file(e: Entry) -> Target:
    """What a worker needs to make a whole file."""
    return [e.path, e.mode, e.uid, e.gid, e.user, e.group, e.mtime_ns, e.size, e.xattrs, e.flags]


def unpack_file(packed: Target) -> Entry:
    path, mode, uid, gid, user, group, mtime, size, xattrs, flags = packed
    pairs = tuple((name, value) for name, value in xattrs) if xattrs else ()
    return Entry(path, Kind.FILE, mode, uid, gid, user, group, mtime, size=size, xattrs=pairs, flags=flags)
