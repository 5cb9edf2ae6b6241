"""`manage.py rotate_app_keys`: seal every stored secret with the first key of AIHUB_APP_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from aihub_backup.core import secrets, signin
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import AnsweredRequest


class Command(BaseCommand):
    """Put the new key first and keep the old one behind it, run this, then remove the old one."""

    help = "Seal every stored secret anew with the current application key."

    def handle(self, *args: Any, **options: Any) -> None:
        """Tell how many values were sealed anew; the first one that does not open ends the run (nothing is lost)."""
        # Answers kept for repeated requests are sealed too, and worth nothing after two days: they go.
        AnsweredRequest.objects.all().delete()
        total = self._second_factors()
        for model, field in secrets.sealed_fields():
            try:
                total += secrets.rotate(model, field)
            except Failure as failure:
                raise CommandError(failure.message) from failure
        self.stdout.write(f"{total} sealed anew with the current key.")

    @staticmethod
    def _second_factors() -> int:
        try:
            return signin.reseal()
        except Failure as failure:
            raise CommandError(failure.message) from failure
