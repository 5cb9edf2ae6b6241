"""`aihub restore`: bring data back to a new place or into a new database, through the same service as the API."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aihub_backup.cli import console, facts, output, waiting
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command


def main(words: Sequence[str]) -> int:
    """Start the recovery; with --wait, see it through."""
    options = _parser().parse_args(words)
    if bool(options.source) == bool(options.backup):
        raise CommandFailed("say what to restore: the name of a source, or --backup ID.", Exit.USAGE)
    if options.make_roles and not options.to_database:
        raise CommandFailed("--make-roles belongs to --to-database.", Exit.USAGE)
    with console.opened(options.home):
        return _restore(options)


def _parser() -> argparse.ArgumentParser:
    parser = command("restore")
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="name or id: its newest recovery point")
    parser.add_argument("--at", metavar="TIME", help="the newest point up to this moment (ISO 8601 with offset)")
    parser.add_argument("--backup", metavar="ID", help="the points of this backup instead")
    parser.add_argument("--part", metavar="NAME", action="append", default=[], help="only this source of the backup")
    parser.add_argument("--include", metavar="PATTERN", action="append", default=[], help="only these; repeatable")
    parser.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help="without these; repeatable")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", metavar="DIR", help="a new or empty directory")
    where.add_argument("--to-database", metavar="NAME", help="a new database on the source's own server")
    parser.add_argument("--make-roles", action="store_true", help="make roles the server lacks; they may not sign in")
    parser.add_argument("--reason", default="asked for on the command line", help="for the audit")
    waiting.add_options(parser)
    return parser


def _restore(options: argparse.Namespace) -> int:
    from backups.models import Source, Trigger
    from backups.services import backups, lookup
    from recovery.services import recoveries

    recovery = recoveries.request(
        _kind(options),
        by=console.actor(),
        target=_target(options),
        reason=options.reason,
        trigger=Trigger.COMMAND,
        backup=backups.get(options.backup) if options.backup else None,
        source=lookup.find(Source.objects.all(), options.source) if options.source else None,
        at=_moment(options.at),
        parts=options.part,
        include=options.include,
        exclude=options.exclude,
    )
    if options.wait:
        waiting.until_ended(f"recovery {recovery.pk}", lambda: _look(recovery.pk), options.timeout)
    return show(options, recovery.pk, ended=options.wait)


def _target(options: argparse.Namespace) -> Any:
    from recovery.models import TargetKind
    from recovery.services.recoveries import Target

    if options.to_database:
        return Target(TargetKind.NEW_DATABASE, database=options.to_database, make_roles=options.make_roles)
    return Target(path=os.path.abspath(options.to.removeprefix("dir:")))


def show(options: argparse.Namespace, recovery: Any, *, ended: bool = False) -> int:
    """Print one recovery. `ended`: its end decides the exit code."""
    from recovery.services import recoveries

    found = facts.of_recovery(recoveries.get(recovery))
    if options.json:
        output.result_json(found)
    else:
        output.result(facts.lines_of_recovery(found))
    return facts.exit_code([found]) if ended else Exit.OK


def _kind(options: argparse.Namespace) -> str:
    """Which of the four types the words mean."""
    if options.include or options.exclude:
        return "selective"
    if options.part:
        return "partial"
    return "point_in_time" if options.at else "full"


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(f"--at: {text!r} is not a time like 2026-11-22T07:41:30+08:00.", Exit.USAGE) from None
    if moment.tzinfo is None:
        raise CommandFailed(f"--at: {text!r} has no offset; write {text}Z or {text}+08:00.", Exit.USAGE)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise CommandFailed(f"--at: {text!r} lies outside of the calendar.", Exit.USAGE) from None


def _look(recovery: Any) -> tuple[bool, str, dict[str, Any]]:
    from recovery.services import recoveries

    now = recoveries.get(recovery)
    return not now.active, now.state, now.progress
