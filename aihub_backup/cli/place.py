"""Where this console lives: its home directory, its settings, and the lock that lets one `up` run there."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aihub_backup import home as homes
from aihub_backup.cli.exits import CommandFailed, Exit


def settings(home: str | None = None) -> Any:
    """The console's settings, without loading any app. CommandFailed with their own sentence when one is wrong."""
    _name(home)
    with _complaining():
        from aihub_backup import settings as found
    return found


def named(home: str | None = None) -> Path:
    """The home that the command line, the environment or the `.env` file names; the variables of that file are in the
    environment then. Makes nothing."""
    _name(home)
    with _complaining():
        homes.read_variables()
        return homes.path()


def not_set_up(home: str | None = None) -> Path | None:
    """The home when no console was ever started there; None otherwise. Makes nothing, unlike the settings."""
    found = named(home)
    with _complaining():
        return None if homes.is_set_up(found) else found


def must_be_set_up(home: str | None) -> None:
    """CommandFailed where no console was ever started: its settings would leave a home with keys of no use behind."""
    fresh = not_set_up(home)
    if fresh is not None and not homes.database_is_on_server():
        raise CommandFailed(
            f"no console was ever started in {fresh}; name its home with --home or AIHUB_HOME, or start one there with"
            " `aihub up`.", Exit.NOT_READY,
        )  # fmt: skip


@contextmanager
def _complaining() -> Iterator[None]:
    from django.core.exceptions import ImproperlyConfigured

    try:
        yield
    except ImproperlyConfigured as error:
        raise CommandFailed(str(error), Exit.USAGE) from None


def _name(home: str | None) -> None:
    if home is not None:
        os.environ["AIHUB_HOME"] = os.path.abspath(home)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home for one supervisor. The kernel lets go when the process ends, however it ends."""
    descriptor = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, home)
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def gone_when_refused(home: Path) -> Iterator[None]:
    """Where wrong words or variables keep a first start from beginning, take away what reading the settings has made:
    keys that have opened nothing yet. Nothing else is in a home that was not there, or empty, before."""
    before = home.is_dir()
    fresh = not before or not os.listdir(home)
    try:
        yield
    except CommandFailed as failure:
        if fresh and failure.exit_code is Exit.USAGE and home.is_dir() and _is_unused(home):
            _empty(home)
            if not before:
                home.rmdir()
        raise


def _is_unused(home: Path) -> bool:
    return not (home / homes.DATABASE).exists() and owner(home) is None


def _empty(home: Path) -> None:
    for entry in home.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def must_be_free(home: Path) -> None:
    """CommandFailed while another `up` serves the home. Makes nothing; `only_one` decides who gets it."""
    if process := owner(home):
        raise _taken(home, str(process))


def owner(home: Path) -> int | None:
    """The process that serves this home; None when none does."""
    try:
        descriptor = os.open(home / "up.lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0).decode().strip() or 0)
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int, home: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _taken(home, os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown") from None


def _taken(home: Path, process: str) -> CommandFailed:
    return CommandFailed(
        f"{home} is already served by another `aihub up` (process {process}); stop that one or use another --home.",
        Exit.CONFLICT,
    )
