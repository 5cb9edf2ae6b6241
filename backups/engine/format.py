"""The repository format on one page: names, magic bytes, versions and limits. docs/format.md tells the rest."""

from __future__ import annotations

import hashlib
import re
import struct
from enum import IntEnum

FORMAT = 1
MAGIC = b"AIHB"
TRAILER_MAGIC = b"BHIA"

HEADER = struct.Struct(">4sBBH16s32s")  # magic, format, object type, key epoch, repository id, salt
TRAILER = struct.Struct(">IIIB4s")  # directory's section number, stored length, raw length, codec, magic
SECTION_FACTS = struct.Struct(">BBI")  # kind, codec, raw length: the authenticated part beside the header

MiB = 1 << 20
SMALL_FILE = 128 << 10  # up to here a whole file is one blob, bytes
CHUNK_MIN, CHUNK_AVERAGE, CHUNK_MAX = 64 << 10, 256 << 10, 1 << 20
PAGE_BLOCK = 64 << 10  # fixed blocks of page files, bytes
FRAME_SIZE = 1 * MiB  # raw bytes after which a frame is closed
FRAME_LIMIT = 16 * MiB  # no frame decompresses to more than this
PACK_SIZE = 16 * MiB  # stored bytes after which a pack is closed
TREE_PACK_SIZE = 4 * MiB  # the same of tree pages, whose packs are filled in the scanning process
PACK_BLOBS = 1 << 16  # so is one of so many blobs, however small: what tells of them has to fit in memory
UNIT_SIZE = 32 * MiB  # a large file is carried in units of this many bytes
PAGE_ENTRIES, PAGE_ENTRIES_MAX = 256, 4096  # average and greatest number of entries of a tree page
CONTENT_PAGE = 256 << 10  # packed bytes after which content moves to a page of its own
INDEX_SECTION = 16384  # blobs in one section of an index object
PACKS_PER_INDEX = 8  # a partial index is written after so many packs: what a killed run sends again at most
INDEX_LIMIT = 64 * MiB
RECORDS_PER_CHECKPOINT = 256
QUARANTINE = "quarantine/"  # what was found under an object's name and was not what the name promises

_NAME = re.compile(r"config|(?:keys|index)/[0-9a-f]{64}|packs/([0-9a-f]{2})/\1[0-9a-f]{62}")
_RECORD_NAME = re.compile(r"log/([0-9]{9})/\1[0-9]{3}-[0-9a-f]{32}")  # a record lies among its thousand


class ObjectType(IntEnum):
    DATA_PACK = 1
    TREE_PACK = 2
    INDEX = 3
    RECORD = 4
    LOCAL = 255  # never in a repository: what a host keeps in its cache


class SectionKind(IntEnum):
    FRAME = 1
    DIRECTORY = 2
    INDEX_PACKS = 3
    INDEX_BLOBS = 4
    RECORD = 5


def sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def pack_name(digest: bytes) -> str:
    text = digest.hex()
    return f"packs/{text[:2]}/{text}"


def pack_digest(name: str) -> bytes | None:
    """The SHA-256 of the pack that bears this name; None where no pack does: in another directory it is not found."""
    return digest_of(name) if name.startswith("packs/") and _NAME.fullmatch(name) else None


def index_name(digest: bytes) -> str:
    return f"index/{digest.hex()}"


def key_name(digest: bytes) -> str:
    return f"keys/{digest.hex()}"


def record_name(seq: int, digest: bytes) -> str:
    return f"log/{seq // 1000:09d}/{seq:012d}-{digest.hex()[:32]}"


def aside_name(name: str, digest: str, now: float) -> str:
    """Where the wrong bytes of an object are kept: below its own name, under their SHA-256 (hex); where that is not
    known ("": they cannot be read), under the time (Unix seconds)."""
    return f"{QUARANTINE}{name}/{digest or f'unread-{now:.0f}'}"


def is_record_name(name: str) -> bool:
    """Whether a record may bear this name: nothing else belongs under log/."""
    return _RECORD_NAME.fullmatch(name) is not None


def is_object_name(name: str) -> bool:
    """Whether anything of a repository may bear this name."""
    return _NAME.fullmatch(name) is not None or is_record_name(name)


def digest_of(name: str) -> bytes:
    """The SHA-256 that the name of a pack, an index object or a key object carries."""
    return bytes.fromhex(name.rpartition("/")[2])


def record_seq(name: str) -> int:
    """The sequence number that a record's name carries."""
    return int(name.rsplit("/", 1)[1].split("-", maxsplit=1)[0])


def name_matches(name: str, data: bytes) -> bool:
    """Whether these bytes are the ones that the object's name was made from."""
    last = name.rsplit("/", 1)[1].rsplit("-", 1)[-1]
    return len(last) in (32, 64) and hashlib.sha256(data).hexdigest().startswith(last)
