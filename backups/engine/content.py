"""The packed form of what a file is made of, as it stands in a tree page.

b""                    an empty file
64 bytes               one blob that is the whole file: its id, then the file's SHA-256
longer                 units, one after the other (see pack_unit)
a tuple of blob ids    content pages: blobs of the tree packs that hold units in turn
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from backups.engine.entry import Blob, Unit
from backups.engine.errors import EngineError

Content = bytes | tuple[bytes, ...]
Load = Callable[[bytes], bytes]

_UNIT = struct.Struct("<QIH32s")  # offset in the file, length, number of blobs, SHA-256 of the unit
_BLOB = struct.Struct("<I32s")  # length, id
WHOLE = 64


def whole(blob_id: bytes, sha256: bytes) -> bytes:
    """The content of a small file that is one blob."""
    return blob_id + sha256


def pack_unit(unit: Unit) -> bytes:
    head = _UNIT.pack(unit.offset, unit.length, len(unit.blobs), unit.sha256)
    return head + b"".join(_BLOB.pack(blob.length, blob.id) for blob in unit.blobs)


def unpack_units(data: bytes) -> Iterator[Unit]:
    at = 0
    while at < len(data):
        whole_head = at + _UNIT.size <= len(data)
        offset, length, count, digest = _UNIT.unpack_from(data, at) if whole_head else (0, 0, 0, b"")
        at += _UNIT.size
        end = at + count * _BLOB.size
        if end > len(data) or not count:
            raise EngineError("A content page ends in the middle of a unit.")
        yield Unit(offset, length, digest, tuple(Blob(i, n) for n, i in _BLOB.iter_unpack(data[at:end])))
        at = end


def units(content: Content, size: int, load: Load) -> Iterator[Unit]:
    """The units of a file of this size in order; load fetches a content page by its id."""
    if isinstance(content, tuple):
        for page in content:
            yield from unpack_units(load(page))
    elif len(content) == WHOLE:
        yield Unit(0, size, content[32:], (Blob(content[:32], size),))
    elif content:
        yield from unpack_units(content)


def blob_ids(content: Content, load: Load) -> Iterator[bytes]:
    """The ids of all data blobs of a file; content pages themselves are not among them."""
    if not isinstance(content, tuple) and len(content) == WHOLE:
        yield content[:32]
        return
    for unit in units(content, 0, load):
        for blob in unit.blobs:
            yield blob.id


class ContentBuilder:
    """Collects a file's units in order; long content goes to content pages through save, so memory stays flat."""

    def __init__(self, save: Callable[[bytes], bytes], page: int) -> None:
        self._save, self._page = save, page
        self._data = bytearray()
        self._pages: list[bytes] = []

    def add(self, unit: Unit) -> None:
        self._data += pack_unit(unit)
        if len(self._data) >= self._page:
            self._pages.append(self._save(bytes(self._data)))
            self._data.clear()

    def finish(self) -> Content:
        if not self._pages:
            return bytes(self._data)
        if self._data:
            self._pages.append(self._save(bytes(self._data)))
        return tuple(self._pages)
