"""The pictures of the documents, out of those of a journey:

AIHUB_PICTURES=/tmp/pictures ./aihub prove browser --fresh
.venv/bin/python -m tests.browser.pictures /tmp/pictures docs/pictures
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.browser.chromium import CHINESE, ENGLISH, WIDE

MOST = 150_000  # bytes of one picture
CHOSEN = {  # name in the documents → the journey, what its picture is called there, and how many rows of it are shown
    "overview": (ENGLISH, "list", 860),
    "source": (ENGLISH, "source-with-a-backup", 790),
    "kit": (ENGLISH, "kit", 760),
    "progress": (ENGLISH, "backup-running", 640),
    "versions": (ENGLISH, "versions", 430),
    "recovery": (ENGLISH, "recovery-checked", 1100),
    "overview-zh": (CHINESE, "list", 860),
    "contents-zh": (CHINESE, "found", 560),
}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}  # colour types: RGB, RGB with alpha; eight bits each


def main(journeys: Path, documents: Path) -> None:
    """Write each chosen picture, as small as it gets."""
    documents.mkdir(parents=True, exist_ok=True)
    for name, (look, seen, rows) in CHOSEN.items():
        (found,) = (journeys / look.name).glob(f"[0-9][0-9]-{seen}.png")
        small = cut(found.read_bytes(), rows)
        if len(small) > MOST:
            raise SystemExit(f"{found} takes {len(small)} bytes, more than {MOST}.")
        (documents / f"{name}.png").write_bytes(small)


def cut(picture: bytes, rows: int) -> bytes:
    """The upper rows: a row of PNG leans only on those above it."""
    pieces = list(_pieces(picture))
    width, height, depth, colours, *rest = struct.unpack(">IIBBBBB", pieces[0][1])
    assert (width, depth) == (WIDE, 8), f"{width} pixels of {depth} bits"
    kept = min(height, rows)
    raw = zlib.decompress(b"".join(data for kind, data in pieces if kind == b"IDAT"))
    body = zlib.compress(raw[: kept * (1 + width * _CHANNELS[colours])], 9)
    head = struct.pack(">IIBBBBB", width, kept, depth, colours, *rest)
    return _SIGNATURE + b"".join(_piece(*one) for one in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b"")))


def _pieces(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += 12 + length


def _piece(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
