"""Cutting content into blobs: FastCDC for files, fixed blocks for page files.

FastCDC is pyfastcdc's compiled form (Xia et al., "The Design of Fast Content-Defined Chunking", 2020), seeded per
repository. Its silent pure-Python fallback runs at half a percent of the speed and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from backups.engine import format as fmt
from backups.engine.errors import EngineError

SQLITE_MAGIC = b"SQLite format 3\0"
DETECT_LENGTH = 16384  # bytes of a file's beginning that detect_block() looks at


class Chunker:
    """Cuts buffers. Sizes in bytes; the same seed and sizes give the same cuts for ever."""

    def __init__(
        self, seed: int, low: int = fmt.CHUNK_MIN, average: int = fmt.CHUNK_AVERAGE, high: int = fmt.CHUNK_MAX
    ) -> None:
        try:
            from pyfastcdc.cy import FastCDC
        except ImportError:
            raise EngineError(
                "The compiled chunker (pyfastcdc) does not load on this machine; the pure-Python one would run "
                "at half a percent of its speed. Reinstall the pinned requirements."
            ) from None
        self._cutter = FastCDC(average, min_size=low, max_size=high, seed=seed)

    def cut(self, data: memoryview, final: bool) -> Iterator[tuple[int, int]]:
        """(start, end) of each chunk; unless final, the last one is left out, because more bytes may belong to it."""
        for chunk in self._cutter.cut_buf(data):
            end = chunk.offset + chunk.length
            if end == len(data) and not final:
                return
            yield chunk.offset, end


def cut_blocks(length: int, block: int, final: bool) -> Iterator[tuple[int, int]]:
    """(start, end) of fixed blocks; a last short one only when final."""
    whole = length - length % block
    for start in range(0, whole, block):
        yield start, start + block
    if final and whole < length:
        yield whole, length


def detect_block(head: bytes) -> int:
    """The block size to use for a file that begins like this (DETECT_LENGTH bytes); 0 for content-defined chunks."""
    if head.startswith(SQLITE_MAGIC) or _postgres_heap(head) or _innodb(head):
        return fmt.PAGE_BLOCK
    return 0


def _postgres_heap(head: bytes) -> bool:
    """Two pages running whose header says 8192 bytes, layout version 4 (pd_pagesize_version, bufpage.h)."""
    return len(head) >= 16384 and head[18:20] == head[8210:8212] == b"\x04\x20"


def _innodb(head: bytes) -> bool:
    """Page 0 is a file-space header (FIL_PAGE_TYPE 8), page 1 an insert-buffer bitmap (5), fil0types.h."""
    page = 16384
    return len(head) >= page and head[24:26] == b"\x00\x08" and head[34:38] == head[38:42] and head[4:8] == bytes(4)
