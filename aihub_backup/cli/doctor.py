"""`aihub doctor`: look at everything the console needs; one line each, with the cure where something is wrong."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from aihub_backup.cli import examinations, output, place
from aihub_backup.cli.examinations import Finding
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command

NOT_SET_UP = "first start"  # id of the finding that ends the examination of a home without a console
MARKS = {"ok": ("ok  ", output.GREEN), "warn": ("warn", output.YELLOW), "fail": ("FAIL", output.RED)}


def main(words: Sequence[str]) -> int:
    """Exit code 0 when all is well, 3 with warnings, 1 when something is broken, 10 before the first start."""
    options = command("doctor").parse_args(words)
    findings = list(examine(options.home))
    if options.json:
        output.result_json({"ok": _worst(findings) != "fail", "findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            output.result(_line(finding))
    return _exit(findings)


def examine(home: str | None) -> Iterator[Finding]:
    """Every examination in turn. What cannot be looked at because something before it is broken is left out."""
    yield from examinations.of_the_machine()
    if (fresh := place.not_set_up(home)) is not None:
        yield from _before_the_first_start(fresh)
        return
    yield (finding := _settings(home))
    if finding.state == "ok":
        settings = place.settings(home)
        yield from examinations.of_the_home(settings)
        yield from examinations.of_the_services(settings)


def _settings(home: str | None) -> Finding:
    try:
        settings = place.settings(home)
    except CommandFailed as failure:
        return Finding("settings", "fail", str(failure), "correct the value in the environment or in .env")
    return Finding("settings", "ok", f"{settings.AIHUB_MODE} mode, node {settings.AIHUB_NODE}")


def _before_the_first_start(home: Path) -> Iterator[Finding]:
    """Reading the settings makes directories and keys: here in a home that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="aihub-doctor-") as away:
        yield (finding := _settings(away))
    if finding.state == "ok":
        yield Finding(NOT_SET_UP, "fail", f"{home} is not set up yet", "./aihub up makes it")


def _exit(findings: Sequence[Finding]) -> Exit:
    if findings[-1].id == NOT_SET_UP:
        return Exit.NOT_READY
    return {"ok": Exit.OK, "warn": Exit.WARNINGS, "fail": Exit.FAILED}[_worst(findings)]


def _worst(findings: Sequence[Finding]) -> str:
    states = {finding.state for finding in findings}
    return next(state for state in ("fail", "warn", "ok") if state in states)


def _line(finding: Finding) -> str:
    mark, colour = MARKS[finding.state]
    cure = f" → {finding.cure}" if finding.cure and finding.state != "ok" else ""
    return f"{output.coloured(mark, colour, sys.stdout)}  {finding.id:<14} {finding.text}{cure}"
