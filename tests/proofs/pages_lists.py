"""Every list of the console at 100,000 backups of 1,000 sources: at most 30 queries and 300 ms a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

from tests.proofs.registry import Case, Figures, Missed, proof
from tests.proofs.workshop import PROJECT
from tests.scale.promise import MILLISECONDS, QUERIES, Cost
from tests.servers import postgresql, production, program

_TOKEN = "m" * 40
LEAST = 200  # pages that are opened at least, by both people together


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
    """Figures of all pages. Missed: names every page over the promise."""
    costs = [Cost(*row) for row in json.loads(_run(case, settings))]
    assert len(costs) >= LEAST, f"only {len(costs)} pages were opened"
    figures: Figures = {"pages": len(costs), **{name: value for one in costs for name, value in _figures(one)}}
    over = [f"{one.name}: {one.queries} queries, {one.milliseconds:.0f} ms" for one in costs if not one.kept]
    if over:
        raise Missed(f"{len(over)} pages are over {QUERIES} queries or {MILLISECONDS} ms: {'; '.join(over)}", figures)
    return figures


def _figures(cost: Cost) -> Iterator[tuple[str, float]]:
    yield f"{cost.name}: queries", cost.queries
    yield f"{cost.name}: ms", round(cost.milliseconds, 1)
    yield f"{cost.name}: ms of the web process", round(cost.processor, 1)


def _run(case: Case, settings: Mapping[str, str]) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIHUB_", "DJANGO_"))},
        "DJANGO_SETTINGS_MODULE": "aihub_backup.settings", "AIHUB_HOME": str(case.place / "home"),
        "AIHUB_MODE": "embedded", "AIHUB_ENV_FILE": os.devnull, "AIHUB_METRICS_TOKEN": _TOKEN, **settings,
    }  # fmt: skip
    words = [sys.executable, "-m", "tests.scale.measure"]
    done = subprocess.run(words, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]
