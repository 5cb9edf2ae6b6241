"""Rows as answers: plain functions from a row to what `shapes` declares."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import models

from aihub_backup.core.api import schema
from aihub_backup.core.models import AuditEvent, Job
from aihub_backup.core.problems import embedded
from backups.api.nouns import API
from backups.engine.disk import printable
from backups.engine.entry import Notes
from backups.models import Backup, BackupPart, Source, Verification, VerificationState
from backups.models.backup import BAD, STORED
from backups.models.problem import CarriesError
from backups.models.verification import VERIFICATION_ACTIVE
from backups.services import backups, verifications

Facts = dict[str, Any]


def backup(row: Backup, *, whole: bool = True, names: bool = False) -> Facts:
    """A backup; in lists (not `whole`) without the parts' oddities. `names`: may the reader see names inside it?"""
    parts = backups.parts_of(row)
    # The parts are read after the backup's row: if the last one ended in between, the row alone decides.
    yes, reasons = (False, ["running"]) if row.active else backups.restorable(parts)
    told = [part(one, names=whole and names) for one in parts]
    stored = [one for one in parts if one.state in STORED]
    return {
        "id": row.pk, "type": row.type, "status": row.state, "label": row.label, "tags": row.tags,
        "environment": row.environment.name if row.environment else None,
        "policy": row.policy.name if row.policy else None, "trigger": row.trigger, "requested_by": requester(row),
        "progress": _progress_of(row, parts, bool(parts) and len(stored) == len(parts)),
        "restorable": yes and bool(parts), "restorable_reasons": reasons if parts else ["missed"],
        "verification": _least([one["verification"] for one in told]),
        **{name: total(told, name) for name in ("items", "size_bytes", "stored_bytes")},
        **{name: sum(one[name] for one in told) for name in ("warnings_count", "errors_count")},
        "data_as_of": min((one.data_as_of for one in stored if one.data_as_of), default=None),
        "hold_until": row.hold_until, "error": _worst(row, parts), "left_out": row.left_out,
        **times(row), "deleted_at": row.deleted_at, "parts": told, "links": _links(row),
    }  # fmt: skip


def part(row: BackupPart, *, names: bool = False) -> Facts:
    """One source inside a backup; its oddities only with `names`, because they tell paths."""
    plain = ("items", "size_bytes", "stored_bytes", "warnings_count", "errors_count", "data_as_of")
    return {
        "id": row.pk, "status": row.state, "source": source(row.source), "repository": reference(row.repository),
        "mode": row.mode, "progress": job_progress(row.job, ended_well=row.state in STORED),
        **{name: getattr(row, name) for name in plain}, "oddities": row.item_errors if names else [],
        "verification": _checked(row), "error": error(row),
        "started_at": row.started_at, "finished_at": row.finished_at,
    }  # fmt: skip


def verification(row: Verification, *, names: bool = False) -> Facts:
    """An integrity check; which files the damage harms only with `names`."""
    counts = ("problems_count", "objects_checked", "bytes_checked")
    return {
        "id": row.pk, "backup": row.part.backup_id, "part": row.part_id, "source": source(row.part.source),
        "storage": reference(row.storage), "level": row.level, "status": row.state,
        "progress": job_progress(row.job, ended_well=row.state == VerificationState.PASSED),
        **{name: getattr(row, name) for name in counts}, "problems": [_damage(one, names) for one in row.problems],
        "trigger": row.trigger, "requested_by": requester(row), "error": error(row), **times(row),
        "links": {"self": f"{API}/verifications/{row.pk}", "backup": f"{API}/status/{row.part.backup_id}"},
    }  # fmt: skip


def entry(row: Mapping[str, Any]) -> Facts:
    """Something inside a recovery point."""
    notes = Notes(row["notes"])
    return {
        "path": "/" + printable(row["path"]), "kind": row["kind"], "mode": f"{row['mode']:04o}",
        **{name: row[name] for name in ("uid", "gid", "user", "group")},
        "mtime": moment(row["mtime_ns"]), "size_bytes": row["size"],
        "target": printable(row["target"]) if row["kind"] == "symlink" else None,
        "unsure": bool(notes & Notes.UNSURE), "changed_while_read": bool(notes & Notes.CHANGED),
    }  # fmt: skip


