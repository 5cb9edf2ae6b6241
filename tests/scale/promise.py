"""What every page keeps at the full size, and what one took. Free of Django: the proof has no settings."""

from __future__ import annotations

from typing import NamedTuple

QUERIES, MILLISECONDS = 30, 300
SCRAPE = "metrics"  # no list for people: Prometheus reads all series of all sources, twice a minute
SCRAPE_MILLISECONDS = 1000  # of the ten seconds that it waits


class Cost(NamedTuple):
    """What a page took."""

    name: str
    queries: int
    milliseconds: float
    processor: float  # milliseconds of this process alone, whatever else the machine does

    @property
    def kept(self) -> bool:
        """Within the promise?"""
        return self.queries <= QUERIES and self.milliseconds <= self.limit

    @property
    def limit(self) -> int:
        """Milliseconds."""
        return SCRAPE_MILLISECONDS if self.name.rpartition(", ")[2] == SCRAPE else MILLISECONDS
