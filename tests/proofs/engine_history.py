"""Long lives of a repository against a model."""

from __future__ import annotations

from hypothesis import seed

from tests.engine.test_history import History, live_through
from tests.proofs.registry import Case, Figures, proof

LIVES, STEPS = 12, 60  # of one case


@proof("engine", "histories", "backups, crashes, storms, forgetting, damage and healing against a model", count=60)
def histories(case: Case) -> Figures:
    """The same lives for the same case; what fails is told with the steps that lead there."""
    lives = type("Lives", (History,), {})
    live_through(LIVES, STEPS, seed(case.number)(lives))
    return {"steps": LIVES * STEPS}
