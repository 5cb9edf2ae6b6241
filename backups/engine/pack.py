"""Packs: blobs bundled into frames, frames sealed into an object named by its SHA-256."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from backups.engine import format as fmt
from backups.engine.codec import Compressor
from backups.engine.entry import Blob
from backups.engine.envelope import METADATA, Ends, Envelope, EnvelopeWriter, Opened, Sealer, Section
from backups.engine.errors import EngineError, ObjectDamaged
from backups.engine.format import ObjectType, SectionKind
from backups.engine.store import Data

PACK_TYPES = (ObjectType.DATA_PACK, ObjectType.TREE_PACK)
_LENGTH = struct.Struct("<I")
TAIL = 64 << 10  # bytes read at a pack's end at once: nearly all directories fit
VERIFY_EVERY = 8  # of the data frames, one in so many is decoded again and compared before it is acknowledged


class FrameInfo(NamedTuple):
    """One frame of a pack: its section and the blobs in it, in order."""

    section: Section
    ids: bytes  # 32 bytes each
    lengths: bytes  # little-endian u32 each

    def blobs(self) -> Iterator[Blob]:
        for number, (length,) in enumerate(_LENGTH.iter_unpack(self.lengths)):
            yield Blob(self.ids[32 * number : 32 * number + 32], length)


class PackInfo(NamedTuple):
    """A finished pack: everything that the index says about it."""

    digest: bytes
    envelope: Envelope
    size: int
    frames: tuple[FrameInfo, ...]

    def pack(self) -> list[Any]:
        """A form that msgpack carries."""
        frames = [[*frame.section, frame.ids, frame.lengths] for frame in self.frames]
        return [self.digest, list(self.envelope), self.size, frames]

    @classmethod
    def unpack(cls, row: list[Any]) -> PackInfo:
        digest, envelope, size, frames = row
        return cls(digest, Envelope(*envelope), size, tuple(FrameInfo(Section(*f[:6]), f[6], f[7]) for f in frames))


Put = Callable[[str, Data], None]
Sealed = Callable[[PackInfo], None]


class PackWriter:
    """Fills packs of one type. add() blobs; close() when done. Used by one thread; one pack is written behind it.

    put     stores a finished object; called in a thread of its own, so the next pack fills meanwhile
    sealed  is told of each pack, in the caller's thread, once it is durable
    verify  decode every n-th frame again and compare before acknowledging (1: all)
    """

    def __init__(
        self, sealer: Sealer, kind: ObjectType, compressor: Compressor, put: Put, sealed: Sealed, verify: int = 1
    ) -> None:
        self._sealer, self._kind, self._compressor = sealer, kind, compressor
        self._put, self._sealed, self._verify = put, sealed, max(verify, 1)
        self._frame = memoryview(b"")  # the raw bytes of the one that is being filled; made when it is needed
        self._used = 0
        self._ids: list[bytes] = []
        self._lengths: list[int] = []
        self._spare: list[bytearray] = []  # buffers of packs that are stored
        self._frames: list[FrameInfo] = []
        self._blobs = 0  # in these frames
        self._writer: EnvelopeWriter | None = None
        self._behind: _Behind | None = None
        self._count = 0

    def add(self, blob_id: bytes, data: bytes | memoryview) -> None:
        """Take a blob. Nothing of data is kept: the caller may use its memory again."""
        size = len(data)
        if size > fmt.FRAME_LIMIT:
            raise EngineError(f"A blob of {size} bytes could not be read again: a frame holds {fmt.FRAME_LIMIT}.")
        if self._ids and self._used + size > fmt.FRAME_SIZE:
            self._close_frame()
        self._ids.append(blob_id)
        self._lengths.append(size)
        if size >= fmt.FRAME_SIZE:
            self._seal_frame(data)
            return
        self._put_by(data, size)
        if self._used >= fmt.FRAME_SIZE:
            self._close_frame()

    def _put_by(self, data: bytes | memoryview, size: int) -> None:
        if not self._frame:
            self._frame = memoryview(bytearray(fmt.FRAME_SIZE))
        self._frame[self._used : self._used + size] = data
        self._used += size

    def carry(self, frame: FrameInfo, packed: bytes) -> None:
        """Take a frame of another pack as its codec left it: sealed anew, not compressed anew."""
        writer = self._writer = self._writer or self._new_writer()
        old = frame.section
        section = writer.add_packed(old.kind, old.codec, packed, old.raw)
        if self._sealer.open_packed(writer.envelope, section, writer.last_stored(), "a new pack") != packed:
            raise EngineError("A frame did not open to what was sealed: this machine's memory or CPU is at fault.")
        self._take_in(writer, FrameInfo(section, frame.ids, frame.lengths))

    def flush(self) -> None:
        """Everything added so far is durable and reported when this returns."""
        if self._ids:
            self._close_frame()
        if self._frames:
            self._close_pack()
        self.settle()

    close = flush

    def _close_frame(self) -> None:
        self._seal_frame(self._frame[: self._used])
        self._used = 0

    def _seal_frame(self, raw: bytes | memoryview) -> None:
        writer = self._writer = self._writer or self._new_writer()
        section = writer.add(SectionKind.FRAME, raw, self._compressor)
        self._count += 1
        if self._count % self._verify == 0:
            self._prove(writer, section, raw)
        lengths = struct.pack(f"<{len(self._lengths)}I", *self._lengths)
        ids, self._ids, self._lengths = b"".join(self._ids), [], []
        self._take_in(writer, FrameInfo(section, ids, lengths))

    def _take_in(self, writer: EnvelopeWriter, frame: FrameInfo) -> None:
        self._frames.append(frame)
        self._blobs += len(frame.ids) // 32
        if writer.size >= self._enough or self._blobs >= fmt.PACK_BLOBS:
            self._close_pack()

    @property
    def _enough(self) -> int:
        trees = self._kind == ObjectType.TREE_PACK
        return min(fmt.PACK_SIZE, fmt.TREE_PACK_SIZE) if trees else fmt.PACK_SIZE

    def _new_writer(self) -> EnvelopeWriter:
        return self._sealer.new(self._kind, self._spare.pop() if self._spare else None)

    def _prove(self, writer: EnvelopeWriter, section: Section, raw: bytes | memoryview) -> None:
        """Guards against faults of compressor, cipher and memory: what was sealed opens to what went in."""
        again = self._sealer.open_section(writer.envelope, section, writer.last_stored(), "a new pack")
        if again != bytes(raw):  # a view would be compared byte by byte, in Python objects
            raise EngineError("A frame did not decode to what was encoded: this machine's memory or CPU is at fault.")

    def _close_pack(self) -> None:
        assert self._writer is not None
        frames, writer = tuple(self._frames), self._writer
        body = {"blobs": [[frame.ids, frame.lengths] for frame in frames]}
        self.settle()
        self._behind = _Behind(self._put, writer, body, frames)
        self._frames, self._blobs, self._writer = [], 0, None

    def settle(self) -> None:
        """Wait for the pack that is being written behind this one, and report it."""
        behind, self._behind = self._behind, None
        if behind:
            info = behind.result()
            self._spare.append(behind.buffer)
            self._sealed(info)


class _Behind:
    """One pack on its way to the store, in a thread of its own."""

    def __init__(self, put: Put, writer: EnvelopeWriter, body: dict[str, Any], frames: tuple[FrameInfo, ...]) -> None:
        self._put, self._writer, self._body, self._frames = put, writer, body, frames
        self.buffer = writer.buffer
        self._info: PackInfo | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pack-writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            data = self._writer.seal(self._body, METADATA)
            digest = fmt.sha256(data)
            self._put(fmt.pack_name(digest), data)
            self._info = PackInfo(digest, self._writer.envelope, len(data), self._frames)
        except BaseException as error:
            self._error = error

    def result(self) -> PackInfo:
        self._thread.join()
        if self._error:
            raise self._error
        assert self._info is not None
        return self._info


def read_pack(sealer: Sealer, name: str, data: bytes, digest: bytes | None = None) -> tuple[PackInfo, Opened]:
    """A pack's own word about itself, proved against its directory. Raises ObjectDamaged.

    digest  its SHA-256, where the caller has computed it already
    """
    opened = Opened(sealer, name, data, PACK_TYPES)
    return PackInfo(digest or fmt.sha256(data), opened.envelope, len(data), _frames(opened)), opened


def read_ends(sealer: Sealer, digest: bytes, size: int, get: Callable[[str, int, int], bytes]) -> PackInfo:
    """A pack's own word about itself, read from its two ends; get(name, start, length) reads.

    Believed no further than an index object is: each frame proves itself when it is read. Raises what `Ends` raises.
    """
    name, start = fmt.pack_name(digest), max(0, size - TAIL)
    tail = get(name, start, size - start)

    def read(at: int, length: int) -> bytes:
        return tail[at - start : at - start + length] if at >= start else get(name, at, length)

    ends = Ends(sealer, name, size, read, PACK_TYPES)
    return PackInfo(digest, ends.envelope, size, _frames(ends))


def _frames(ends: Ends) -> tuple[FrameInfo, ...]:
    blobs = ends.directory.get("blobs")
    if blobs is None or len(blobs) != len(ends.sections):
        raise ObjectDamaged(ends.name, "its directory does not describe its frames")
    return tuple(FrameInfo(section, ids, lengths) for section, (ids, lengths) in zip(ends.sections, blobs, strict=True))
