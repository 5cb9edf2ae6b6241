"""The console's own code and database in this process, for commands that work without the web server."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aihub_backup.cli import place
from aihub_backup.cli.exits import CommandFailed, Exit, of_problem

if TYPE_CHECKING:
    from aihub_backup.core.audit import Actor


@contextlib.contextmanager
def opened(home: str | None) -> Iterator[None]:
    """Load the apps; inside, what they and the database refuse becomes a CommandFailed with its sentence."""
    place.must_be_set_up(home)
    place.settings(home)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")
    import django
    from django.db import Error

    from aihub_backup.core.failures import Failure

    django.setup()
    logging.getLogger("axes").setLevel(logging.WARNING)  # it tells every deed; a command tells its own
    from aihub_backup.core.problems import KINDS

    try:
        yield
    except Failure as failure:
        known = KINDS.get(failure.code)
        raise CommandFailed(str(failure), of_problem(failure.code, known.status if known else 0)) from None
    except Error as error:
        raise _database_failure(error) from None


def actor() -> Actor:
    """Who acts, for the audit: the account of the operating system that typed the command."""
    from aihub_backup.core.audit import Actor

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in many containers
        name = str(os.getuid())
    return Actor(None, name, "cli")


def _database_failure(error: Exception) -> CommandFailed:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "no such table" in text or "does not exist" in text:
        return CommandFailed("the console has no database yet; start it once with `aihub up`.", Exit.NOT_READY)
    if "no such column" in text:
        return CommandFailed("the database is older than the program; bring it up with `aihub up`.", Exit.NOT_READY)
    return CommandFailed(f"the database refuses: {text}.", Exit.DEPENDENCY)
