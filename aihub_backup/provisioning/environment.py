"""The variables of the first start: BACKUP_… and DR_…, read all at once, so that every wrong one is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from aihub_backup.core.failures import Invalid
from aihub_backup.core.variables import flag, integer, secret, text
from aihub_backup.provisioning.wishes import Objectives, Place, Rhythm, Wishes, options
from backups.kinds import STORAGES
from backups.models import MOST_MINUTES
from backups.services import cron

T = TypeVar("T")

CRON, DAYS = "0 2 * * *", 30
AWS = "s3.amazonaws.com"  # named as an endpoint, AWS is meant; it has an endpoint for each region

_S3 = {
    "endpoint_url": "BACKUP_S3_ENDPOINT", "bucket": "BACKUP_S3_BUCKET", "region": "BACKUP_S3_REGION",
    "access_key": "BACKUP_S3_ACCESS_KEY", "secret_key": "BACKUP_S3_SECRET_KEY",
}  # fmt: skip
_OBJECTIVES = ("DISASTER_RECOVERY_ENABLED", "DR_AUTO_RECOVERY", "DR_RPO_MINUTES", "DR_RTO_MINUTES")


def wishes(home: Path) -> Wishes:
    """What the variables ask for. A local storage without a path is the directory `backups` of the home."""
    found = Wishes()
    found.place = _told(found, lambda: _place(home))
    found.rhythm = _told(found, lambda: _rhythm(found))
    found.objectives = _objectives(found)
    unattended = found.rhythm is not None  # nobody is there to prove a kit before the first slot
    found.waive_kit = bool(_told(found, lambda: flag("BACKUP_WAIVE_KIT", unattended)))
    return found


def _told(found: Wishes, read: Callable[[], T | None]) -> T | None:
    """What was read; a value that makes no sense becomes a refusal."""
    try:
        return read()
    except (ImproperlyConfigured, ValueError) as error:
        found.refusals.append(str(error))
        return None


def _place(home: Path) -> Place | None:
    kind = text("BACKUP_STORAGE_TYPE")
    if kind == "s3":
        return Place("s3", options(STORAGES, "s3", _bucket(), _S3))
    if kind == "local":
        path = text("BACKUP_LOCAL_PATH", str(home / "backups"))
        return Place("local", options(STORAGES, "local", {"path": path}, {"path": "BACKUP_LOCAL_PATH"}))
    if kind == "ftp":
        raise ValueError("BACKUP_STORAGE_TYPE is ftp, which comes with the FTP storage; use local or s3 until then.")
    if kind:
        raise ValueError(f"BACKUP_STORAGE_TYPE must be local or s3; it is {kind!r}.")
    _refuse_orphans()
    return None


def _bucket() -> Mapping[str, object]:
    found = {name: secret(variable) if "KEY" in variable else text(variable) for name, variable in _S3.items()}
    if not found["bucket"]:
        raise ValueError("BACKUP_S3_BUCKET is not set; name the bucket that backups go to.")
    if urlsplit(found["endpoint_url"]).hostname == AWS:
        found["endpoint_url"] = ""
    return {name: value for name, value in found.items() if value}


def _refuse_orphans() -> None:
    for variable in (*_S3.values(), "BACKUP_LOCAL_PATH"):
        if text(variable):
            kind = "local" if variable == "BACKUP_LOCAL_PATH" else "s3"
            raise ValueError(f"{variable} is set, but BACKUP_STORAGE_TYPE is not; set BACKUP_STORAGE_TYPE={kind}.")


def _rhythm(found: Wishes) -> Rhythm | None:
    asked = bool(text("BACKUP_SCHEDULE_CRON") or text("BACKUP_RETENTION_DAYS"))
    enabled = _told(found, lambda: flag("BACKUP_SCHEDULE_ENABLED", asked))
    days = _told(found, lambda: integer("BACKUP_RETENTION_DAYS", DAYS, minimum=1))
    expression = _expression(text("BACKUP_SCHEDULE_CRON", CRON))
    return Rhythm(expression, days) if enabled and days else None


def _expression(given: str) -> str:
    try:
        return cron.checked(given)
    except Invalid as refusal:
        raise ValueError(f"BACKUP_SCHEDULE_CRON: {refusal}") from None


def _objectives(found: Wishes) -> Objectives | None:
    usual = Objectives()
    enabled = _told(found, lambda: flag("DISASTER_RECOVERY_ENABLED", usual.enabled))
    automatic = _told(found, lambda: flag("DR_AUTO_RECOVERY", usual.auto_recovery))
    rpo = _told(found, lambda: integer("DR_RPO_MINUTES", usual.rpo_minutes, minimum=1, maximum=MOST_MINUTES))
    rto = _told(found, lambda: integer("DR_RTO_MINUTES", usual.rto_minutes, minimum=1, maximum=MOST_MINUTES))
    if rpo is None or rto is None or not any(map(text, _OBJECTIVES)):
        return None
    return Objectives(bool(enabled), bool(automatic), rpo, rto)
