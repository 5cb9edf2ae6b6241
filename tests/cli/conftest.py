"""One console for all tests of the command line that need a running one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.console import Console


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Running, with its first account; whoever disturbs it waits until it has recovered."""
    console = Console(tmp_path_factory.mktemp("console") / "home")
    yield console
    if console.process.poll() is None:
        console.stop()
