"""A console with one storage, one repository and one source, all of them real and in temporary directories.

Tests of the places themselves probe them; here that would only take time.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from aihub_backup.core import jobs
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from backups.models import Backup, BackupPart, OwnProtection, Repository, Source, Storage
from backups.services import repositories, sources, storages
from backups.services.recovery_kits import RecoveryKit
from tests.backups.stories import ready
from tests.surroundings import of_this_database


@pytest.fixture
def by() -> Actor:
    """Who does everything here."""
    return Actor(None, "olivia", "user")


@pytest.fixture
def storage(transactional_db: None, by: Actor, tmp_path: Path) -> Storage:
    """A directory of this host."""
    return storages.create("disk", "local", {"path": str(tmp_path / "disk")}, by=by, test=False)


@pytest.fixture
def repository(storage: Storage, by: Actor) -> Repository:
    """Ready for backups."""
    return ready("main", storage, by=by).repository


@pytest.fixture
def kit(storage: Storage, by: Actor) -> RecoveryKit:
    """Of the first repository; nobody has proved it yet."""
    return repositories.create("main", storage, by=by)


@pytest.fixture
def own(kit: RecoveryKit, by: Actor) -> OwnProtection:
    """The console protects itself: what the proof of the first kit has led to. The backup that it asks for at once is
    taken back, so that every story makes its own."""
    repositories.prove_kit(kit.repository, kit.code, by=by)
    jobs.run(Job.objects.get().pk)
    for model in (BackupPart, Backup):
        model.objects.all().delete()
    Job.objects.filter(state=JobState.QUEUED).delete()
    return OwnProtection.objects.select_related("source", "schedule", "repository__storage").get()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Something worth keeping."""
    place = tmp_path / "data"
    place.mkdir()
    for number in range(20):
        (place / f"{number:02}.txt").write_text(f"file {number}\n" * 200)
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "er" / "blob").write_bytes(bytes(range(256)) * 2000)
    return place


@pytest.fixture
def source(repository: Repository, data: Path, by: Actor) -> Source:
    """The directory with the data."""
    return sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)


@pytest.fixture
def heavy(data: Path) -> Path:
    """Enough of it that worker processes are started and a run takes a moment."""
    lots = data / "lots"
    lots.mkdir()
    random = Random(7)
    for number in range(300):
        (lots / f"{number:03}").write_bytes(random.randbytes(60_000))
    return data


@pytest.fixture
def elsewhere() -> dict[str, str]:
    """The environment in which another process works on this test's database."""
    return of_this_database()
