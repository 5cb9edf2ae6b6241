"""Exit codes of the command line: scripts rely on them. New ones may come; an unknown code means failure."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    WARNINGS = 3  # finished, but with warnings or in part
    NOT_FOUND = 4
    DAMAGED = 5  # verification or integrity failed
    APPROVAL = 6  # waiting for somebody's approval
    PERMISSION = 7
    CONFLICT = 8  # in use, locked, or not in the right state
    TIMEOUT = 9  # waiting ended; the work goes on
    NOT_READY = 10  # nothing set up yet
    DEPENDENCY = 11  # database, broker, storage or console cannot be reached
    INTERRUPTED = 130


# What a problem of the API means for a script, by its HTTP status.
BY_STATUS = {
    400: Exit.USAGE,
    401: Exit.PERMISSION,
    403: Exit.PERMISSION,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    410: Exit.NOT_FOUND,
    412: Exit.CONFLICT,
    422: Exit.USAGE,
    503: Exit.DEPENDENCY,
    507: Exit.DEPENDENCY,
}

# Where the code of a problem says more than its status.
BY_CODE = {
    "not-restorable": Exit.DAMAGED,
    "tampered": Exit.DAMAGED,
    "wrong-secret": Exit.PERMISSION,
}


def of_problem(code: str, status: int) -> Exit:
    """What a problem of the API means for a script."""
    return BY_CODE.get(code) or BY_STATUS.get(status, Exit.FAILED)


class CommandFailed(Exception):
    """A command ends here: one sentence for the person, one exit code for the script."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
