"""Every list of the console at 100,000 backups of 1,000 sources: at most 30 queries and 300 ms a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import PROJECT
from tests.servers import postgresql, production, program

_TOKEN = "m" * 40


@proof("pages", "sqlite", "each page of the admin and each list of the API, on SQLite", count=1)
def on_sqlite(case: Case) -> Figures:
    """The embedded default."""
    return _measured(case, {"AIHUB_DATABASE_URL": f"sqlite://{case.place / 'console.sqlite3'}"})


@proof("pages", "postgresql", "the same on PostgreSQL 18", count=1)
def on_postgresql(case: Case) -> Figures:
    """What production runs on."""
    try:
        return _measured(case, {"AIHUB_DATABASE_URL": production.address(postgresql.started(18))})
    finally:
        program.stop_all()


def _measured(case: Case, settings: Mapping[str, str]) -> Figures:
    """Figures of all pages. Those over the promise are counted and told: a failed case would tell no figures."""
    told = json.loads(_run(case, settings))
    figures: Figures = {"pages": len(told), "pages over 30 queries": 0, "pages over 300 ms": 0}
    for name, queries, milliseconds, processor in told:
        figures["pages over 30 queries"] += queries > 30
        figures["pages over 300 ms"] += milliseconds > 300
        figures[f"{name}: queries"] = queries
        figures[f"{name}: ms"] = round(milliseconds, 1)
        figures[f"{name}: ms of the web process"] = round(processor, 1)
    return figures


def _run(case: Case, settings: Mapping[str, str]) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIHUB_", "DJANGO_"))},
        "DJANGO_SETTINGS_MODULE": "aihub_backup.settings", "AIHUB_HOME": str(case.place / "home"),
        "AIHUB_MODE": "embedded", "AIHUB_ENV_FILE": os.devnull, "AIHUB_METRICS_TOKEN": _TOKEN, **settings,
    }  # fmt: skip
    words = [sys.executable, "-m", "tests.scale.measure"]
    done = subprocess.run(words, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]
