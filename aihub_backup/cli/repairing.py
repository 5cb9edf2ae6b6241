"""`aihub repository repair`: heal what is damaged or missing."""

from __future__ import annotations

import argparse
from typing import Any

from aihub_backup.cli import console, output, waiting
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import verb

SHOWN = 50  # lines of deeds and of losses, each


def add_verb(verbs: Any) -> None:
    """Its words."""
    parser = verb(verbs, "repair", "heal what is damaged or missing, from copies in other storages")
    parser.add_argument("name")
    parser.add_argument(
        "--from", dest="copies", action="append", default=[], metavar="STORAGE",
        help="a storage that holds a copy; repeatable",
    )  # fmt: skip
    parser.add_argument("--preview", action="store_true", help="only tell what would be done")
    parser.add_argument("--reason", default="", help="why, for the audit log")
    waiting.add_options(parser)


def repair(options: argparse.Namespace) -> int:
    """Ask for it, and for its end if --wait says so."""
    from backups.models import Repository, Storage
    from backups.services import lookup, repairs

    row = lookup.find(Repository.objects.select_related("storage__node"), options.name)
    copies = [lookup.find(Storage.objects.select_related("node"), name) for name in options.copies]
    asked = repairs.request(
        row, by=console.actor(), copies=copies, preview=options.preview, reason=options.reason
    )  # fmt: skip
    if options.wait:
        waiting.until_ended(f"the repair of “{row}”", lambda: _look_at(asked), options.timeout)
    return _tell(options, row, asked)


def _look_at(asked: Any) -> tuple[bool, str, dict[str, Any]]:
    asked.refresh_from_db()
    asked.job.refresh_from_db()
    return asked.job.finished, asked.job.state, dict(asked.job.progress)


def _tell(options: argparse.Namespace, row: Any, asked: Any) -> int:
    found, state = asked.found, asked.job.state
    if options.json:
        error = {"error": asked.job.error_message} if asked.job.error_message else {}
        output.result_json({"repository": row.name, "state": state, "preview": asked.preview, **found, **error})
    elif not found:
        output.result(f"the repair of “{row}” is {state}. {asked.job.error_message}".rstrip())
    else:
        _tell_found(row, found, preview=asked.preview)
    if state == "failed":
        return Exit.FAILED
    return Exit.DAMAGED if found.get("problems_count") else Exit.OK


def _tell_found(row: Any, found: dict[str, Any], *, preview: bool) -> None:
    for deed in found["deeds"][:SHOWN]:
        output.say(f"{'to be ' if preview else ''}{deed['what']}: {deed['object']} ({deed['why']})")
    for loss in found["problems"][:SHOWN]:
        harmed = f"{len(loss['snapshots'])} points, {loss['paths_count']} files"
        output.complain(f"lost: {loss['object'] or 'a tree'}: {loss['message']} ({harmed})")
    verb = "would be" if preview else "were"
    output.result(
        f"“{row}”: {found['deeds_count']} objects {verb} healed, {output.size(found['bytes'])} from copies;"
        f" {found['problems_count']} cannot be"
    )
