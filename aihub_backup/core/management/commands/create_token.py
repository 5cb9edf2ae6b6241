"""`manage.py create_token ACCOUNT`: a way into the REST API for a program, printed once."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from aihub_backup.core import tokens
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import User


class Command(BaseCommand):
    """Makes a token."""

    help = "Make an API token of an account and print it, this one time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """ACCOUNT [--name NAME] [--days N] [--scope PERMISSION …]."""
        parser.add_argument("account", help="whose rights it has")
        parser.add_argument("--name", default="command line", help="what the list of tokens calls it")
        parser.add_argument("--days", type=float, default=tokens.MOST_DAYS, help="how long it is good for")
        parser.add_argument("--scope", action="append", default=[], help="allow only this permission; may be repeated")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the token alone on stdout."""
        user = User.objects.filter(username=options["account"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active account “{options['account']}”.")
        by = Actor(None, getpass.getuser(), "cli")
        try:
            made = tokens.make(user, options["name"], by=by, days=options["days"], scopes=options["scope"])
        except Failure as failure:
            raise CommandError(failure.message) from None
        self.stdout.write(made.secret)
