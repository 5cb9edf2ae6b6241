"""`aihub test`: every check of the project, then its tests. Exit code 0 only when all of them passed.

Tests of the database run twice: on the servers of production, and with all the others on the embedded default. The
launcher has installed what this needs. The tests come last, so that pytest's closing line ends the output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aihub_backup.cli import output
from aihub_backup.cli.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = "2"  # of pytest: the machines of developers and CI have two cores
LEAST_COVERAGE = "90"  # per cent of lines
_SLOWEST = ("--durations=25", "--durations-min=5")  # told, so that somebody asks why
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"  # it has no __main__

HELP = """usage: ./aihub test [--quick] [PATH …] [PYTEST OPTION …]

All checks of the project, then its tests; exit code 0 only when all of them passed.
  --quick   without types, contracts, coverage and slow tests
  PATH      only the tests below it, for example: ./aihub test tests/engine --quick
Everything else goes to pytest (-k WORD, -x, -n 0 …)."""


@dataclass(frozen=True)
class Check:
    """One tool run: its words after the interpreter, and what its environment has beside ours."""

    name: str
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def main(words: Sequence[str]) -> int:
    """`--quick` leaves out types, coverage and slow tests; every other word goes to pytest."""
    if {"-h", "--help"} & set(words):
        output.result(HELP)
        return Exit.OK
    quick = "--quick" in words
    chosen = [word for word in words if word != "--quick"]
    if missing := [word for word in chosen if word.startswith("tests/") and not (ROOT / _file(word)).exists()]:
        output.complain(f"there is no {_file(missing[0])}; nothing was checked.")
        return Exit.USAGE
    with tempfile.TemporaryDirectory(prefix="aihub-checks-") as home:
        checks = [*_style(), *([] if quick else _thorough(home))]
        checks += [] if quick or _partial(chosen) else [_on_servers(chosen)]
        failed = [check.name for check in checks if not passes(check)]
        if failed:
            output.complain(f"failed: {', '.join(failed)}. The tests follow; the exit code will be 1.")
        tests = _run(_pytest(quick, chosen))
    return Exit.FAILED if failed or tests else Exit.OK


def passes(check: Check) -> bool:
    """Run one check and say how it went; its own words go through."""
    begin = time.monotonic()
    output.say(f"==> {check.name}")
    code = _run(check)
    verdict = "ok" if code == 0 else f"FAILED (exit code {code})"
    output.say(f"    {check.name}: {verdict}, {time.monotonic() - begin:.1f} s")
    return code == 0


def _run(check: Check) -> int:
    sys.stdout.flush()
    environment = {**os.environ, **check.environment}
    # Tools and tests look for modules where they run; the launcher's safe path is for its callers' directories.
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run([sys.executable, *check.words], cwd=ROOT, env=environment, check=False).returncode


def _style() -> list[Check]:
    return [
        Check("ruff check", ("-m", "ruff", "check", ".")),
        Check("ruff format", ("-m", "ruff", "format", "--check", ".")),
    ]


def _thorough(home: str) -> list[Check]:
    django = {
        "DJANGO_SETTINGS_MODULE": "aihub_backup.settings",
        "AIHUB_HOME": home,  # with throw-away keys of its own
        "AIHUB_ENV_FILE": os.devnull,
        "AIHUB_PUBLIC_URL": "https://console.example.org",
    }
    checks = [
        Check("mypy", ("-m", "mypy")),
        Check("import contracts", ("-c", LINT_IMPORTS)),
        Check("system checks", ("-m", "django", "check", "--deploy", "--fail-level", "WARNING"), django),
        Check("migrations", ("-m", "django", "makemigrations", "--check", "--dry-run"), django),
    ]
    templates = ROOT / "templates"
    if any(templates.rglob("*.html")):
        checks.append(Check("templates", ("-m", "djlint", str(templates), "--lint", "--quiet")))
    return checks


def _on_servers(words: Sequence[str]) -> Check:
    """The tests of the database once more, on what production runs on."""
    return Check("tests on PostgreSQL and Valkey", ("-m", "tests.servers.production", *_parallel(words), *words))


def _pytest(quick: bool, words: Sequence[str]) -> Check:
    if quick:
        return Check("tests", ("-m", "pytest", "-m", "not slow", *_parallel(words), *words))
    # Part of the tests covers part of the lines: that says nothing of the whole.
    whole = () if _partial(words) else ("--cov", "--cov-report=term", f"--cov-fail-under={LEAST_COVERAGE}", *_SLOWEST)
    return Check("tests", ("-m", "pytest", *_parallel(words), *whole, *words))


def _file(word: str) -> str:
    """Of “tests/a.py::test_b”."""
    return word.partition("::")[0]


def _parallel(words: Sequence[str]) -> tuple[str, ...]:
    alone = any(word.startswith(("-n", "--pdb")) for word in words)
    return () if alone else ("-n", PROCESSES, "--dist", "loadgroup")


def _partial(words: Sequence[str]) -> bool:
    """Are only some of the tests asked for?"""
    return any(not word.startswith("-") for word in words) or any(word.startswith(("-k", "-m")) for word in words)
