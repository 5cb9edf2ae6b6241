"""Backups, verifications and recoveries as the command line shows them: a dictionary for --json, lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aihub_backup.cli import output
from aihub_backup.cli.exits import Exit

if TYPE_CHECKING:
    from backups.models import Backup, Verification
    from recovery.models import Recovery, RecoveryPart

Facts = dict[str, Any]

ODDITIES_SHOWN = 20

ENDS = {
    "completed": Exit.OK,
    "passed": Exit.OK,
    "completed_with_warnings": Exit.WARNINGS,
    "partial": Exit.WARNINGS,
    "awaiting_approval": Exit.APPROVAL,
}


def of_backup(backup: Backup) -> Facts:
    """One backup with its parts, as the API tells it."""
    from backups.api import told
    from backups.services import slots

    because = {"missed_because": slots.why_missed(backup)} if backup.state == "missed" else {}
    return {**told.backup(backup, names=True), **because}


def of_verification(check: Verification) -> Facts:
    """One integrity check, as the API tells it."""
    from backups.api import told

    return told.verification(check, names=True)


def of_recovery(recovery: Recovery) -> Facts:
    """One recovery with its parts."""
    return {
        "id": str(recovery.pk),
        "type": recovery.type,
        "status": recovery.state,
        "backup": str(recovery.backup_id),
        "target": recovery.target_path,
        "reason": recovery.reason,
        "items": recovery.items,
        "size_bytes": recovery.size_bytes,
        "warnings_count": recovery.warnings_count,
        "errors_count": recovery.errors_count,
        "notices": recovery.notices,
        "created_at": recovery.created_at,
        "started_at": recovery.started_at,
        "finished_at": recovery.finished_at,
        "parts": [_recovered(recovery, row) for row in recovery.parts.all()],
        "error": recovery.error,
    }


def _recovered(recovery: Recovery, row: RecoveryPart) -> Facts:
    """One part: where it is, and what is odd about it."""
    place = f"{recovery.target_path}/{row.place}".rstrip("/")
    return {"source": row.part.source.name, "place": place, "oddities": row.item_errors}


def exit_code(facts: Sequence[Facts]) -> Exit:
    """What the ends of all of them together mean for a script: the worst one counts."""
    codes = [Exit.DAMAGED if _damaged(one) else ENDS.get(one["status"], Exit.FAILED) for one in facts]
    return max(codes, key=lambda code: (code != Exit.OK, code != Exit.WARNINGS, code), default=Exit.OK)


def in_words(facts: Facts) -> dict[str, str]:
    """Of a backup: its sources, and what checks say of it."""
    names = sorted([*(part["source"]["name"] for part in facts["parts"]), *facts["left_out"]])
    return {"sources": ", ".join(names), "verified": _checked(facts["verification"]) if facts["parts"] else ""}


def _checked(verification: Facts) -> str:
    level = f" (level {verification['level']})" if verification["level"] else ""
    return f"{verification['state']}{level}"


def lines_of_backup(facts: Facts) -> str:
    """For people: a line about the backup, one for each part."""
    rows = [
        (
            part["source"]["name"],
            part["status"],
            part["mode"],
            _number(part["items"]),
            *map(_size, _sizes(part)),
            _checked(part["verification"]),
            _why(part),
        )
        for part in facts["parts"]
    ]
    head = f"{facts['id']}  {facts['type']}  {facts['status']}  {_when(facts['created_at'])}  {facts['label']}".rstrip()
    rows += [(name, "left out", "", "", "", "", "", why) for name, why in sorted(facts["left_out"].items())]
    if not rows:
        return f"{head}\n{facts.get('missed_because', '')}".rstrip()
    return f"{head}\n{output.table(('source', 'status', 'mode', 'items', 'size', 'stored', 'verified', ''), rows)}"


def lines_of_recovery(facts: Facts) -> str:
    """For people: what came back, and where."""
    head = f"{facts['id']}  {facts['type']}  {facts['status']}  → {facts['target']}"
    done = f"{_number(facts['items']) or 'no'} items, {_size(facts['size_bytes']) or 'nothing written'}"
    parts = [f"  {part['source']}: {part['place']}" for part in facts["parts"]]
    odd = [_oddity(one) for part in facts["parts"] for one in part["oddities"]]
    more = [f"  … and {len(odd) - ODDITIES_SHOWN} more; --json tells them."] if len(odd) > ODDITIES_SHOWN else []
    return "\n".join(
        [
            head,
            done,
            *parts,
            *odd[:ODDITIES_SHOWN],
            *more,
            *facts["notices"],
            *([_why(facts)] if facts["error"] else []),
        ]
    )


def lines_of_verification(facts: Facts) -> str:
    """For people: the verdict, and each problem."""
    words = (
        str(facts["id"]),
        f"level {facts['level']}",
        facts["source"]["name"],
        facts["status"],
        _size(facts["bytes_checked"]),
    )
    problems = [f"  {problem.get('object', '')}: {problem.get('message', '')}" for problem in facts["problems"]]
    return "\n".join(["  ".join(words).rstrip(), *problems, *([_why(facts)] if facts["error"] else [])])


def table(headings: Sequence[str], facts: Sequence[Facts]) -> str:
    """A list for people."""
    rows = [[_cell(one[heading]) for heading in headings] for one in facts]
    return output.table([heading.removesuffix("_bytes").removesuffix("_at") for heading in headings], rows)


def _oddity(one: Facts) -> str:
    return f"  {one['severity']}: {one['path']}: {one['message']}"


def _damaged(facts: Facts) -> bool:
    return facts["status"] == "failed" and "problems_count" in facts


def _sizes(part: Facts) -> tuple[Any, Any]:
    return part["size_bytes"], part["stored_bytes"]


def _why(facts: Facts) -> str:
    return str(facts["error"]["detail"]) if facts["error"] else ""


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return output.size(value)
    return _when(value) if hasattr(value, "strftime") else str(value or "")


def _when(moment: Any) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    return "" if value is None else output.size(value)
