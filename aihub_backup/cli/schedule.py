"""`aihub schedule`: when backups are made by themselves, through the same services as the API."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aihub_backup.cli import console, output, waiting
from aihub_backup.cli.backup import follow
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command, pair, verb

if TYPE_CHECKING:
    from backups.models import Schedule

LISTED = (
    "name",
    "type",
    "cron_expression",
    "timezone",
    "cron_text",
    "enabled",
    "next_run",
    "newest_slot",
    "newest_slot_note",
)


def main(words: Sequence[str]) -> int:
    """Do the verb; exit code as in `exits`."""
    options = _parser().parse_args(words)
    with console.opened(options.home):
        return int(VERBS[options.verb](options))


def _parser() -> argparse.ArgumentParser:
    parser = command("schedule")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_words(verb(verbs, "add", "make backups by themselves"))
    verb(verbs, "list", "all schedules")
    verb(verbs, "presets", "ready-made ones for --preset")
    run = verb(verbs, "run", "its backup, now")
    run.add_argument("name", help="name or id")
    waiting.add_options(run)
    verb(verbs, "enable", "begin again from now on").add_argument("name", help="name or id")
    for name, what in (("disable", "make none any more"), ("remove", "delete it; its backups stay")):
        deed = verb(verbs, name, what)
        deed.add_argument("name", help="name or id")
        deed.add_argument("--reason", default="", required=name == "disable", help="for the audit")
        if name == "remove":
            deed.add_argument("--confirm", action="store_true", help="also when nothing else backs its sources up")
    return parser


def _add_words(add: argparse.ArgumentParser) -> None:
    add.add_argument("name", nargs="?", help="needed without --preset")
    add.add_argument("--preset", metavar="KEY", help="begin with a ready-made one; other words override it")
    add.add_argument("--type", help="full, incremental, differential, files, database, …")
    add.add_argument("--cron", metavar="'M H D M W'", help="five fields: '0 2 * * *' is daily at 02:00")
    add.add_argument("--timezone", metavar="ZONE", help="in which the fields are read (default: UTC)")
    add.add_argument("--source", action="append", metavar="NAME", help="repeat it; without: all that the type means")
    add.add_argument("--tag", action="append", metavar="NAME=VALUE", help="sources that carry it, instead of names")
    add.add_argument("--strategy", help="narrows full, incremental and differential")
    add.add_argument("--environment", metavar="NAME", help="only sources of this environment")
    keeping = add.add_mutually_exclusive_group()
    keeping.add_argument("--keep-days", type=int, metavar="N", help="the policy “keep N days”")
    keeping.add_argument("--policy", metavar="NAME", help="how long its backups are kept")
    add.add_argument("--misfire", choices=("run_once", "skip"), help="what happens after an outage")
    add.add_argument("--grace", type=int, metavar="SECONDS", help="how late a backup may begin (default: 3600)")
    add.add_argument("--disabled", action="store_true", help="do not begin yet")


# --- deeds ------------------------------------------------------------------------------------------------------------


def _add(options: argparse.Namespace) -> int:
    from backups.services import schedules

    words: dict[str, Any] = schedules.preset(options.preset) if options.preset else {}
    words |= _given(options)
    if options.policy:
        words.pop("retention_days", None)
    missing = [f"--{name}" for name in ("name", "type", "cron") if _FIELDS[name] not in words]
    if missing:
        raise CommandFailed(
            f"say {', '.join(missing).replace('--name', 'a name')}, or begin with --preset.", Exit.USAGE
        )
    made = schedules.create(by=console.actor(), enabled=not options.disabled, **words)
    return _shown(options, made, f"the schedule “{made}” is there")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The words of the service that were typed."""
    from aihub_backup.core.models import Environment
    from backups.models import Policy, Source
    from backups.services import lookup

    words = {ours: getattr(options, typed) for typed, ours in _FIELDS.items() if getattr(options, typed) is not None}
    if options.source:
        words["sources"] = [lookup.find(Source.objects.all(), name) for name in options.source]
    if options.tag:
        words["tags"] = dict(pair(word) for word in options.tag)
    if options.policy:
        words["policy"] = lookup.find(Policy.objects.all(), options.policy)
    if options.environment:
        words["environment"] = lookup.find(Environment.objects.all(), options.environment)
    return words


