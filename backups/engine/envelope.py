"""The sealed envelope that packs, index objects and log records share.

    header | section 0 | section 1 | … | directory (the last section) | trailer

Every object has a key of its own, derived from its epoch's master key, its type and a random salt; a section's
nonce is its number, so no nonce is ever used twice under one key. The associated data of a section is the header
with the section's kind, codec and raw length: nothing can be moved to another object, place or kind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Sealer:
    """Knows the repository and its keys; makes and opens envelopes."""

    repository_id: bytes
    ring: KeyRing

    def new(self, kind: ObjectType) -> EnvelopeWriter:
        return EnvelopeWriter(self, Envelope(kind, self.ring.epoch, os.urandom(32)))

    def cipher(self, envelope: Envelope) -> AESGCM:
        return self.ring.object_key(envelope.epoch, envelope.type, envelope.salt)

    def open_section(self, envelope: Envelope, section: Section, stored: bytes, name: str) -> bytes:
        """The raw bytes of one section fetched alone. Raises ObjectDamaged with the object's name."""
        aad = envelope.header(self.repository_id) + fmt.SECTION_FACTS.pack(section.kind, section.codec, section.raw)
        try:
            packed = self.cipher(envelope).decrypt(_nonce(section.number), stored, aad)
            return decompress(section.codec, packed, section.raw)
        except InvalidTag:
            raise ObjectDamaged(name, f"section {section.number} fails its authentication") from None
        except ValueError as error:
            raise ObjectDamaged(name, f"section {section.number}: {error}") from None


class EnvelopeWriter:
    """Builds one object: add() sections, then finish(). The bytes are kept in pieces until they are joined."""

    def __init__(self, sealer: Sealer, envelope: Envelope) -> None:
        self.envelope = envelope
        self._header = envelope.header(sealer.repository_id)
        self._cipher = sealer.cipher(envelope)
        self._pieces: list[bytes] = [self._header]
        self.sections: list[Section] = []
        self.size = len(self._header)

    def add(self, kind: SectionKind, raw: bytes, compressor: Compressor) -> Section:
        codec, packed = compressor(raw)
        section = Section(len(self.sections), kind, self.size, len(packed) + 16, codec, len(raw))
        aad = self._header + fmt.SECTION_FACTS.pack(kind, codec, len(raw))
        self._pieces.append(self._cipher.encrypt(_nonce(section.number), packed, aad))
        self.size += section.stored
        self.sections.append(section)
        return section

    def last_stored(self) -> bytes:
        return self._pieces[-1]

    def finish(self, body: Mapping[str, Any], compressor: Compressor) -> bytes:
        """Seal the directory {final, count, sections, …body} and return the whole object."""
        rows = [[s.kind, s.stored, s.codec, s.raw] for s in self.sections]
        raw = msgpack.packb({"final": True, "count": len(rows), "sections": rows, **body})
        section = self.add(SectionKind.DIRECTORY, raw, compressor)
        trailer = fmt.TRAILER.pack(section.number, section.stored, section.raw, section.codec, fmt.TRAILER_MAGIC)
        pieces, self._pieces = [*self._pieces, trailer], []  # not kept twice while the object is stored
        return b"".join(pieces)


class Opened:
    """A whole object whose header and directory have been proved; sections are opened on demand."""

    def __init__(self, sealer: Sealer, name: str, data: bytes, kind: Sequence[ObjectType]) -> None:
        self.name = name
        self._sealer, self._data = sealer, memoryview(data)
        self.envelope = _read_header(name, data, sealer.repository_id, kind)
        at, self.directory = self._read_directory()
        self.sections = _locate(name, self.directory, at)

    def section(self, section: Section) -> bytes:
        stored = bytes(self._data[section.offset : section.offset + section.stored])
        return self._sealer.open_section(self.envelope, section, stored, self.name)

    def _read_directory(self) -> tuple[int, dict[str, Any]]:
        """(where it begins, what it says)."""
        end = len(self._data) - fmt.TRAILER.size
        number, stored, raw, codec, magic = fmt.TRAILER.unpack(self._data[end:])
        if magic != fmt.TRAILER_MAGIC or stored > end - fmt.HEADER.size or raw > 4 * fmt.INDEX_LIMIT:
            raise ObjectDamaged(self.name, "it is cut off or its end is overwritten")
        section = Section(number, SectionKind.DIRECTORY, end - stored, stored, codec, raw)
        directory: dict[str, Any] = msgpack.unpackb(self.section(section), strict_map_key=False)
        if directory.get("final") is not True or directory.get("count") != number:
            raise ObjectDamaged(self.name, "its directory does not count its sections")
        return end - stored, directory


def owner(name: str, data: bytes) -> bytes:
    """The id of the repository that an object's header names, which needs no key; b"" when the object is not intact."""
    if not fmt.name_matches(name, data) or len(data) < fmt.HEADER.size or not data.startswith(fmt.MAGIC):
        return b""
    repository: bytes = fmt.HEADER.unpack(data[: fmt.HEADER.size])[4]
    return repository


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _read_header(name: str, data: bytes, repository_id: bytes, kinds: Sequence[ObjectType]) -> Envelope:
    if len(data) < fmt.HEADER.size + fmt.TRAILER.size:
        raise ObjectDamaged(name, f"it has only {len(data)} bytes")
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
