"""What a person is asked for: secrets come from the keyboard, a pipe or a file, never from the command line."""

from __future__ import annotations

import getpass
import sys

from aihub_backup.cli.exits import CommandFailed, Exit

QUESTIONS = {"recovery-code": "Recovery code: ", "passphrase": "Passphrase: "}


def asked(question: str) -> str:
    """From the keyboard without showing it, or a line of stdin. CommandFailed when that is no UTF-8."""
    try:
        given = getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline().strip()
        given.encode()
    except UnicodeError:
        raise CommandFailed("what was given is no UTF-8; nothing was done.", Exit.USAGE) from None
    return given


def content(path: str) -> bytes:
    """What is in the file. CommandFailed when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}.", Exit.USAGE) from None
