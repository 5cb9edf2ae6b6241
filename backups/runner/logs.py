"""The runner's log: JSON lines on stderr, without secrets, not too many."""

from __future__ import annotations

import json
import logging
import sys
import traceback

from aihub_backup.core.redaction import scrub

MOST_LINES = 2000  # a fault that repeats for every file must not fill the caller's disk


class Lines(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """{"level", "logger", "message"} and, for errors, "trace"."""
        line = {"level": record.levelname.lower(), "logger": record.name, "message": scrub(record.getMessage())}
        if record.exc_info:
            line["trace"] = scrub("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(line, ensure_ascii=False)


class Few(logging.Filter):
    """Lets the first ones pass."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MOST_LINES

    def filter(self, _record: logging.LogRecord) -> bool:
        """Is there room for one more?"""
        self._left -= 1
        return self._left >= 0


def configure() -> None:
    """Send every logger of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    handler.addFilter(Few())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
