"""What a recovery point says about itself in the repository's log, without secrets: all that a console that has lost
its rows, or never had them, needs to write them again (`adopted` reads it)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backups.models import Backup, BackupPart, Policy, Repository, Source
from backups.services.policies import CHANGEABLE


def of_part(part: BackupPart, mode: str) -> dict[str, Any]:
    """The facts of the part's snapshot; what the run itself counts is added by the runner."""
    return {
        "source": _source(part.source), "backup": _backup(part.backup), "repository": _repository(part.repository),
        "part": {"created_at": _moment(part.created_at), "started_at": _moment(part.started_at)}, "mode": mode,
    }  # fmt: skip


def _source(source: Source) -> dict[str, Any]:
    return {
        "id": str(source.pk), "name": source.name, "kind": source.kind, "options": source.options,
        "environment": source.environment.name, "tags": source.tags,
        "node": source.node.name if source.node else None, "promise": _promise(source.policy),
        "holds_console": source.holds_console,
        "secrets": sorted(name for name, value in source.secrets.items() if value),
    }  # fmt: skip


def _backup(backup: Backup) -> dict[str, Any]:
    return {
        "id": str(backup.pk), "type": backup.type, "label": backup.label, "tags": backup.tags,
        "trigger": backup.trigger, "requested_by": backup.requested_by_name,
        "requested_by_kind": backup.requested_by_kind, "created_at": _moment(backup.created_at),
        "hold_until": _moment(backup.hold_until), "hold_reason": backup.hold_reason,
        "policy": backup.policy.name if backup.policy else None, "promise": _promise(backup.policy),
        "environment": backup.environment.name if backup.environment else None, "verify_level": backup.verify_level,
        "parts": [
            {"id": str(key), "source": str(source), "repository": str(repository)}
            for key, source, repository in backup.parts.order_by("pk").values_list("pk", "source", "repository")
        ],
    }  # fmt: skip


def _repository(repository: Repository) -> dict[str, Any]:
    return {
        "id": str(repository.pk), "name": repository.name, "codec": repository.codec, "level": repository.level,
        "created_at": _moment(repository.created_at),
    }  # fmt: skip


def _promise(policy: Policy | None) -> dict[str, Any] | None:
    """A policy with the rules that are not the usual ones."""
    if policy is None:
        return None
    usual = Policy()
    rules = {name: getattr(policy, name) for name in CHANGEABLE if getattr(policy, name) != getattr(usual, name)}
    return {"id": str(policy.pk), "name": policy.name, **rules}


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
