"""Looking into recovery points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext as _

from aihub_backup.core.failures import Invalid, Refused
from backups.engine.disk import from_printable
from backups.models import BackupPart, Repository
from backups.services import guards, opening, placing
from backups.services.running import perform

PATIENCE = 120.0  # seconds somebody waits for a page
MOST = 10_000  # rows at once
_WILD = ("*", "?", "[")


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

    The kinds are added, removed, changed (the content), attributes (owner, mode, times), and moved: then `path` is the
    new one, and `before` has the old one.
    """
    guards.must_not_be_read([against.source])
    _must_be_stored(against)
    if part.repository_id != against.repository_id:
        raise Refused(_("These two lie in different repositories and cannot be compared."), code="state-conflict")
    return _rows(part, {"job": "diff", "before": against.snapshot_id, "after": part.snapshot_id}, limit)


def find(parts: Iterable[BackupPart], wanted: bytes | str, *, limit: int = 500) -> list[dict[str, Any]]:
    """A path (bytes) or a pattern (text, as for `engine.find`) in recovery points of one repository:
    {"path": bytes, "versions": [an entry as in `listing`, with "content": its id and "parts": those that hold this
    version, the newest first]}. A plain word means anywhere in a name.

    The console's own database is left out, as are parts that hold no recovery point. Denied when it is all that there
    is. Refused: state-conflict (several repositories), and of a pattern that cannot be understood. Unavailable.
    """
    stored = [part for part in parts if part.stored]
    chosen = [part for part in stored if not part.source.holds_console]
    if not chosen:
        guards.must_not_be_read(part.source for part in stored)
        return []
    known = {part.snapshot_id: part for part in sorted(chosen, key=lambda part: (part.created_at, part.pk))}
    if len({part.repository_id for part in chosen}) > 1:
        raise Refused(
            _("These lie in several repositories; look for it in one after the other."), code="state-conflict"
        )
    rows = _asked(chosen[0].repository, {"job": "search", "snapshots": list(known), "wanted": wanted}, limit)
    for version in (version for row in rows for version in row["versions"]):
        version["parts"] = [known[name] for name in reversed(version.pop("snapshots"))]
    return rows


def wanted(text: str) -> bytes | str:
    """What somebody types to find something: a path as it is listed, or a pattern. Invalid (path)."""
    if not text.startswith("/") or any(sign in text for sign in _WILD):
        return text
    try:
        return from_printable(text).strip(b"/")
    except (ValueError, IndexError):
        sentence = _("A backslash in a path is written \\x5c, and other bytes as \\xNN.")
        raise Invalid(sentence, errors={"path": sentence}) from None


def pattern(word: str) -> str:
    """What somebody types into a search, as a pattern: a word without wildcards means anywhere in the name."""
    return word if not word or any(sign in word for sign in (*_WILD, "/")) else f"*{word}*"


def _rows(part: BackupPart, job: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    guards.must_not_be_read([part.source])
    _must_be_stored(part)
    return _asked(part.repository, job, limit)


def _asked(repository: Repository, job: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    placing.must_be_here(repository.node, f"the repository “{repository}”")
    if not 1 <= limit <= MOST:
        raise Invalid(f"The limit is 1 to {MOST}.", errors={"limit": f"This must be 1 to {MOST}."})
    rows: list[dict[str, Any]] = []
    asked = {**job, "limit": limit, "repository": opening.repository(repository)}
    perform(asked, events=lambda event: rows.extend(event.get("rows", ())), patience=PATIENCE)
    return rows


def _must_be_stored(part: BackupPart) -> None:
    if not part.stored:
        told = _("“%(part)s” holds no recovery point: it is %(state)s.")
        raise Refused(told % {"part": part, "state": part.get_state_display()}, code="not-restorable")
