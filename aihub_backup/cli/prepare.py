"""Bring a console's database to the present version, make the first account and what the variables of the first start
ask for. Run in a process of its own by `up`.

One line of JSON on stdout: {"account": {"name": …, "password": …} | null, "made": [sentence, …], "warnings": […],
"refused": […], "kit_file": path | ""}; the password is nowhere else. Variables that make no sense: {"wrong":
[sentence, …]} before anything was touched.
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from aihub_backup.cli import console


def main(words: list[str]) -> int:
    """Exit code 0; anything that fails is a traceback on stderr, whose last line `up` shows."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")
    django.setup()
    sys.stdout.write(json.dumps(_prepared(words)) + "\n")
    return 0


def _prepared(words: list[str]) -> dict[str, object]:
    from aihub_backup.cli import accounts
    from aihub_backup.provisioning import environment, first_start

    wishes = environment.wishes(settings.AIHUB_HOME)
    if wishes.refusals:
        return {"wrong": wishes.refusals}
    os.umask(0o077)  # a database that is made now, in a directory that others may read, is ours alone
    call_command("migrate", interactive=False, verbosity=0)
    account = None if "--no-account" in words else accounts.first_account(console.actor())
    outcome = first_start.provision(wishes, home=settings.AIHUB_HOME)
    connection.close()
    return {"account": account, **vars(outcome)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
