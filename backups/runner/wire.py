"""Messages on a pipe: msgpack behind a 4-byte big-endian length."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

MOST_BYTES = 64 << 20  # of one message; more means that something else writes into the pipe

_LENGTH = struct.Struct(">I")

Message = dict[str, Any]


class Garbled(Exception):
    """What comes over the pipe is not what we speak."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The message as it goes over the pipe."""
    body: bytes = msgpack.packb(dict(message), use_bin_type=True)
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Turns the bytes of a pipe into messages, however they were cut."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that these bytes complete. Garbled when they cannot be messages."""
        self._held += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if len(self._held) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._held)
        if length > MOST_BYTES:
            raise Garbled(f"a message of {length} bytes is announced")
        end = _LENGTH.size + length
        if len(self._held) < end:
            return None
        body = bytes(self._held[_LENGTH.size : end])
        del self._held[:end]
        return _message(body)


def _message(body: bytes) -> Message:
    try:
        message = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise Garbled(f"a message cannot be read ({type(error).__name__})") from None
    if not isinstance(message, dict):
        raise Garbled("a message is not a map")
    return message
