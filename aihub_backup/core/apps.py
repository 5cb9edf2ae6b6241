"""Django's handle on the foundation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.core.management import call_command
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class CoreConfig(AppConfig):
    """The app."""

    name = "aihub_backup.core"
    label = "core"
    verbose_name = _("Foundation")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, set the Celery app for whoever rings, keep the cache table beside the others."""
        import_module("aihub_backup.core.checks")
        import_module("aihub_backup.celery")
        post_migrate.connect(_make_cache_table, sender=self)
        post_migrate.connect(_make_roles)


def _make_cache_table(**_facts: Any) -> None:
    """The database cache's table is no model; without this a forgotten command would break the console."""
    call_command("createcachetable", verbosity=0)


def _make_roles(app_config: AppConfig, **_facts: Any) -> None:
    """After each app whose permissions the roles name: only then Django has made them."""
    roles = import_module("aihub_backup.core.roles")
    if app_config.label in roles.APPS:
        roles.seed(app_config.label)
