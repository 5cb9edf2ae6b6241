"""The pinned files can be installed by pip and by uv, today and after the next release of anything in them."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"


def pinned(name: str) -> dict[str, Requirement]:
    """The lines of a compiled file, by package."""
    lines = re.findall(r"^(\S.*?==\S+)(?: ; .*)? \\$", (REQUIREMENTS / name).read_text(), re.MULTILINE)
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


@pytest.mark.parametrize("name", ["runtime", "test"])
def test_it_pins_what_is_asked_for_with_its_version(name: str) -> None:
    pins = pinned(f"{name}.txt")
    asked = [line for line in (REQUIREMENTS / f"{name}.in").read_text().splitlines() if line[:1].isalpha()]

    for line in asked:
        wanted = Requirement(line)
        assert canonicalize_name(wanted.name) in pins, line
        assert not wanted.specifier or pins[canonicalize_name(wanted.name)].specifier == wanted.specifier, line


def test_it_pins_every_extra_that_another_package_asks_for() -> None:
    """Where only `coverage` is pinned and `coverage[toml]` asked for, pip takes the newest release and refuses it."""
    pins = pinned("test.txt")

    for name in pins:
        if name not in {canonicalize_name(found.name) for found in metadata.distributions()}:
            continue  # for another platform
        for wanted in map(Requirement, metadata.requires(name) or []):
            if wanted.extras and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                assert wanted.extras <= pins[canonicalize_name(wanted.name)].extras, f"{name} asks for {wanted}"
