"""Long lives of a repository against a model."""

from __future__ import annotations

from hypothesis import seed

from tests.engine.test_history import History, live_through
from tests.engine.test_lives import Lives
from tests.proofs.registry import Case, Figures, proof

LIVES, STEPS = 12, 60  # of one case


@proof("engine", "histories", "backups, crashes, storms, forgetting, damage and healing against a model", count=60)
def histories(case: Case) -> Figures:
    """The same lives for the same case; what fails is told with the steps that lead there."""
    live_through(LIVES, STEPS, seed(case.number)(type("Histories", (History,), {})))
    return {"steps": LIVES * STEPS}


@proof("engine", "lives", "the same with consoles, copies, old caches, lying stores and crashes anywhere", count=60)
def lives(case: Case) -> Figures:
    """Longer ones: what went wrong long ago is told late."""
    live_through(LIVES, 5 * STEPS, seed(case.number)(type("MoreLives", (Lives,), {})))
    return {"steps": LIVES * 5 * STEPS}
