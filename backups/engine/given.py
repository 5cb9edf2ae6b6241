"""Secrets on the command line: they come in the environment, never as words, and no child process inherits them."""

from __future__ import annotations

import os
from pathlib import Path

from backups.engine import errors
from backups.engine.disk import printable, reason
from backups.engine.keys import Secret
from backups.engine.stores.posix import fsync_path

PASSPHRASE, RECOVERY_CODE, KEYFILE = "PASSPHRASE", "RECOVERY_CODE", "KEYFILE"
OPENING, NEW, OTHER = "AIHUB_", "AIHUB_NEW_", "AIHUB_OTHER_"  # what the names of the variables begin with


def secret() -> Secret:
    """What opens the repository."""
    names = [f"{OPENING}{name}" for name in (PASSPHRASE, RECOVERY_CODE, KEYFILE)]
    empty = [name for name in names if os.environ.get(name) == ""]
    if (found := optional(OPENING)) is not None:
        return found
    why = f"{empty[0]} is empty. " if empty else ""
    raise errors.InvalidOption(f"{why}Set {names[0]}, {names[1]} or {names[2]} to the repository's secret.")


def optional(prefix: str) -> Secret | None:
    """The secret in the variables that begin like this, which are removed; None when there is none."""
    passphrase, code = (os.environ.pop(f"{prefix}{name}", "") for name in (PASSPHRASE, RECOVERY_CODE))
    if passphrase:
        return Secret.passphrase(passphrase)
    if code:
        return Secret.recovery_code(code)
    if keyfile := os.environ.get(f"{prefix}{KEYFILE}"):
        return Secret.keyfile(read(keyfile))
    return None


def every(prefix: str) -> list[Secret]:
    """All secrets in the variables that begin like this, which are removed."""
    texts = {name: os.environ.pop(f"{prefix}{name}", "") for name in (PASSPHRASE, RECOVERY_CODE)}
    found = [Secret.passphrase(texts[PASSPHRASE])] if texts[PASSPHRASE] else []
    found += [Secret.recovery_code(texts[RECOVERY_CODE])] if texts[RECOVERY_CODE] else []
    keyfile = os.environ.get(f"{prefix}{KEYFILE}")
    return found + ([Secret.keyfile(read(keyfile))] if keyfile else [])


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        shown = printable(os.fsencode(path))
        raise errors.InvalidOption(f"The keyfile {shown} cannot be read: {reason(error)}.") from None


def made(path: str, data: bytes) -> None:
    """A new keyfile that only its owner reads, whole or not at all. InvalidOption when there is one already, or none
    can be made."""
    folder = os.path.dirname(path) or "."
    try:
        _make(folder, path, data)
        fsync_path(folder)
    except OSError as error:
        shown = printable(os.fsencode(path))
        raise errors.InvalidOption(f"The keyfile {shown} cannot be made: {reason(error)}.") from None


def _make(folder: str, path: str, data: bytes) -> None:
    """It gets its name when it is whole: whoever was killed before that finds nothing in the way."""
    try:
        descriptor = os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:  # some file systems know no files without a name, and say so in different ways
        _fill(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), data)
        return
    _fill(descriptor, data, path)


def _fill(descriptor: int, data: bytes, name: str = "") -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
        if name:
            # Only with a directory's descriptor does Python follow the link (open(2), O_TMPFILE).
            os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor)
