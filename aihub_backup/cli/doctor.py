"""`aihub doctor`: look at everything the console needs; one line each, with the cure where something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from aihub_backup.cli import examinations, output, place
from aihub_backup.cli.examinations import Finding
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command

MARKS = {"ok": ("ok  ", output.GREEN), "warn": ("warn", output.YELLOW), "fail": ("FAIL", output.RED)}


def main(words: Sequence[str]) -> int:
    """Exit code 0 when all is well, 3 with warnings, 1 when something is broken."""
    options = command("doctor").parse_args(words)
    findings = list(examine(options.home))
    if options.json:
        output.result_json({"ok": _worst(findings) != "fail", "findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            output.result(_line(finding))
    return {"ok": Exit.OK, "warn": Exit.WARNINGS, "fail": Exit.FAILED}[_worst(findings)]


def examine(home: str | None) -> Iterator[Finding]:
    """Every examination in turn. What cannot be looked at because something before it is broken is left out."""
    yield from examinations.of_the_machine()
    try:
        settings = place.settings(home)
    except CommandFailed as failure:
        yield Finding("settings", "fail", str(failure), "correct the value in the environment or in .env")
        return
    yield Finding("settings", "ok", f"{settings.AIHUB_MODE} mode, node {settings.AIHUB_NODE}")
    yield from examinations.of_the_home(settings)
    yield from examinations.of_the_services(settings)


def _worst(findings: Sequence[Finding]) -> str:
    states = {finding.state for finding in findings}
    return next(state for state in ("fail", "warn", "ok") if state in states)


def _line(finding: Finding) -> str:
    mark, colour = MARKS[finding.state]
    cure = f" → {finding.cure}" if finding.cure and finding.state != "ok" else ""
    return f"{output.coloured(mark, colour, sys.stdout)}  {finding.id:<14} {finding.text}{cure}"
