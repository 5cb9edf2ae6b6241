"""A recovery kit on its way to a file: nothing else tells the code a second time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from aihub_backup.core.failures import Refused


@contextmanager
def new_file(path: str | None) -> Iterator[IO[str] | None]:
    """A new file only the caller can read, opened before there is anything to lose; removed when that goes wrong.

    Refused when it exists or cannot be made. Without a path: None.
    """
    if not path:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _refused(f"{path} exists already; the kit is not written over anything.") from None
    except OSError as error:
        raise _refused(f"{path} cannot be made for the kit: {error.strerror}.") from None
    with os.fdopen(descriptor, "w") as file:
        try:
            yield file
        except BaseException:
            os.unlink(path)
            raise


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


def _refused(sentence: str) -> Refused:
    return Refused(sentence, code="validation-error")
