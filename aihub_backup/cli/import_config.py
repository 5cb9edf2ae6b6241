"""`aihub import-config FILE`: storage, sources and objectives of a configuration file, through the usual services."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aihub_backup.cli import console, output
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import command

if TYPE_CHECKING:
    from aihub_backup.provisioning.making import Outcome
    from aihub_backup.provisioning.wishes import Wishes


def main(words: Sequence[str]) -> int:
    """Exit code 0 when all of it was made or there already; 3 when something was refused or not understood."""
    options = _parser().parse_args(words)
    with console.opened(options.home):
        from aihub_backup.provisioning import document

        file = Path(options.file).absolute()
        wishes = document.wishes(document.load(file), Path(options.base).absolute() if options.base else file.parent)
        wishes.waive_kit = options.waive_kit
        outcome = _outcome(wishes, options)
    _tell(options, wishes, outcome)
    return Exit.WARNINGS if outcome.refused or wishes.unknown else Exit.OK


def _parser() -> argparse.ArgumentParser:
    parser = command("import-config")
    parser.add_argument("file", metavar="FILE", help="JSON, or YAML when it is named .yaml or .yml")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be made; nobody is reached")
    parser.add_argument("--base", metavar="DIR", help="where relative paths begin (default: the file's directory)")
    parser.add_argument("--kit", metavar="FILE", help="where the recovery kit goes (default: below the home)")
    parser.add_argument("--waive-kit", action="store_true", help="accept backups though nobody proved the kit")
    return parser


def _outcome(wishes: Wishes, options: argparse.Namespace) -> Outcome:
    from django.conf import settings

    from aihub_backup.provisioning import importing, kits
    from backups.models import Repository
    from backups.services.saving import free_name

    kit = os.path.abspath(options.kit or kits.default(settings.AIHUB_KIT_PATH, free_name(Repository, kits.NAME)))
    deed = importing.told if options.dry_run else importing.make
    return deed(wishes, by=console.actor(), kit=kit)


def _tell(options: argparse.Namespace, wishes: Wishes, outcome: Outcome) -> None:
    if options.json:
        output.result_json({"dry_run": options.dry_run, **vars(outcome), "not_understood": wishes.unknown})
        return
    for sentence in outcome.made:
        output.result(f"{'would be made' if options.dry_run else 'ok'}: {sentence}")
    for sentence in outcome.there:
        output.result(f"ok: {sentence}")
    for sentence in outcome.refused:
        output.complain(sentence)
    for name in wishes.unknown:
        output.complain(f"{name} was not understood; nothing was made of it.")
