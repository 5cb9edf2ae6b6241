"""The one door to the terminal: results to stdout, everything said on the way to stderr."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TextIO

from aihub_backup.core import sizes
from aihub_backup.core.letters import unseen

RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"


def coloured(text: str, code: str, stream: TextIO) -> str:
    """The text in a terminal colour where the stream is a terminal and NO_COLOR does not object."""
    wanted = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"\x1b[{code}m{text}\x1b[0m" if wanted else text


def result(text: str) -> None:
    """One line of the result, to stdout."""
    _write(sys.stdout, text + "\n")


def result_json(value: Mapping[str, object] | Sequence[object]) -> None:
    """The result as one line of JSON, to stdout; keys keep their order."""
    result(json.dumps(value, ensure_ascii=False, default=_plain))


def say(text: str) -> None:
    """A message or progress for the person, to stderr."""
    _write(sys.stderr, text + "\n")


def progress(text: str, *, done: bool = False) -> None:
    """A line on stderr that the next one replaces. For terminals."""
    _write(sys.stderr, f"\r\x1b[K{text}" + ("\n" if done else ""))


def complain(text: str) -> None:
    """An error sentence, to stderr."""
    say(coloured("aihub: ", RED, sys.stderr) + text)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [list(headings), *([visible(str(cell)) for cell in row] for row in rows)]
    widths = [max(width(row[column]) for row in cells) for column in range(len(headings))]
    return "\n".join(
        "  ".join(_aligned(cell, w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def visible(text: str) -> str:
    """Text that moves no cursor, changes no colour and turns no direction: what nobody sees is written as an escape."""
    return "".join(repr(letter)[1:-1] if unseen(letter) else letter for letter in text)


def width(text: str) -> int:
    """Terminal columns of a text: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def size(amount: float) -> str:
    """Bytes for people, as pages write them: 999 B, 1.5 kB, 3.2 GB."""
    return sizes.in_words(amount)


def rate(amount: float, seconds: float) -> str:
    """Bytes over seconds for people; a dash when no time was measured."""
    return f"{size(amount / seconds)}/s" if seconds > 0 else "-"


def _plain(value: object) -> str:
    """Moments as ISO 8601; ids and the rest as they print."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _aligned(cell: str, columns: int) -> str:
    padding = " " * (columns - width(cell))
    return padding + cell if cell[:1].isdigit() else cell + padding


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # `aihub … | head`: the reader has seen enough; nothing more is to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except UnicodeEncodeError:  # a terminal with an old encoding: say it in ASCII rather than not at all
        stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
