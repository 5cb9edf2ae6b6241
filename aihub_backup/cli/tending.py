"""`aihub source test|change|pause|resume`: what is done with a source that is there."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from aihub_backup.cli import console, output
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import pair, verb

Values = Callable[[argparse.Namespace, type[Any]], dict[str, object]]


def add_verbs(verbs: Any) -> None:
    """Of the parser of `aihub source`."""
    verb(verbs, "test", "see whether it can be read, and could be brought back").add_argument("name")
    change = verb(verbs, "change", "give it other options, tags, policy, …; it is tested at once")
    change.add_argument("name")
    change.add_argument("--option", metavar="NAME=VALUE", action="append", default=[], help="repeat it for a list")
    change.add_argument(
        "--secret-file", metavar="NAME=FILE", action="append", default=[], help="an option whose value is in a file"
    )
    change.add_argument("--rename", metavar="NAME", help="what it is called from now on")
    change.add_argument("--policy", metavar="NAME", help="how long its backups are kept, how old the newest may be")
    change.add_argument("--repository", metavar="NAME", help="where its next backups go")
    change.add_argument("--environment", metavar="NAME", help="where it belongs")
    change.add_argument("--tag", metavar="NAME=VALUE", action="append", help="these instead of those it has")
    pause = verb(verbs, "pause", "leave it out of runs that name no sources")
    pause.add_argument("name")
    pause.add_argument("--reason", default="", help="for the audit")
    verb(verbs, "resume", "take it in again").add_argument("name")


def test(options: argparse.Namespace) -> int:
    """Tell how the trial went: 0, or 1 with the reason."""
    from backups.services import sources

    return _told(options, sources.test(_found(options), by=console.actor()), "can be read", tested=True)


def change(options: argparse.Namespace, values: Values) -> int:
    """Change what is named, and try it out where its options are others now."""
    from backups.services import sources, trials

    row, by, changes = _found(options), console.actor(), _changes(options)
    if options.option or options.secret_file:
        changes["options"] = values(options, _declared(row))
    if not changes:
        raise CommandFailed("say what changes, for example --policy NAME.", Exit.USAGE)
    row = sources.update(row, by=by, **changes)
    row = trials.if_moved(row, changes, sources.test, by=by)
    return _told(options, row, "was changed", tested="options" in changes)


def pause(options: argparse.Namespace) -> int:
    """No run that names no sources takes it in."""
    from backups.services import sources

    return _told(options, sources.pause(_found(options), by=console.actor(), reason=options.reason), "is paused")


def resume(options: argparse.Namespace) -> int:
    """It is taken in again."""
    from backups.services import sources

    return _told(options, sources.resume(_found(options), by=console.actor()), "is in service again")


def _found(options: argparse.Namespace) -> Any:
    from backups.models import Source
    from backups.services import lookup

    return lookup.find(Source.objects.all(), options.name)


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    from aihub_backup.core.models import Environment
    from backups.models import Policy, Repository
    from backups.services import lookup

    named = {"policy": Policy, "repository": Repository, "environment": Environment}
    found: dict[str, Any] = {
        name: lookup.find(model._default_manager.all(), getattr(options, name))
        for name, model in named.items() if getattr(options, name)
    }  # fmt: skip
    if options.rename:
        found["name"] = options.rename
    if options.tag:
        found["tags"] = dict(pair(word) for word in options.tag)
    return found


def _declared(row: Any) -> type[Any]:
    from backups.kinds import STRATEGIES

    return STRATEGIES.options_class(row.kind)


def _told(options: argparse.Namespace, row: Any, what: str, *, tested: bool = False) -> int:
    """An earlier test's result says nothing about a deed that tests nothing."""
    failed = tested and bool(row.test_error)
    if options.json:
        facts = {"enabled": row.enabled, "test_error": row.test_error}
        output.result_json({"id": str(row.pk), "name": row.name, "kind": row.kind, **facts})
    elif failed:
        output.complain(f"“{row.name}” {what}, but its test failed: {row.test_error}")
    else:
        output.result(f"“{row.name}” {what}")
    return Exit.FAILED if failed else Exit.OK
