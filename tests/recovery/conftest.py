"""The console of the backups' tests, with a finished backup and a place for what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from aihub_backup.core.audit import Actor
from backups.models import Backup, Source
from backups.services import sources
from tests.backups.conftest import by, data, elsewhere, heavy, repository, source, storage
from tests.recovery.stories import backed_up

__all__ = ["by", "data", "elsewhere", "heavy", "repository", "source", "storage"]


@pytest.fixture
def more(source: Source, tmp_path: Path, by: Actor) -> Source:
    """A second source, whose name is not one of a directory."""
    place = tmp_path / "more"
    place.mkdir()
    (place / "settings.yaml").write_text("answer: 42\n")
    (place / "notes").mkdir()
    (place / "notes" / "monday.md").write_text("# Monday\n")
    return sources.create("..more/things", "files", {"paths": [str(place)]}, by=by)


@pytest.fixture
def backup(source: Source, by: Actor) -> Backup:
    """The first source, backed up."""
    return backed_up(by, source)


@pytest.fixture
def both(source: Source, more: Source, by: Actor) -> Backup:
    """A recovery set of two sources."""
    return backed_up(by, source, more)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A place that does not exist yet; neither does the directory above it."""
    return tmp_path / "recovered" / "here"


@pytest.fixture
def impatient(settings: Settings) -> Settings:
    """Lost work is tried again at once."""
    settings.AIHUB_JOB_RETRY_SECONDS = 0.01
    settings.AIHUB_JOB_TICK_SECONDS = 0.05
    return settings
