"""A reader of the repository format that shares no code with the engine: written from docs/format.md alone.

It proves that the page is complete, and that a repository can be read without this project.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER, TRAILER, FACTS = struct.Struct(">4sBBH16s32s"), struct.Struct(">IIIB4s"), struct.Struct(">BBI")
PACK, FRAME = struct.Struct("<32sB3xI32sQ"), struct.Struct("<IIIIIBB2x")
UNIT, BLOB = struct.Struct("<QIH32s"), struct.Struct("<I32s")
LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Place(NamedTuple):
    """Where a blob is: its pack, the pack's key facts, its frame's section facts, and its stretch of the frame."""

    pack: str
    epoch: int
    kind: int
    salt: bytes
    number: int
    offset: int
    stored: int
    raw: int
    codec: int
    start: int
    length: int


class Row(NamedTuple):
    """An entry of a tree."""

    path: bytes
    kind: int
    mode: int
    mtime_ns: int
    size: int
    link: tuple[int, int] | None
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    content: Any


def recovery_code(text: str) -> bytes:
    """The 32 bytes behind a printed code."""
    number = 0
    for letter in text.upper().translate(str.maketrans("ILO", "110", "- ")):
        number = number << 5 | LETTERS.index(letter)
    data = number.to_bytes(35, "big")
    assert hashlib.sha256(b"recovery" + data[:32]).digest()[:3] == data[32:], "a typing error"
    return data[:32]


class Reader:
    """A repository in a directory, opened with a passphrase or the bytes of a recovery code."""

    def __init__(self, root: Path, kind: str, secret: bytes) -> None:
        self._root = root
        self.config = json.loads(self._get("config"))
        self._id = bytes.fromhex(self.config["id"])
        keys = [json.loads(self._get(name)) for name in self._list("keys")]
        opened = (_open_slot(k, secret) for k in keys if k.get("kind") == kind)
        ring_keys = {_commitment(key): key for key in opened if key is not None}
        if not ring_keys:
            raise ValueError("no key slot opens with this secret")
        rings = sorted((k for k in keys if k["aihub"] == "key-ring"), key=lambda k: int(k["generation"]))
        theirs = [(ring, ring_keys.get(ring.get("commitment", next(iter(ring_keys))))) for ring in rings]
        self._ring = [_open_sealed(ring, "sealed", key) for ring, key in theirs if key is not None][-1]
        self._blobs = dict(self._index())
        self.snapshots = self._live()

    # objects

    def _get(self, name: str) -> bytes:
        data = (self._root / name).read_bytes()
        promised = name.rsplit("/", 1)[-1].rsplit("-", 1)[-1]
        if name != "config" and not hashlib.sha256(data).hexdigest().startswith(promised):
            raise ValueError(f"{name} is damaged")
        return data

    def _list(self, folder: str) -> list[str]:
        found = (p for p in (self._root / folder).rglob("*") if p.is_file() and not p.name.startswith("."))
        return sorted(str(p.relative_to(self._root)) for p in found)

    def _open(self, head: tuple[int, int, bytes], facts: tuple[int, int, int, int], stored: bytes) -> bytes:
        """One section: head = (type, epoch, salt), facts = (number, kind, codec, raw length)."""
        (kind, epoch, salt), (number, section, codec, raw) = head, facts
        key = hmac.digest(
            self._ring["masters"][epoch], b"aihub-backup/object" + bytes([kind]) + salt + b"\x01", "sha256"
        )
        aad = HEADER.pack(b"AIHB", 1, kind, epoch, self._id, salt) + FACTS.pack(section, codec, raw)
        packed = AESGCM(key).decrypt(number.to_bytes(12, "big"), stored, aad)
        data = {0: lambda: packed, 1: lambda: zstandard.ZstdDecompressor().decompress(packed),
                2: lambda: zlib.decompress(packed, wbits=31)}[codec]()  # fmt: skip
        assert len(data) == raw
        return data

    def _sections(self, name: str) -> tuple[dict[str, Any], list[bytes]]:
        """(directory, raw sections) of an envelope."""
        data = self._get(name)
        magic, version, kind, epoch, repository, salt = HEADER.unpack(data[: HEADER.size])
        assert (magic, version, repository) == (b"AIHB", 1, self._id)
        number, stored, raw, codec, end = TRAILER.unpack(data[-TRAILER.size :])
        assert end == b"BHIA"
        at = len(data) - TRAILER.size - stored
        head = (kind, epoch, salt)
        directory = msgpack.unpackb(self._open(head, (number, 2, codec, raw), data[at : at + stored]))
        assert directory["final"]
        assert directory["count"] == number == len(directory["sections"])
        sections, at = [], HEADER.size
        for number, (section, stored, codec, raw) in enumerate(directory["sections"]):
            sections.append(self._open(head, (number, section, codec, raw), data[at : at + stored]))
            at += stored
        return directory, sections

    # index and log

    def _index(self) -> Iterator[tuple[bytes, Place]]:
        for name in self._list("index"):
            _, (tables, *parts) = self._sections(name)
            packs, frames = msgpack.unpackb(tables)
            rows = list(FRAME.iter_unpack(frames))
            for part in parts:
                ids, *columns = msgpack.unpackb(part)
                columns = [struct.unpack(f"<{len(c) // 4}I", c) for c in columns]
                for n, (frame, start, length) in enumerate(zip(*columns, strict=True)):
                    pack, number, offset, stored, raw, codec, _ = rows[frame]
                    digest, kind, epoch, salt, _ = PACK.unpack_from(packs, pack * PACK.size)
                    place = Place(digest.hex(), epoch, kind, salt, number, offset, stored, raw, codec, start, length)
                    yield ids[32 * n : 32 * n + 32], place

    def _live(self) -> dict[str, Mapping[str, Any]]:
        live: dict[str, Mapping[str, Any]] = {}
        gone: set[str] = set()
        for name in self._list("log"):
            record = msgpack.unpackb(self._sections(name)[1][0], strict_map_key=False)
            body = record["body"]
            if record["kind"] == "snapshot":
                live[body["id"]] = body
            live.update({row["id"]: row for row in body.get("live", ())})
            gone.update(body.get("forget", ()), body.get("forgotten", ()))
        return {key: body for key, body in live.items() if key not in gone}

    def console_keys(self) -> Mapping[str, bytes]:
        """The newest keys of a console, by name; empty when there are none."""
        records = (msgpack.unpackb(self._sections(name)[1][0], strict_map_key=False) for name in self._list("log"))
        found = [record["body"]["files"] for record in records if record["kind"] == "console"]
        return found[-1] if found else {}

    # blobs, trees, files

    def blob(self, blob_id: bytes) -> bytes:
        """A blob's bytes, proved against its id."""
        p = self._blobs[blob_id]
        pack = self._get(f"packs/{p.pack[:2]}/{p.pack}")
        frame = self._open(
            (p.kind, p.epoch, p.salt), (p.number, 1, p.codec, p.raw), pack[p.offset : p.offset + p.stored]
        )
        data = frame[p.start : p.start + p.length]
        assert blake3(data, key=self._ring["id_key"]).digest() == blob_id
        return data

    def rows(self, snapshot: Mapping[str, Any]) -> Iterator[Row]:
        """The entries of a snapshot in order; the listing is proved at its end."""
        manifest = hashlib.sha256()
        for page in self._leaves(snapshot["root"]):
            manifest.update(page)
            yield from _rows(page)
        assert manifest.digest() == snapshot["manifest_sha256"]

    def _leaves(self, page_id: bytes) -> Iterator[bytes]:
        raw = self.blob(page_id)
        page = msgpack.unpackb(raw, strict_map_key=False, unicode_errors="surrogateescape")
        if page[0] == 0:
            yield raw
        else:
            for reference in page[1]:
                yield from self._leaves(reference[1])

    def content(self, row: Row) -> bytes:
        """The whole content of a file; every unit is proved."""
        if isinstance(row.content, bytes) and len(row.content) == 64:
            data = self.blob(row.content[:32])
            assert hashlib.sha256(data).digest() == row.content[32:]
            return data
        units = b"".join(map(self.blob, row.content)) if isinstance(row.content, list) else row.content
        whole, at = bytearray(row.size), 0
        while at < len(units):
            offset, length, count, digest = UNIT.unpack_from(units, at)
            at += UNIT.size
            data = b"".join(self.blob(i) for _, i in BLOB.iter_unpack(units[at : at + count * BLOB.size]))
            at += count * BLOB.size
            assert hashlib.sha256(data).digest() == digest
            whole[offset : offset + length] = data
        return bytes(whole)


