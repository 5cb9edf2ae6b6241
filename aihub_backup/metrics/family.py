"""A series with its help and its samples: plain tuples, because a thousand sources have seventeen thousand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

Labels = tuple[str, ...]


class Family(NamedTuple):
    """`name` as its samples bear it; of a counter without “_total”."""

    name: str
    told: str
    kind: str  # gauge or counter
    labels: Labels
    samples: list[tuple[Labels, float]]


def gauge(name: str, told: str, labels: Labels, samples: Iterable[tuple[Labels, float]]) -> Family:
    """What goes up and down."""
    return Family(name, told, "gauge", labels, list(samples))


def counter(name: str, told: str, labels: Labels, counts: Mapping[Labels, int]) -> Family:
    """What only grows; the name without “_total”."""
    return Family(name, told, "counter", labels, list(counts.items()))


def moment(value: datetime | None) -> float:
    """Seconds since 1970; 0 = never."""
    return value.timestamp() if value else 0.0
