"""Django's handle on how we notice and react."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DisasterConfig(AppConfig):
    """The app."""

    name = "disaster"
    label = "disaster"
    verbose_name = _("Disaster recovery")

    def ready(self) -> None:
        """Say what environments promise."""
        from backups.services import objectives as promises
        from disaster.services import objectives

        promises.register(objectives.rpo)
