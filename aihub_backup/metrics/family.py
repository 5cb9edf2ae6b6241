"""A series with its help, before it has samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Labels = tuple[str, ...]
Family = CounterMetricFamily | GaugeMetricFamily


def gauge(name: str, told: str, labels: Labels, samples: Iterable[tuple[Labels, float]]) -> Family:
    """What goes up and down."""
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def counter(name: str, told: str, labels: Labels, counts: Mapping[Labels, int]) -> Family:
    """What only grows; the name without “_total”."""
    family = CounterMetricFamily(name, told, labels=labels)
    for values, number in counts.items():
        family.add_metric(values, number)
    return family


def moment(value: datetime | None) -> float:
    """Seconds since 1970; 0 = never."""
    return value.timestamp() if value else 0.0
