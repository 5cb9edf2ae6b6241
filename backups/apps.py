"""Django's handle on what we keep."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.plugins import resolve

HANDLERS = {
    "backup-part": "backups.services.parts.PartHandler",
    "verification": "backups.services.verifications.VerificationHandler",
    "own-protection": "backups.services.console.ProtectHandler",
    "backup-forget": "backups.services.deletion.ForgetHandler",
    "backup-hold": "backups.services.holds.HoldHandler",
    "repository-adopt": "backups.services.adopting.AdoptHandler",
    "repository-repair": "backups.services.repairs.RepairHandler",
    "compaction": "backups.services.compacting.CompactHandler",
}


class BackupsConfig(AppConfig):
    """The app."""

    name = "backups"
    label = "backups"
    verbose_name = _("Backups")

    def ready(self) -> None:
        """Tell the job machine who does our kinds of work."""
        register = resolve("aihub_backup.core.jobs.register")  # its models are ready only now
        for kind, path in HANDLERS.items():
            register(kind, path)
