"""The figures of an area as docs/proof/AREA.md for people and AREA.json for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aihub_backup.cli import output
from aihub_backup.cli.proof_journal import Journal


def write_report(directory: Path, area: str, proofs: Sequence[Any], journal: Journal) -> bool:
    """Write both files. True when every case of every proof ran and passed."""
    rows = [_row(proof, journal.lines(proof.id)) for proof in proofs]
    complete = all(row["passed"] == row["count"] for row in rows)
    report = {"area": area, "proved": complete, "at": _today(), "machine": _machine(), "proofs": rows}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{area}.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (directory / f"{area}.md").write_text(_page(report))
    output.say(f"{directory / area}.md: {'all proved' if complete else 'not everything is proved yet'}")
    return complete


def _row(proof: Any, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    lines = [line for line in lines if line["case"] < proof.count]
    failed = [line for line in lines if not line["ok"]]
    return {
        "id": proof.id,
        "title": proof.title,
        "count": proof.count,
        "passed": len(lines) - len(failed),
        "failed": [{"case": line["case"], "error": line["error"]} for line in failed],
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "commits": sorted({line["commit"] for line in lines if line["commit"]}),
        "figures": _figures(lines),
    }


def _figures(lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Least, median and greatest of each figure."""
    names = dict.fromkeys(name for line in lines for name in line["figures"])
    values = {name: [line["figures"][name] for line in lines if name in line["figures"]] for name in names}
    return {name: {"min": min(v), "median": statistics.median(v), "max": max(v)} for name, v in values.items()}


def _page(report: dict[str, Any]) -> str:
    head = [
        f"# Proof: {report['area']}",
        "",
        f"Written by `./aihub prove {report['area']}` on {report['at']}; {report['machine']}.",
        "",
        "| proof | what is tried | cases | passed | time |",
        "|---|---|---:|---:|---:|",
    ]
    rows = [
        f"| {row['id']} | {row['title']} | {row['count']} | {row['passed']} | {row['seconds']:.0f} s |"
        for row in report["proofs"]
    ]
    return "\n".join([*head, *rows, *_figure_table(report["proofs"]), *_failures(report["proofs"])]) + "\n"


def _figure_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"| {row['id']} | {name} | {_number(f['min'])} | {_number(f['median'])} | {_number(f['max'])} |"
        for row in rows
        for name, f in row["figures"].items()
    ]
    return ["", "| proof | figure | least | median | greatest |", "|---|---|---:|---:|---:|", *lines] if lines else []


def _failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"- {row['id']}, case {bad['case']}: {bad['error']}" for row in rows for bad in row["failed"]]
    return ["", "## Failed", "", *lines] if lines else []


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
