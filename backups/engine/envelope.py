"""The sealed envelope that packs, index objects and log records share.

    header | section 0 | section 1 | … | directory (the last section) | trailer

Every object has a key of its own, derived from its epoch's master key, its type and a random salt; a section's
nonce is its number, so no nonce is ever used twice under one key. The associated data of a section is the header
with the section's kind, codec and raw length: nothing can be moved to another object, place or kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backups.engine import format as fmt
from backups.engine.codec import Codec, Compressor, decompress
from backups.engine.errors import NewerFormat, ObjectDamaged
from backups.engine.format import ObjectType, SectionKind
from backups.engine.keys import KeyRing


class Section(NamedTuple):
    """Where a section lies in its object and how to open it. Offset and lengths are bytes."""

    number: int
    kind: int
    offset: int
    stored: int
    codec: int
    raw: int


class Envelope(NamedTuple):
    """The facts of an object that its sections' keys and associated data are made from."""

    type: int
    epoch: int
    salt: bytes

    def header(self, repository_id: bytes) -> bytes:
        return fmt.HEADER.pack(fmt.MAGIC, fmt.FORMAT, self.type, self.epoch, repository_id, self.salt)


class Sealer:
    """Knows the repository and its keys; makes and opens envelopes.

    ring    what is sealed with; a newer one may take its place
    reload  reads the ring again: asked when an object is of an epoch that the ring does not know yet
    """

    def __init__(self, repository_id: bytes, ring: KeyRing, reload: Callable[[], KeyRing] | None = None) -> None:
        self.repository_id, self.ring, self._reload = repository_id, ring, reload
        self._unknown: set[int] = set()  # epochs that reading again brought nothing about
        self._latest: dict[Envelope, AESGCM] = {}

    def new(self, kind: ObjectType, buffer: bytearray | None = None) -> EnvelopeWriter:
        return EnvelopeWriter(self, Envelope(kind, self.ring.epoch, os.urandom(32)), buffer)

    def cipher(self, envelope: Envelope) -> AESGCM:
        """The cipher of an object; that of the latest one is kept: its sections are opened one after the other."""
        cipher = self._latest.get(envelope)
        if cipher is None:
            cipher = self._ring_for(envelope.epoch).object_key(envelope.epoch, envelope.type, envelope.salt)
            self._latest.clear()
            self._latest[envelope] = cipher
        return cipher

    def _ring_for(self, epoch: int) -> KeyRing:
        if epoch not in self.ring.masters and epoch not in self._unknown and self._reload is not None:
            self.ring = self._reload()
            if epoch not in self.ring.masters:
                self._unknown.add(epoch)
        return self.ring

    def open_section(self, envelope: Envelope, section: Section, stored: bytes | memoryview, name: str) -> bytes:
        """The raw bytes of one section fetched alone. Raises ObjectDamaged with the object's name."""
        packed = self.open_packed(envelope, section, stored, name)
        try:
            return decompress(section.codec, packed, section.raw)
        except ValueError as error:
            raise ObjectDamaged(name, f"section {section.number}: {error}") from None

    def open_packed(self, envelope: Envelope, section: Section, stored: bytes | memoryview, name: str) -> bytes:
        """The bytes of one section as its codec left them. Raises ObjectDamaged with the object's name."""
        aad = envelope.header(self.repository_id) + fmt.SECTION_FACTS.pack(section.kind, section.codec, section.raw)
        try:
            return self.cipher(envelope).decrypt(_nonce(section.number), stored, aad)
        except InvalidTag:
            raise ObjectDamaged(name, f"section {section.number} fails its authentication") from None


class EnvelopeWriter:
    """Builds one object: add() sections, then finish(). Sections are encrypted to where they will stay.

    buffer  where the object is built; it grows as needed. A writer of many objects gives the same ones again and
            again: fresh memory costs the kernel more than the encryption itself
    """

    def __init__(self, sealer: Sealer, envelope: Envelope, buffer: bytearray | None = None) -> None:
        self.envelope = envelope
        self.buffer = bytearray() if buffer is None else buffer
        self._header = envelope.header(sealer.repository_id)
        self._cipher = sealer.cipher(envelope)
        self.sections: list[Section] = []
        self.size = 0
        self._append(self._header)

    def add(self, kind: SectionKind, raw: bytes | memoryview, compressor: Compressor) -> Section:
        codec, packed = compressor(raw)
        return self.add_packed(kind, codec, packed, len(raw))

    def add_packed(self, kind: int, codec: int, packed: bytes | memoryview, raw: int) -> Section:
        """A section whose bytes a codec has made already, out of so many raw ones."""
        section = Section(len(self.sections), kind, self.size, len(packed) + 16, codec, raw)
        aad = self._header + fmt.SECTION_FACTS.pack(kind, codec, raw)
        self._cipher.encrypt_into(_nonce(section.number), packed, aad, self._room(section.stored))
        self.size += section.stored
        self.sections.append(section)
        return section

    def last_stored(self) -> memoryview:
        """What the last section has become. To be given up before the next one is added."""
        section = self.sections[-1]
        return memoryview(self.buffer)[section.offset : section.offset + section.stored]

    def finish(self, body: Mapping[str, Any], compressor: Compressor) -> bytes:
        """Seal the directory {final, count, sections, …body} and return the whole object."""
        return bytes(self.seal(body, compressor))

    def seal(self, body: Mapping[str, Any], compressor: Compressor) -> memoryview:
        """finish() without a copy: the object where it lies, until the buffer is used again."""
        rows = [[s.kind, s.stored, s.codec, s.raw] for s in self.sections]
        raw = msgpack.packb({"final": True, "count": len(rows), "sections": rows, **body})
        section = self.add(SectionKind.DIRECTORY, raw, compressor)
        self._append(fmt.TRAILER.pack(section.number, section.stored, section.raw, section.codec, fmt.TRAILER_MAGIC))
        return memoryview(self.buffer)[: self.size]

    def _append(self, data: bytes) -> None:
        self._room(len(data))[:] = data
        self.size += len(data)

    def _room(self, length: int) -> memoryview:
        """The next bytes of the buffer."""
        end = self.size + length
        if end > len(self.buffer):
            self.buffer.extend(bytes(max(end - len(self.buffer), min(len(self.buffer), fmt.MiB))))
        return memoryview(self.buffer)[self.size : end]


