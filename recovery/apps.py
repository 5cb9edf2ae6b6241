"""Django's handle on how it comes back."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RecoveryConfig(AppConfig):
    """The app."""

    name = "recovery"
    label = "recovery"
    verbose_name = _("Recovery")

    def ready(self) -> None:
        """Say who does the recovery jobs, and which recovery points are needed."""
        from aihub_backup.core import jobs
        from backups.services import users
        from recovery.services import using

        jobs.register("recovery", "recovery.services.running.RecoveryHandler")
        users.register("recovery", using.sentence)