def _rows(raw: bytes) -> Iterator[Row]:
    _, directories, _, _, rows = msgpack.unpackb(raw, strict_map_key=False, unicode_errors="surrogateescape")
    for number, name, kind, mode, _, _, mtime, _, device, inode, nlink, size, _, content, more in rows:
        path = directories[number] + b"/" + name if directories[number] else name
        xattrs = tuple((n, v) for n, v in (more or {}).get("xattrs", ()))
        link = (device, inode) if nlink > 1 and kind != 2 else None
        yield Row(path, kind, mode, mtime, size, link, (more or {}).get("target", b""), xattrs, content)


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _open_slot(slot: Mapping[str, Any], secret: bytes) -> bytes | None:
    salt, kdf = bytes.fromhex(slot["salt"]), slot["kdf"]
    if kdf["name"] == "argon2id":
        cost = Argon2id(salt=salt, length=32, iterations=kdf["t"], lanes=kdf["p"], memory_cost=kdf["m"])
        secret = cost.derive(secret)
    four = HKDF(SHA256(), 128, salt, b"aihub-backup/key-slot").derive(secret)
    if four[32:64].hex() != slot["commitment"]:
        return None
    facts = {key: value for key, value in slot.items() if key != "wrapped"}
    key = _agreed(four[64:96], bytes.fromhex(slot["ephemeral"])) if "ephemeral" in slot else four[:32]
    return AESGCM(key).decrypt(bytes.fromhex(slot["nonce"]), bytes.fromhex(slot["wrapped"]), _canonical(facts))


def _agreed(private: bytes, ephemeral: bytes) -> bytes:
    own = X25519PrivateKey.from_private_bytes(private)
    shared = own.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    salt = ephemeral + own.public_key().public_bytes_raw()
    return HKDF(SHA256(), 32, salt, b"aihub-backup/key-slot/agreement").derive(shared)


def _commitment(ring_key: bytes) -> str:
    return hmac.digest(ring_key, b"aihub-backup/key-ring", "sha256").hex()


def _open_sealed(ring: Mapping[str, Any], field: str, key: bytes) -> dict[str, Any]:
    facts = {name: value for name, value in ring.items() if name != field}
    raw = AESGCM(key).decrypt(bytes.fromhex(ring["nonce"]), bytes.fromhex(ring[field]), _canonical(facts))
    opened: dict[str, Any] = msgpack.unpackb(raw, strict_map_key=False)
    return opened
