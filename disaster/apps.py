"""Django's handle on how we notice and react."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DisasterConfig(AppConfig):
    """The app."""

    name = "disaster"
    label = "disaster"
    verbose_name = _("Disaster recovery")
