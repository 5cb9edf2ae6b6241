"""What the foundation's tests share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from pytest_django.fixtures import Settings

from aihub_backup.core import jobs
from aihub_backup.core.models import Job
from tests.core.handlers import Scripted
from tests.surroundings import of_this_database


@pytest.fixture(autouse=True)
def _fresh_script() -> Iterator[None]:
    Scripted.reset()
    yield
    Scripted.reset()


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Leases of two seconds instead of ninety, everything else in proportion."""
    settings.AIHUB_JOB_TICK_SECONDS = 0.05
    settings.AIHUB_JOB_HEARTBEAT_SECONDS = 0.2
    settings.AIHUB_JOB_FENCE_SECONDS = 1.0
    settings.AIHUB_JOB_LEASE_SECONDS = 2.0
    return settings


@pytest.fixture
def queued(transactional_db: None) -> Job:
    """A job nobody has taken yet."""
    return jobs.enqueue("scripted", queue="backup")


@pytest.fixture
def elsewhere() -> dict[str, str]:
    """The environment in which another process works on this test's database."""
    return of_this_database()


def eventually(true: Callable[[], object], within: float = 20.0) -> None:
    """Wait until it is true; fail when it is not in time (seconds)."""
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"not true within {within} s")
        time.sleep(0.05)
