"""An error as the sentence, code and bit that cross the pipe."""

from __future__ import annotations

import errno
import logging
import re
from typing import Any

from aihub_backup.core.failures import Failure
from aihub_backup.core.redaction import scrub
from backups.engine import errors

log = logging.getLogger(__name__)

# The API's words where they differ from the engine's class names.
_CODES: dict[type[BaseException], str] = {
    errors.StoreUnavailable: "storage-unavailable",
    errors.StoreFull: "storage-full",
    errors.StoreReadOnly: "storage-read-only",
    errors.StoreRefused: "storage-refused",
    errors.SourceError: "source-not-ready",
    errors.WrongSecret: "wrong-secret",
}
_SCARCE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


def problem(error: BaseException) -> dict[str, Any]:
    """{"code", "message", "permanent", "errors"}: a sentence for people, without secrets."""
    if isinstance(error, Failure):
        return _told(error.code, error.message, error.permanent, dict(getattr(error, "errors", {})))
    if isinstance(error, errors.EngineError):
        return _told(_code(error), str(error), error.permanent, {})
    log.error("the work ended with an unforeseen error", exc_info=error)
    if isinstance(error, (OSError, MemoryError)):
        return _told("internal-error", _of_the_system(error), _permanent(error), {})
    words = f"An unforeseen error ended the work ({type(error).__name__}); the worker's log has the details."
    return _told("internal-error", words, False, {})


def _code(error: errors.EngineError) -> str:
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(error).__name__).lower()


def _of_the_system(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "This host has no memory left for the work."
    where = f" ({error.filename!r})" if error.filename else ""
    return f"The operating system refused the work: {error.strerror or error}{where}."


def _permanent(error: OSError | MemoryError) -> bool:
    """What is scarce now may be there later; everything else stays refused."""
    return isinstance(error, OSError) and error.errno not in _SCARCE


def _told(code: str, message: str, permanent: bool, fields: dict[str, str]) -> dict[str, Any]:
    clean = {name: scrub(sentence) for name, sentence in fields.items()}
    return {"code": code, "message": scrub(message), "permanent": permanent, "errors": clean}
