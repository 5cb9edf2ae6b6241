"""The text format, written quickly.

The library makes an object of each sample and looks at each name of a label again, of which a console with a thousand
sources has seventeen thousand. A test holds what is written here against the library, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client.utils import floatToGoString

from aihub_backup.metrics.family import Family, Labels


def write(families: Iterable[Family]) -> bytes:
    """Gauges and counters in the text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""
    return "".join(map(_lines, families)).encode()


def _lines(family: Family) -> str:
    name = f"{family.name}_total" if family.kind == "counter" else family.name
    told = family.told.replace("\\", r"\\").replace("\n", r"\n")
    samples = [f"{name}{_written(family.labels, values)} {_number(number)}\n" for values, number in family.samples]
    return "".join([f"# HELP {name} {told}\n# TYPE {name} {family.kind}\n", *samples])


@lru_cache(maxsize=10_000)  # most are small counts
def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types here


@lru_cache(maxsize=20_000)  # a source is named in twelve families
def _written(names: Labels, values: Labels) -> str:
    """In braces, in the order of their names; nothing where there are none."""
    pairs = ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(zip(names, values, strict=True))])
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
