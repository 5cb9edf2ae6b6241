"""Packs: blobs bundled into frames, frames sealed into an object named by its SHA-256."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from backups.engine import format as fmt
from backups.engine.codec import Compressor
from backups.engine.entry import Blob
from backups.engine.envelope import METADATA, Envelope, EnvelopeWriter, Opened, Sealer, Section
from backups.engine.errors import EngineError, ObjectDamaged
from backups.engine.format import ObjectType, SectionKind

PACK_TYPES = (ObjectType.DATA_PACK, ObjectType.TREE_PACK)
_LENGTH = struct.Struct("<I")
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


def _pack_lengths(blobs: list[bytes]) -> bytes:
    return struct.pack(f"<{len(blobs)}I", *map(len, blobs))


Put = Callable[[str, bytes], None]
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
        self._raw: list[bytes] = []
        self._ids: list[bytes] = []
        self._raw_size = 0
        self._frames: list[FrameInfo] = []
        self._writer: EnvelopeWriter | None = None
        self._behind: _Behind | None = None
        self._count = 0

    def add(self, blob_id: bytes, data: bytes) -> None:
        """Take a blob; its bytes may be reused by the caller only after they have been copied, so pass bytes."""
        if len(data) > fmt.FRAME_LIMIT:
            raise EngineError(f"A blob of {len(data)} bytes could not be read again: a frame holds {fmt.FRAME_LIMIT}.")
        if self._raw and self._raw_size + len(data) > fmt.FRAME_SIZE:
            self._close_frame()
        self._raw.append(data)
        self._ids.append(blob_id)
        self._raw_size += len(data)
        if self._raw_size >= fmt.FRAME_SIZE:
            self._close_frame()

    def flush(self) -> None:
        """Everything added so far is durable and reported when this returns."""
        if self._raw:
            self._close_frame()
        if self._frames:
            self._close_pack()
        self.settle()

    close = flush

    def _close_frame(self) -> None:
        writer = self._writer = self._writer or self._sealer.new(self._kind)
        raw = self._raw[0] if len(self._raw) == 1 else b"".join(self._raw)
        section = writer.add(SectionKind.FRAME, raw, self._compressor)
        self._count += 1
        if self._count % self._verify == 0:
            self._prove(writer, section, raw)
        self._frames.append(FrameInfo(section, b"".join(self._ids), _pack_lengths(self._raw)))
        self._raw, self._ids, self._raw_size = [], [], 0
        if writer.size >= fmt.PACK_SIZE:
            self._close_pack()

    def _prove(self, writer: EnvelopeWriter, section: Section, raw: bytes) -> None:
        """Guards against faults of compressor, cipher and memory: what was sealed opens to what went in."""
        again = self._sealer.open_section(writer.envelope, section, writer.last_stored(), "a new pack")
        if again != raw:
            raise EngineError("A frame did not decode to what was encoded: this machine's memory or CPU is at fault.")

    def _close_pack(self) -> None:
        assert self._writer is not None
        frames, writer = tuple(self._frames), self._writer
        body = {"blobs": [[frame.ids, frame.lengths] for frame in frames]}
        self.settle()
        self._behind = _Behind(self._put, writer, body, frames)
        self._frames, self._writer = [], None

    def settle(self) -> None:
        """Wait for the pack that is being written behind this one, and report it."""
        behind, self._behind = self._behind, None
        if behind:
            self._sealed(behind.result())


class _Behind:
    """One pack on its way to the store, in a thread of its own."""

    def __init__(self, put: Put, writer: EnvelopeWriter, body: dict[str, Any], frames: tuple[FrameInfo, ...]) -> None:
        self._put, self._writer, self._body, self._frames = put, writer, body, frames
        self._info: PackInfo | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pack-writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            data = self._writer.finish(self._body, METADATA)
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


def read_pack(sealer: Sealer, name: str, data: bytes) -> tuple[PackInfo, Opened]:
    """A pack's own word about itself, proved against its directory. Raises ObjectDamaged."""
    opened = Opened(sealer, name, data, PACK_TYPES)
    blobs = opened.directory.get("blobs")
    if blobs is None or len(blobs) != len(opened.sections):
        raise ObjectDamaged(name, "its directory does not describe its frames")
    frames = tuple(
        FrameInfo(section, ids, lengths) for section, (ids, lengths) in zip(opened.sections, blobs, strict=True)
    )
    return PackInfo(fmt.sha256(data), opened.envelope, len(data), frames), opened
