"""What every page keeps at the full size, and what one took. Free of Django: the proof has no settings."""

from __future__ import annotations

from typing import NamedTuple

QUERIES, MILLISECONDS = 30, 300


class Cost(NamedTuple):
    """What a page took."""

    name: str
    queries: int
    milliseconds: float
    processor: float  # milliseconds of this process alone, whatever else the machine does

    @property
    def kept(self) -> bool:
        """Within the promise?"""
        return self.queries <= QUERIES and self.milliseconds <= MILLISECONDS
