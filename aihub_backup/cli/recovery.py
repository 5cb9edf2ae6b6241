"""`aihub recovery`: list, show and cancel recoveries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aihub_backup.cli import console, facts, output, restore
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import command, verb

if TYPE_CHECKING:
    from recovery.models import Recovery

LISTED = ("id", "created_at", "type", "status", "size_bytes", "target")


def main(words: Sequence[str]) -> int:
    """Do the verb; exit code as in `exits`."""
    options = _parser().parse_args(words)
    with console.opened(options.home):
        return int(VERBS[options.verb](options))


def _parser() -> argparse.ArgumentParser:
    parser = command("recovery")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb(verbs, "list", "the newest recoveries").add_argument("--limit", type=int, default=20, metavar="N")
    verb(verbs, "show", "one recovery").add_argument("recovery", metavar="ID")
    cancel = verb(verbs, "cancel", "end a running recovery; nothing stays behind")
    cancel.add_argument("recovery", metavar="ID")
    cancel.add_argument("--reason", default="", help="for the audit")
    return parser


def _list(options: argparse.Namespace) -> int:
    from recovery.services import recoveries

    found = [facts.of_recovery(row) for row in recoveries.listing()[: options.limit]]
    if options.json:
        output.result_json(found)
    else:
        output.result(facts.table(LISTED, found))
    return Exit.OK


def _show(options: argparse.Namespace) -> int:
    return restore.show(options, _found(options).pk)


def _cancel(options: argparse.Namespace) -> int:
    from recovery.services import recoveries

    recovery = recoveries.cancel(_found(options), by=console.actor(), reason=options.reason)
    return restore.show(options, recovery.pk)


def _found(options: argparse.Namespace) -> Recovery:
    from backups.services import lookup
    from recovery.services import recoveries

    return lookup.find(recoveries.listing(), options.recovery)


VERBS = {"list": _list, "show": _show, "cancel": _cancel}