Read = Callable[[int, int], "bytes | memoryview"]  # (start, length) → those bytes of an object


class Ends:
    """An object whose header and directory have been proved; of the rest nothing is read until a section is asked for.

    size is the object's, in bytes. Raises ObjectDamaged, NewerFormat, WrongSecret (a header's word about its epoch).
    """

    def __init__(self, sealer: Sealer, name: str, size: int, read: Read, kind: Sequence[ObjectType]) -> None:
        self.name = name
        self._sealer, self._size, self._read = sealer, size, read
        if size < fmt.HEADER.size + fmt.TRAILER.size:
            raise ObjectDamaged(name, f"it has only {size} bytes")
        self.envelope = _read_header(name, bytes(read(0, fmt.HEADER.size)), sealer.repository_id, kind)
        at, self.directory = self._read_directory()
        self.sections = _locate(name, self.directory, at)

    def section(self, section: Section) -> bytes:
        return self._sealer.open_section(self.envelope, section, self._stored(section), self.name)

    def packed(self, section: Section) -> bytes:
        """A section's bytes as its codec left them."""
        return self._sealer.open_packed(self.envelope, section, self._stored(section), self.name)

    def _stored(self, section: Section) -> bytes | memoryview:
        return self._read(section.offset, section.stored)

    def _read_directory(self) -> tuple[int, dict[str, Any]]:
        """(where it begins, what it says)."""
        end = self._size - fmt.TRAILER.size
        number, stored, raw, codec, magic = fmt.TRAILER.unpack(self._read(end, fmt.TRAILER.size))
        if magic != fmt.TRAILER_MAGIC or stored > end - fmt.HEADER.size or raw > 4 * fmt.INDEX_LIMIT:
            raise ObjectDamaged(self.name, "it is cut off or its end is overwritten")
        section = Section(number, SectionKind.DIRECTORY, end - stored, stored, codec, raw)
        directory: dict[str, Any] = msgpack.unpackb(self.section(section), strict_map_key=False)
        if directory.get("final") is not True or directory.get("count") != number:
            raise ObjectDamaged(self.name, "its directory does not count its sections")
        return end - stored, directory


class Opened(Ends):
    """The same of an object whose bytes are all at hand."""

    def __init__(self, sealer: Sealer, name: str, data: bytes, kind: Sequence[ObjectType]) -> None:
        view = memoryview(data)
        super().__init__(sealer, name, len(data), lambda at, length: view[at : at + length], kind)


def owner(name: str, data: bytes) -> bytes:
    """The id of the repository that an object's header names, which needs no key; b"" when the object is not intact."""
    if not fmt.name_matches(name, data) or len(data) < fmt.HEADER.size or not data.startswith(fmt.MAGIC):
        return b""
    repository: bytes = fmt.HEADER.unpack(data[: fmt.HEADER.size])[4]
    return repository


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _read_header(name: str, data: bytes, repository_id: bytes, kinds: Sequence[ObjectType]) -> Envelope:
    magic, version, kind, epoch, repository, salt = fmt.HEADER.unpack(data[: fmt.HEADER.size])
    if magic != fmt.MAGIC:
        raise ObjectDamaged(name, "it does not begin like an object of ours")
    if version > fmt.FORMAT:
        raise NewerFormat(f"{name} has format {version}; this version reads up to {fmt.FORMAT}. Upgrade first.")
    if version < fmt.FORMAT:
        raise ObjectDamaged(name, f"it claims to have format {version}, which there never was")
    if repository != repository_id:
        raise ObjectDamaged(name, "it belongs to another repository")
    if kind not in kinds:
        raise ObjectDamaged(name, f"it is of type {kind}, which does not belong under this name")
    return Envelope(kind, epoch, salt)


def _locate(name: str, directory: Mapping[str, Any], end: int) -> list[Section]:
    """The sections, which fill the object from its header to its directory without a gap."""
    sections, offset = [], fmt.HEADER.size
    for number, (kind, stored, codec, raw) in enumerate(directory["sections"]):
        sections.append(Section(number, kind, offset, stored, codec, raw))
        offset += stored
    if offset != end or len(sections) != directory["count"]:
        raise ObjectDamaged(name, "its directory does not describe all of it")
    return sections


METADATA = Compressor(Codec.ZSTD, 3)  # directories, index sections, records, tree pages
