"""Looking into recovery points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aihub_backup.core.failures import Invalid, Refused
from backups.models import BackupPart
from backups.services import guards, opening, placing
from backups.services.running import perform

PATIENCE = 120.0  # seconds somebody waits for a page
MOST = 10_000  # rows at once


def listing(
    part: BackupPart, *, below: bytes = b"", depth: int = 1, after: bytes = b"", limit: int = 500, match: str = ""
) -> list[dict[str, Any]]:
    """Entries of the snapshot below a path (its own entry not included), in tree order, after the path `after`.

    Each: {"path": bytes, "kind": "file|directory|symlink|fifo|character|block", "mode", "uid", "gid", "user",
    "group", "mtime_ns", "size", "target": bytes, "notes"}. `depth` 1 = children only, 0 = everything; `match` is a
    pattern as of an exclude. Denied of the console's own database; Refused when the part holds no recovery point;
    Unavailable when the place is not reachable.
    """
    job = {
        "job": "entries", "snapshot": part.snapshot_id, "below": below.strip(b"/"), "depth": depth, "after": after,
        "match": match,
    }  # fmt: skip
    return _rows(part, job, limit)


def diff(part: BackupPart, against: BackupPart, *, limit: int = 1000) -> list[dict[str, Any]]:
    """What changed from `against` to `part`: {"kind", "path", "before", "after"}, the last two as in `listing` or None.

    The kinds are added, removed, changed (the content) and attributes (owner, mode, times).
    """
    guards.must_not_be_read([against.source])
    _must_be_stored(against)
    if part.repository_id != against.repository_id:
        raise Refused("These two lie in different repositories and cannot be compared.", code="state-conflict")
    return _rows(part, {"job": "diff", "before": against.snapshot_id, "after": part.snapshot_id}, limit)


def pattern(word: str) -> str:
    """What somebody types into a search, as a pattern: a word without wildcards means anywhere in the name."""
    return word if not word or any(sign in word for sign in "*?[/") else f"*{word}*"


def _rows(part: BackupPart, job: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    guards.must_not_be_read([part.source])
    _must_be_stored(part)
    placing.must_be_here(part.repository.node, f"the repository “{part.repository}”")
    if not 1 <= limit <= MOST:
        raise Invalid(f"The limit is 1 to {MOST}.", errors={"limit": f"This must be 1 to {MOST}."})
    rows: list[dict[str, Any]] = []
    asked = {**job, "limit": limit, "repository": opening.repository(part.repository)}
    perform(asked, events=lambda event: rows.extend(event.get("rows", ())), patience=PATIENCE)
    return rows


def _must_be_stored(part: BackupPart) -> None:
    if not part.stored:
        raise Refused(f"“{part}” holds no recovery point: it is {part.get_state_display()}.", code="not-restorable")
