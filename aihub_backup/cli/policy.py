"""`aihub policy`: how long backups are kept, how old the newest may be, how often they are looked at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from aihub_backup.cli import console, output
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command, verb

# word → (field of the policy, what it says)
NUMBERS = {
    "keep-last": ("keep_last", "newest backups that are kept"),
    "keep-hourly": ("keep_hourly", "hours of which the last backup is kept"),
    "keep-daily": ("keep_daily", "days of which it is kept"),
    "keep-weekly": ("keep_weekly", "weeks"),
    "keep-monthly": ("keep_monthly", "months"),
    "keep-yearly": ("keep_yearly", "years"),
    "keep-days": ("retention_days", "days after which a backup may go"),
    "immutable-days": ("immutable_days", "days in which nobody may delete it"),
    "rpo": ("rpo_target_minutes", "minutes that the newest restorable point may be old"),
    "rto": ("rto_target_minutes", "minutes that a recovery may take"),
    "verify-every": ("verify_interval_hours", "hours between two verifications"),
    "verify-level": ("verify_level", "1, 2 or 3"),
}
CHANGES = "give it other numbers, or “none” to take one away; what is not named stays"
LISTED = ("name", "keeps", "rpo", "verified every", "sources")


def main(words: Sequence[str]) -> int:
    """Do the verb; exit code as in `exits`."""
    options = _parser().parse_args(words)
    with console.opened(options.home):
        return int(VERBS[options.verb](options))


def _parser() -> argparse.ArgumentParser:
    parser = command("policy")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, what in (("add", "make one"), ("change", CHANGES)):
        deed = verb(verbs, name, what)
        deed.add_argument("name")
        for word, (_field, told) in NUMBERS.items():
            deed.add_argument(f"--{word}", type=_number, default=argparse.SUPPRESS, metavar="N", help=told)
        deed.add_argument("--description", metavar="TEXT")
    verb(verbs, "list", "all policies")
    return parser


def _number(text: str) -> int | None:
    """None: the number is taken away."""
    if text.casefold() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a whole number, or “none”; not “{text}”") from None


def _add(options: argparse.Namespace) -> int:
    from backups.services import policies

    return _shown(options, policies.create(options.name, by=console.actor(), **_given(options)), "is there")


def _change(options: argparse.Namespace) -> int:
    from backups.models import Policy
    from backups.services import lookup, policies

    found, given = lookup.find(Policy.objects.all(), options.name), _given(options)
    if not given:
        raise CommandFailed("say what changes, for example --rpo 1560.", Exit.USAGE)
    return _shown(options, policies.update(found, by=console.actor(), **given), "was changed")


def _list(options: argparse.Namespace) -> int:
    from django.db.models import Count

    from backups.models import Policy

    found = [_facts(row) for row in Policy.objects.annotate(used=Count("sources")).order_by("name")]
    if options.json:
        output.result_json(found)
    elif found:
        output.result(output.table(LISTED, [[one[name] for name in LISTED] for one in found]))
    return Exit.OK


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that were typed; one that was taken away is what it is in a policy that does not name it."""
    from backups.models import Policy

    typed = {field: word.replace("-", "_") for word, (field, _told) in NUMBERS.items()}
    given = {field: getattr(options, word) for field, word in typed.items() if hasattr(options, word)}
    without = {field: getattr(Policy(), field) for field, number in given.items() if number is None}
    told = {} if options.description is None else {"description": options.description}
    return {**given, **without, **told}


def _shown(options: argparse.Namespace, row: Any, what: str) -> int:
    if options.json:
        output.result_json({"id": str(row.pk), "name": row.name, **_numbers(row)})
    else:
        output.result(f"the policy “{row.name}” {what}")
    return Exit.OK


def _facts(row: Any) -> dict[str, Any]:
    numbers = _numbers(row)
    kept = (f"{number} {word.removeprefix('keep-')}" for word, number in numbers.items() if word.startswith("keep-"))
    return {
        "id": str(row.pk), "name": row.name, **numbers, "keeps": ", ".join(kept) or "everything",
        "rpo": _told(row.rpo_target_minutes, "min"), "verified every": _told(row.verify_interval_hours, "h"),
        "sources": row.used,
    }  # fmt: skip


def _numbers(row: Any) -> dict[str, int]:
    """Word → number, of those that say something."""
    return {word: number for word, (field, _told) in NUMBERS.items() if (number := getattr(row, field))}


def _told(number: int | None, unit: str) -> str:
    return f"{number} {unit}" if number else ""


VERBS = {"add": _add, "change": _change, "list": _list}
