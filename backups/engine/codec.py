"""Compression of one frame or section: zstd, gzip or none; raw where it does not shrink."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from enum import IntEnum

import zstandard

from backups.engine.errors import EngineError


class Codec(IntEnum):
    """How stored bytes were made from raw ones. The numbers are stored."""

    RAW = 0
    ZSTD = 1
    GZIP = 2


LEVELS = {Codec.RAW: (0, 0), Codec.ZSTD: (-7, 19), Codec.GZIP: (1, 9)}


class _Contexts(threading.local):
    """The zstd contexts of one thread: they keep state inside and run without the GIL, so no two threads share one."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()

    def compress(self, raw: bytes | memoryview, level: int) -> bytes:
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
        return self.compressors[level].compress(raw)


_contexts = _Contexts()


class Compressor:
    """Compresses with one codec and level; may be shared between threads."""

    def __init__(self, codec: Codec = Codec.ZSTD, level: int = 1) -> None:
        low, high = LEVELS[codec]
        if not low <= level <= high and codec is not Codec.RAW:
            raise EngineError(f"Level {level} is not one of {codec.name.lower()}: choose {low} to {high}.")
        self.codec = codec
        self._compress = self._function(codec, level)

    @staticmethod
    def _function(codec: Codec, level: int) -> Callable[[bytes | memoryview], bytes | memoryview]:
        if codec is Codec.ZSTD:
            return lambda raw: _contexts.compress(raw, level)
        if codec is Codec.GZIP:
            return lambda raw: zlib.compress(raw, level, wbits=31)
        return lambda raw: raw

    def __call__(self, raw: bytes | memoryview) -> tuple[Codec, bytes | memoryview]:
        """The codec that was used in the end, and the bytes to store; they may be raw itself."""
        packed = self._compress(raw)
        if self.codec is Codec.RAW or len(packed) >= len(raw):
            return Codec.RAW, raw
        return self.codec, packed


def decompress(codec: int, data: bytes | memoryview, raw_length: int) -> bytes:
    """The raw bytes; raises ValueError unless they are exactly raw_length long (never allocates more)."""
    if codec == Codec.RAW:
        raw = bytes(data)
    elif codec == Codec.ZSTD:
        raw = _unzstd_bounded(data, raw_length)
    elif codec == Codec.GZIP:
        raw = _gunzip_bounded(data, raw_length)
    else:
        raise ValueError(f"codec {codec} is unknown")
    if len(raw) != raw_length:
        raise ValueError(f"{len(raw)} bytes came out where {raw_length} were announced")
    return raw


def _unzstd_bounded(data: bytes | memoryview, raw_length: int) -> bytes:
    try:
        if zstandard.frame_content_size(data) != raw_length:
            raise ValueError("the zstd frame announces another length than its section")
        return _contexts.decompressor.decompress(data, max_output_size=raw_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from None


def _gunzip_bounded(data: bytes | memoryview, raw_length: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        raw = stream.decompress(data, raw_length + 1)
    except zlib.error as error:
        raise ValueError(f"gzip: {error}") from None
    if len(raw) <= raw_length and (not stream.eof or stream.unused_data):
        raise ValueError("the gzip stream is cut off, or something follows it")
    return raw
