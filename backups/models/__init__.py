"""The rows of what we keep."""

from backups.models.backup import Backup, BackupPart, BackupState, BackupType, Mode, PartState, Trigger
from backups.models.console import OwnProtection
from backups.models.policy import MOST_MINUTES, Policy, VerifyLevel
from backups.models.repair import Repair
from backups.models.repository import Repository, RepositoryState
from backups.models.schedule import Misfire, Schedule, ScheduleSlot, SlotState
from backups.models.site import Site
from backups.models.source import Source
from backups.models.storage import Storage
from backups.models.verification import Verification, VerificationState

__all__ = [
    "MOST_MINUTES",
    "Backup", "BackupPart", "BackupState", "BackupType", "Misfire", "Mode", "OwnProtection", "PartState", "Policy",
    "Repair", "Repository", "RepositoryState", "Schedule", "ScheduleSlot", "Site", "SlotState", "Source", "Storage",
    "Trigger", "Verification", "VerificationState", "VerifyLevel",
]  # fmt: skip
