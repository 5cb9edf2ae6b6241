"""What is written for Prometheus, held against the library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from aihub_backup.metrics import text
from aihub_backup.metrics.family import Family, counter, gauge

AWKWARD = ("plain", "", "生产", 'a "quoted" \\ name', "two\nlines", '{a="b"}')


@pytest.mark.parametrize(
    "number", [0, 1, 0.1, -2.5, 1_700_000_000.123456, 1e6, 123_456_789.0, 1e21, 3e-7, float("inf")]
)
@pytest.mark.parametrize("name", AWKWARD)
def test_it_writes_what_the_library_writes(name: str, number: float) -> None:
    families = [
        gauge("a_gauge", f"It tells {name}", ("source", "environment"), [((name, "z"), number), (("y", name), 2.0)]),
        counter("a_counter", "It \\ grows", ("b", "a"), {(name, "x"): int(min(number, 1e18))}),
        gauge("a_bare", "Without labels", (), [((), number)]),
        gauge("an_empty", "Without samples", ("source",), []),
    ]  # fmt: skip

    assert text.write(families) == generate_latest(_registry(families))


def _registry(families: list[Family]) -> CollectorRegistry:
    class Given(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from map(_of_the_library, families)

    registry = CollectorRegistry()
    registry.register(Given())
    return registry


def _of_the_library(family: Family) -> Metric:
    made = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
    told = made(family.name, family.told, labels=family.labels)
    for values, number in family.samples:
        told.add_metric(values, number)
    return told
