"""Real programs that tests need. Missing on a developer's machine: a visible skip. Missing in CI: a failure."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest


def needs(program: str, package: str = "") -> str:
    """The path of the program. `package` is what Debian calls what brings it, for the sentence."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is not installed (apt-get install {package or program})")
    return str(found)


def needs_module(name: str) -> None:
    """A Python module of requirements/test.txt is there."""
    if importlib.util.find_spec(name) is None:
        missing(f"the Python module {name} is not installed (./aihub test installs it)")


def needs_root() -> None:
    """The test runs as root: devices, mounts, foreign owners."""
    if os.geteuid() != 0:
        missing("this needs root")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def missing(reason: str) -> None:
    """Fail in CI, skip elsewhere."""
    if in_ci():
        pytest.fail(f"{reason}; in CI every component has to be there.")
    pytest.skip(reason)


def open_the_way(place: Path) -> None:
    """Let accounts without privileges pass from the directory for temporary files down to place."""
    top = Path(tempfile.gettempdir())
    for path in (place, *place.parents):
        if path == top or top not in path.parents:
            return
        path.chmod(0o755)
