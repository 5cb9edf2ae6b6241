"""Bring a console's database to the present version and make the first account. Run in a process of its own by `up`.

One line of JSON on stdout: {"account": {"name": …, "password": …} | null}. The password is nowhere else.
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.core.management import call_command
from django.db import connection

from aihub_backup.cli import console


def main(words: list[str]) -> int:
    """Exit code 0; anything that fails is a traceback on stderr, whose last line `up` shows."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    from aihub_backup.cli import accounts

    account = None if "--no-account" in words else accounts.first_account(console.actor())
    connection.close()
    sys.stdout.write(json.dumps({"account": account}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
