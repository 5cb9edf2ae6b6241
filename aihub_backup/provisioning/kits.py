"""A recovery kit on its way to a file: nothing else tells the code a second time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aihub_backup.core.failures import Refused

NAME = "main"  # of the first repository; those after it have a number behind it
CHOSEN, FIXED = "Move it away, or use --kit FILE.", "Move it away."  # the cure, where somebody names the file or nobody


@contextmanager
def new_file(path: str | None, cure: str = CHOSEN) -> Iterator[IO[str] | None]:
    """A new file only the caller can read, opened before there is anything to lose; removed when that goes wrong.

    Refused when it exists or cannot be made. Without a path: None.
    """
    if not path:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _taken(path, cure) from None
    except OSError as error:
        raise _refused(f"{path} cannot be made for the kit: {error.strerror}.") from None
    with os.fdopen(descriptor, "w") as file:
        try:
            yield file
        except BaseException:
            os.unlink(path)
            raise


def default(path: Path, repository: str) -> Path:
    """The file of that name; where it is taken, one that carries the name of the repository to be made."""
    if not os.path.lexists(path):
        return path
    return path.with_name(f"{path.stem}-{repository.replace(' ', '-')}{path.suffix}")


def must_be_new(path: str) -> None:
    """Refused, before anything is made, where `new_file` would refuse for sure."""
    if os.path.lexists(path):
        raise _taken(path, CHOSEN)
    if not os.access(os.path.dirname(path) or ".", os.W_OK | os.X_OK):
        raise _refused(
            f"{path} cannot be made for the kit: its directory is not there, or is not ours. Use --kit FILE."
        )


def written(file: IO[str] | None, text: str) -> str:
    """Empty when the text is in the file and on the disk; else why not."""
    if file is None:
        return "no file was named"
    try:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _taken(path: str, cure: str) -> Refused:
    return _refused(f"{path} exists already; the kit is not written over anything. {cure}")


def _refused(sentence: str) -> Refused:
    return Refused(sentence, code="validation-error")
