"""How a proof is written down: a function that runs one numbered case, and how many cases make the proof.

@proof("engine", "killed-writer", "kill -9 of a writer at a random moment", count=60)
def killed_writer(case: Case) -> dict[str, float]:
    ...                            # an AssertionError or any other exception: this case failed
    return {"seconds": took}       # figures, if there is something to measure

Whoever measured before they failed raises `Missed`: then the report has the figures of the failed case, too.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]


class Missed(AssertionError):
    """What was measured is not what is claimed; `figures` are reported nevertheless."""

    def __init__(self, words: str, figures: Figures) -> None:
        super().__init__(words)
        self.figures = figures


@dataclass(frozen=True)
class Case:
    """One case: its number, a directory of its own (removed afterwards), and randomness that repeats."""

    proof: str
    number: int
    place: Path

    @property
    def random(self) -> random.Random:
        """The same numbers for the same case, today and in a year."""
        return random.Random(f"{self.proof}:{self.number}")


Run = Callable[[Case], Figures | None]


@dataclass(frozen=True)
class Proof:
    """What is claimed, how often it is tried, and how one case runs."""

    area: str
    id: str
    title: str
    count: int
    run: Run


_proofs: dict[tuple[str, str], Proof] = {}


def proof(area: str, name: str, title: str, *, count: int) -> Callable[[Run], Run]:
    """Register the function as the proof `name` of the area; names are unique in their area and never change."""

    def register(run: Run) -> Run:
        if (area, name) in _proofs:
            raise ValueError(f"there are two proofs {area}/{name}")
        _proofs[area, name] = Proof(area, name, title, count, run)
        return run

    return register


def areas() -> list[str]:
    """Areas that have modules here, by the first word of the module's name."""
    here = Path(__file__).parent
    return sorted({module.name.split("_")[0] for module in pkgutil.iter_modules([str(here)]) if "_" in module.name})


def of(area: str) -> list[Proof]:
    """All proofs of an area, after importing its modules."""
    here = Path(__file__).parent
    for module in pkgutil.iter_modules([str(here)]):
        if module.name.startswith(f"{area}_"):
            importlib.import_module(f"tests.proofs.{module.name}")
    return [found for (name, _), found in sorted(_proofs.items()) if name == area]
