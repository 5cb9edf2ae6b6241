"""Schemathesis at full length: every operation of the API, made-up questions, two callers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import PROJECT

EXAMPLES = 200  # of each operation: half of them as the document asks, half of them not
CALLERS = ("admin", "viewer")


@proof("api", "contract", "every operation asked 200 times by an admin and a viewer, as documented and not", count=2)
def contract(case: Case) -> Figures:
    """One caller each; every answer is one that the document tells."""
    told = json.loads(_asked(CALLERS[case.number], case).splitlines()[-1])
    assert not told["failures"], told["failures"]
    figures: dict[str, float] = {"operations": told["operations"], "questions": told["cases"]}
    return figures | {f"answered {status}": count for status, count in sorted(told["statuses"].items())}


def _asked(caller: str, case: Case) -> str:
    """By pytest, whose database is thrown away."""
    wanted = {"AIHUB_FUZZ_EXAMPLES": str(EXAMPLES // 2), "AIHUB_FUZZ_REPORT": str(case.place / "report.json")}
    words = ["tests/api/test_contract.py", "-k", caller, "-n0", "-q", "-o", "timeout=14400"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=PROJECT, env={**os.environ, **wanted}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    report = case.place / "report.json"
    assert report.exists(), done.stdout[-2000:]
    return report.read_text()
