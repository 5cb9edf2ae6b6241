"""`aihub repository compact`: giving back the space that only deleted backups needed."""

from __future__ import annotations

import argparse
from typing import Any

from aihub_backup.cli import console, output, waiting
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import verb

FIGURES = ("carried", "freed", "deleted", "marked")


def add_verb(verbs: Any) -> None:
    """Of the parser of `aihub repository`."""
    parser = verb(verbs, "compact", "give back the space that only deleted backups needed (happens daily by itself)")
    parser.add_argument("name")
    parser.add_argument("--preview", action="store_true", help="tell the bytes, and do nothing")
    waiting.add_options(parser)


def compact(options: argparse.Namespace) -> int:
    """Ask for it, or tell what it would do."""
    from backups.models import Repository
    from backups.services import compacting, lookup

    row = lookup.find(Repository.objects.select_related("storage__node"), options.name)
    if options.preview:
        return _foreseen(options, row, compacting.preview(row))
    job = compacting.request(row, by=console.actor())
    if options.wait:
        waiting.until_ended(f"giving space back in “{row}”", lambda: _look_at(job), options.timeout)
    return _told(options, row, job)


def _look_at(job: Any) -> tuple[bool, str, dict[str, Any]]:
    job.refresh_from_db()
    return job.finished, job.state, dict(job.progress)


def _foreseen(options: argparse.Namespace, row: Any, plan: dict[str, Any]) -> int:
    if options.json:
        output.result_json({"id": str(row.pk), "name": row.name, **plan})
        return Exit.OK
    told = ("stored", "unused", "freed", "carried", "leaving", "outdated", "renewed")
    size = {name: output.size(plan[name]) for name in told}
    renewal = f"; of {size['outdated']} under older keys {size['renewed']} would come under the new one"
    stale = f"; {plan['stale']} index objects under older keys would be written anew"
    output.result(
        f"of {size['stored']} in “{row}” no recovery point needs {size['unused']}: {size['freed']} would come back,"
        f" {size['carried']} be stored anew ({size['leaving']} are on their way out already)"
        f"{renewal if plan['outdated'] else ''}"
        f"{stale if plan['stale'] else ''}"
    )
    return Exit.OK


def _told(options: argparse.Namespace, row: Any, job: Any) -> int:
    figures = {name: job.progress.get(name) for name in FIGURES}
    if options.json:
        error = {"error": job.error_message} if job.error_message else {}
        output.result_json({"id": str(row.pk), "name": row.name, "state": job.state, **figures, **error})
    elif job.state == "completed":
        later = (figures["marked"] and f"; {output.size(figures['marked'])} go with a later run") or ""
        gained = (figures["freed"] or 0) - (figures["carried"] or 0)
        anew = f" ({output.size(figures['carried'])} were stored anew)" if figures["carried"] else ""
        output.result(f"{output.size(max(gained, 0))} of “{row}” came back{anew}{later}")
    else:
        output.result(f"giving space back in “{row}” is {job.state}. {job.error_message}".rstrip())
    return Exit.FAILED if job.state == "failed" else Exit.OK
