"""`aihub backup`: run, list, show, verify, find, cancel and delete backups, through the same services as the API."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aihub_backup.cli import console, facts, output, waiting
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command, verb

if TYPE_CHECKING:
    from backups.models import Backup, Repository

LISTED = ("id", "created_at", "type", "status", "sources", "verified", "size_bytes", "stored_bytes", "label")


def main(words: Sequence[str]) -> int:
    """Do the verb; exit code as in `exits`."""
    options = _parser().parse_args(words)
    with console.opened(options.home):
        return int(VERBS[options.verb](options))


def _parser() -> argparse.ArgumentParser:
    parser = command("backup")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verb(verbs, "run", "back sources up now; without names, all that the type means")
    run.add_argument("sources", nargs="*", metavar="SOURCE", help="name or id")
    run.add_argument("--type", default="incremental", help="full, incremental, differential, files, database, …")
    run.add_argument("--repository", metavar="NAME", help="where to (default: the source's, or the only one)")
    run.add_argument("--label", default="", help="a name for this backup")
    run.add_argument("--verify", type=int, choices=(0, 1, 2, 3), help="check it afterwards at this level")
    waiting.add_options(run)
    listed = verb(verbs, "list", "the newest backups")
    listed.add_argument("--limit", type=int, default=20, metavar="N")
    listed.add_argument("--status", help="only these states, with commas")
    verb(verbs, "show", "one backup").add_argument("backup", metavar="ID")
    verify = verb(verbs, "verify", "check that what was stored is whole")
    verify.add_argument("backup", metavar="ID")
    verify.add_argument("--level", type=int, choices=(1, 2, 3), default=2, help="1 listed, 2 hashed, 3 decrypted")
    waiting.add_options(verify)
    find = verb(verbs, "find", "find a path or a pattern in all recovery points of a repository")
    find.add_argument("wanted", metavar="PATH", help="a path that begins with /, a pattern such as '*.sql', or a word")
    find.add_argument("--repository", metavar="NAME", help="where to look (default: the only one)")
    find.add_argument("--source", metavar="NAME", help="only in its points")
    find.add_argument("--limit", type=int, default=200, metavar="N", help="most paths")
    for name, what in (("cancel", "end a running backup"), ("delete", "forget the recovery points of a backup")):
        deed = verb(verbs, name, what)
        deed.add_argument("backup", metavar="ID")
        deed.add_argument("--reason", default="", help="for the audit")
    return parser


def _run(options: argparse.Namespace) -> int:
    from backups.models import Repository, Source, Trigger
    from backups.services import backups, lookup

    sources = [lookup.find(Source.objects.all(), name) for name in options.sources] or None
    repository = lookup.find(Repository.objects.all(), options.repository) if options.repository else None
    backup = backups.request(
        options.type,
        by=console.actor(),
        trigger=Trigger.COMMAND,
        sources=sources,
        repository=repository,
        label=options.label,
        verify=options.verify,
    )
    return follow(options, backup)


def follow(options: argparse.Namespace, backup: Backup) -> int:
    """Wait for its end if that was asked for, and show it."""
    if options.wait:
        waiting.until_ended(f"backup {backup.pk}", lambda: _look(backup), options.timeout)
    return _show_one(options, backup, ended=options.wait)


def _list(options: argparse.Namespace) -> int:
    from backups.services import backups

    rows = backups.listing()
    if options.status:
        rows = rows.filter(state__in=options.status.split(","))
    found = [facts.of_backup(backup) for backup in rows[: options.limit]]
    if options.json:
        output.result_json(found)
    else:
        output.result(facts.table(LISTED, [{**one, **facts.in_words(one)} for one in found]))
    return Exit.OK


def _show(options: argparse.Namespace) -> int:
    from backups.services import backups

    return _show_one(options, backups.get(options.backup))


def _verify(options: argparse.Namespace) -> int:
    from backups.models import Trigger
    from backups.services import backups, verifications

    backup = backups.get(options.backup)
    checks = verifications.request(backup, level=options.level, by=console.actor(), trigger=Trigger.COMMAND)
    if options.wait:
        for check in checks:
            waiting.until_ended(f"verification {check.pk}", partial(_look_at_check, check), options.timeout)
    found = [facts.of_verification(check) for check in checks]
    if options.json:
        output.result_json(found)
    else:
        output.result("\n".join(map(facts.lines_of_verification, found)))
    return facts.exit_code(found) if options.wait else Exit.OK


def _find(options: argparse.Namespace) -> int:
    from backups.api import told
    from backups.models import BackupPart, Repository, Source
    from backups.models.backup import STORED
    from backups.services import contents, lookup

    where = lookup.find(Repository.objects.all(), options.repository) if options.repository else _only_repository()
    rows = BackupPart.objects.filter(repository=where, state__in=STORED)
    if options.source:
        rows = rows.filter(source=lookup.find(Source.objects.all(), options.source))
    points = list(rows.select_related("source", "backup", "repository__storage__node"))
    found = [told.found(row) for row in contents.find(points, contents.wanted(options.wanted), limit=options.limit)]
    if options.json:
        output.result_json(found)
    else:
        output.result("\n".join(map(_lines_of_found, found)) or f"nothing in {len(points)} recovery points fits")
    return Exit.OK if found else Exit.NOT_FOUND


def _only_repository() -> Repository:
    from backups.models import Repository
    from backups.services.repositories import IN_USE

    rows = list(Repository.objects.filter(state__in=IN_USE).order_by("name"))
    if len(rows) != 1:
        names = ", ".join(row.name for row in rows)
        told = f"name one with --repository: {names}." if rows else "there is no repository yet."
        raise CommandFailed(told, Exit.USAGE)
    return rows[0]


def _lines_of_found(found: dict[str, Any]) -> str:
    versions = [
        f"  {one['content'][:12]:12}  {output.size(one['size_bytes']):>10}  {one['mtime']:%Y-%m-%d %H:%M}"
        f"  in {len(one['backups'])} backups, the newest {one['backups'][0]}"
        for one in found["versions"]
    ]
    return "\n".join([found["path"], *versions])


def _cancel(options: argparse.Namespace) -> int:
    from backups.services import backups

    backup = backups.get(options.backup)
    return _show_one(options, backups.cancel(backup, by=console.actor(), reason=options.reason))


def _delete(options: argparse.Namespace) -> int:
    from backups.services import backups

    backup = backups.get(options.backup)
    return _show_one(options, backups.delete(backup, by=console.actor(), reason=options.reason))


def _show_one(options: argparse.Namespace, backup: Backup, *, ended: bool = False) -> int:
    from backups.services import backups

    found = facts.of_backup(backups.get(backup.pk))
    if options.json:
        output.result_json(found)
    else:
        output.result(facts.lines_of_backup(found))
    return facts.exit_code([found]) if ended else Exit.OK


def _look(backup: Backup) -> tuple[bool, str, dict[str, Any]]:
    from backups.services import backups

    now = backups.get(backup.pk)
    return not now.active, now.state, backups.progress(now)


def _look_at_check(check: Any) -> tuple[bool, str, dict[str, Any]]:
    check.refresh_from_db()
    return check.finished_at is not None, check.state, dict(check.job.progress) if check.job else {}


VERBS = {
    "run": _run, "list": _list, "show": _show, "verify": _verify, "find": _find, "cancel": _cancel, "delete": _delete,
}  # fmt: skip