def change(row: Mapping[str, Any]) -> Facts:
    """A difference."""
    before, after = (entry(row[name]) if row[name] else None for name in ("before", "after"))
    return {"kind": row["kind"], "path": "/" + printable(row["path"]), "before": before, "after": after}


def found(row: Mapping[str, Any]) -> Facts:
    """A path with its versions."""
    versions = [
        {**entry(one), "content": one["content"], "backups": [part.backup_id for part in one["parts"]]}
        for one in row["versions"]
    ]
    return {"path": "/" + printable(row["path"]), "versions": versions}


def event(row: AuditEvent) -> Facts:
    """A line of a log."""
    return {
        "at": row.at, "action": row.action, "by": {"type": row.actor_kind, "name": row.actor_name},
        "target": row.target_name, "facts": row.facts, "request_id": row.request_id,
    }  # fmt: skip


# --- pieces ---------------------------------------------------------------------------------------------------------


def reference(row: models.Model) -> Facts:
    """Another object in two words."""
    return {"id": row.pk, "name": str(row)}


def source(row: Source) -> Facts:
    """A source in four."""
    return {"id": row.pk, "name": row.name, "kind": row.kind, "environment": row.environment.name}


def requester(row: Any) -> Facts:
    """Who asked for it."""
    return {"type": row.requested_by_kind, "name": row.requested_by_name}


def times(row: Any) -> Facts:
    """When it was asked for, began and ended."""
    return {"created_at": row.created_at, "started_at": row.started_at, "finished_at": row.finished_at}


def error(row: CarriesError) -> Facts | None:
    """Why it failed."""
    if not row.error_code:
        return None
    return embedded(row.error_code, row.error_message, row.error_permanent)


def job_progress(job: Job | None, *, ended_well: bool) -> Facts:
    """How far the job is."""
    return schema.progress(
        job.progress if job else {}, ended_well=ended_well, heartbeat_at=job.heartbeat_at if job else None
    )


def job_error(job: Job | None) -> Facts | None:
    """Why work failed; None: it did not, or there was none."""
    if job is None or not job.error_code:
        return None
    return embedded(job.error_code, job.error_message, job.error_permanent)


def total(told: Sequence[Facts], name: str) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [one[name] for one in told if one[name] is not None]
    return sum(known) if known else None


def moment(nanoseconds: int) -> datetime | None:
    """A file's time; None where it lies outside of the calendar."""
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _damage(problem: Mapping[str, Any], names: bool) -> Facts:
    return dict(problem) if names else {**problem, "paths": []}


def _progress_of(row: Backup, parts: Sequence[BackupPart], ended_well: bool) -> Facts:
    return schema.progress(backups.progress(row, parts), ended_well=ended_well)


def _worst(row: Backup, parts: Sequence[BackupPart]) -> Facts | None:
    """The first part's reason, or that of a source that was left out; the parts tell their own."""
    if row.state not in BAD:
        return None
    of_parts = (error(one) for one in parts if one.error_code)
    others = (embedded("source-not-ready", why, False) for why in row.left_out.values())
    return next(itertools.chain(of_parts, others), None)


def _checked(row: BackupPart) -> Facts:
    checks = verifications.checks_of(row)  # once: each such look costs more than what it finds
    if any(check.state in VERIFICATION_ACTIVE for check in checks):
        return {"state": "running", "level": None, "at": None}
    latest = verifications.newest_conclusive(checks)
    if latest is None:
        return {"state": "none", "level": None, "at": None}
    return {"state": latest.state, "level": latest.level, "at": latest.finished_at}


def _least(told: Sequence[Facts]) -> Facts:
    """Of several parts: damage anywhere is damage; proven only when all are."""
    for state in ("failed", "running", "none"):
        found = next((one for one in told if one["state"] == state), None)
        if found is not None:
            return found
    return min(told, key=lambda one: (one["level"], one["at"]), default={"state": "none", "level": None, "at": None})


def _links(row: Backup) -> Facts:
    key = str(row.pk)
    here = f"{API}/{key}"
    return {
        "self": f"{API}/status/{key}", "log": f"{here}/log", "contents": f"{here}/contents",
        "cancel": f"{here}/cancel", "verify": f"{API}/verify/{key}", "admin": f"/admin/backups/backup/{key}/change/",
    }  # fmt: skip
