"""`aihub prove AREA`: run the proofs of an area in full, case by case, and write their figures to docs/proof/.

Every finished case is one line in a journal, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aihub_backup.cli import output
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command
from aihub_backup.cli.proof_journal import Journal
from aihub_backup.cli.proof_report import write_report

ROOT = Path(__file__).resolve().parents[2]


def main(words: Sequence[str]) -> int:
    """Exit code 0 when every case of every proof of the area passed."""
    options = _parser().parse_args(words)
    sys.path.insert(0, str(ROOT))
    registry = importlib.import_module("tests.proofs.registry")
    proofs = _chosen(registry, options)
    journal = Journal(options.state or ROOT / "var" / "proof" / f"{options.area}.jsonl")
    if options.fresh:
        journal.clear()
    for proof in proofs:
        _run(registry, proof, min(options.count or proof.count, proof.count), journal)
    passed = write_report(options.report or ROOT / "docs" / "proof", options.area, registry.of(options.area), journal)
    if options.json:
        output.result_json({"area": options.area, "proved": passed})
    return Exit.OK if passed else Exit.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = command("prove")
    parser.add_argument(
        "area",
        help="api, browser, compaction, console, damage, endurance, engine, firststart, kills, pages, powercut …",
    )
    parser.add_argument("--only", metavar="ID", action="append", help="just this proof; may be repeated")
    parser.add_argument("--count", type=int, metavar="N", help="at most N cases of each proof, for a first look")
    parser.add_argument("--fresh", action="store_true", help="forget the cases of earlier runs")
    parser.add_argument("--state", type=Path, metavar="FILE", help="the journal (default: var/proof/AREA.jsonl)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="where the figures go (default: docs/proof)")
    return parser


def _chosen(registry: Any, options: argparse.Namespace) -> list[Any]:
    proofs = registry.of(options.area)
    if not proofs:
        known = ", ".join(registry.areas()) or "none"
        raise CommandFailed(f"there are no proofs for “{options.area}”; areas: {known}.", Exit.USAGE)
    unknown = set(options.only or []) - {proof.id for proof in proofs}
    if unknown:
        raise CommandFailed(f"{options.area} has no proof {', '.join(sorted(unknown))}.", Exit.USAGE)
    return [proof for proof in proofs if not options.only or proof.id in options.only]


def _run(registry: Any, proof: Any, count: int, journal: Journal) -> None:
    """The cases that have no line yet, or a failed one."""
    todo = [number for number in range(count) if not journal.passed(proof.id, number)]
    output.say(f"{proof.area}/{proof.id}: {proof.title} ({count - len(todo)} of {count} done before)")
    for number in todo:
        line = journal.record(proof.id, number, _case(registry, proof, number))
        if not line["ok"]:
            output.complain(f"{proof.id} case {number}: {line['error']}")


def _case(registry: Any, proof: Any, number: int) -> Callable[[Path], Any]:
    return lambda place: proof.run(registry.Case(proof.id, number, place))