def _list(options: argparse.Namespace) -> int:
    from backups.models import Schedule

    found = [_facts(row) for row in Schedule.objects.all()]
    if options.json:
        output.result_json(found)
    elif found:
        output.result(output.table(LISTED, [[one[name] for name in LISTED] for one in found]))
    return Exit.OK


def _presets(options: argparse.Namespace) -> int:
    from backups.services import schedules

    found = [{"key": one.key, "told": str(one.told), **schedules.preset(one.key)} for one in schedules.presets()]
    if options.json:
        output.result_json(found)
    else:
        output.result(output.table(("preset", "makes"), [(one["key"], one["told"]) for one in found]))
    return Exit.OK


def _run(options: argparse.Namespace) -> int:
    from backups.models import Trigger
    from backups.services import schedules

    backup = schedules.run_now(_found(options), by=console.actor(), trigger=Trigger.COMMAND)
    return follow(options, backup)


def _enable(options: argparse.Namespace) -> int:
    from backups.services import schedules

    row = schedules.enable(_found(options), by=console.actor())
    return _shown(options, row, f"the schedule “{row}” is enabled")


def _disable(options: argparse.Namespace) -> int:
    from backups.services import schedules

    row = schedules.disable(_found(options), by=console.actor(), reason=options.reason)
    return _shown(options, row, f"the schedule “{row}” is disabled")


def _remove(options: argparse.Namespace) -> int:
    from backups.services import schedules

    row = _found(options)
    facts = {"id": str(row.pk), "name": row.name}
    schedules.delete(row, by=console.actor(), reason=options.reason, confirm=options.confirm)
    if options.json:
        output.result_json({**facts, "removed": True})
    else:
        output.result(f"the schedule “{facts['name']}” is removed; its backups stay")
    return Exit.OK


# --- words in, words out ----------------------------------------------------------------------------------------------


def _found(options: argparse.Namespace) -> Schedule:
    from backups.models import Schedule
    from backups.services import lookup

    return lookup.find(Schedule.objects.all(), options.name)


def _shown(options: argparse.Namespace, row: Schedule, sentence: str) -> int:
    facts = _facts(row)
    if options.json:
        output.result_json(facts)
    else:
        coming = f"; its next backup: {facts['next_run']}" if facts["next_run"] else ""
        output.result(f"{sentence} ({facts['cron_text']}, {row.timezone}){coming}")
    return Exit.OK


def _facts(row: Schedule) -> dict[str, Any]:
    from backups.services import cron, schedules

    moments = [moment.astimezone(row.zone).isoformat(timespec="minutes") for moment in schedules.next_runs(row)]
    newest = row.slots.first()
    return {
        "id": str(row.pk), "name": row.name, "type": row.type, "cron_expression": row.cron_expression,
        "timezone": row.timezone, "cron_text": cron.in_words(row.cron_expression), "enabled": row.enabled,
        "sources": sorted(source.name for source in row.sources.all()), "tags": row.tags,
        "policy": row.policy.name if row.policy else None, "next_run": moments[0] if moments else "",
        "next_runs": moments, "newest_slot": newest.state if newest else "",
        "newest_slot_note": newest.note if newest else "",
    }  # fmt: skip


_FIELDS = {
    "name": "name", "type": "type", "cron": "cron_expression", "timezone": "timezone", "strategy": "strategy",
    "keep_days": "retention_days", "misfire": "misfire", "grace": "grace_seconds",
}  # fmt: skip

VERBS = {
    "add": _add, "list": _list, "presets": _presets, "run": _run, "enable": _enable, "disable": _disable,
    "remove": _remove,
}  # fmt: skip
