"""Console one is lost; console two has the storage and one secret, and has every backup again."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.models.job import JobState
from backups.models import Backup, Storage
from backups.services import storages, verifications
from recovery.models import RecoveryState
from tests.adopting.stories import FirstConsole, adopted, lost, remembered
from tests.backups import stories
from tests.recovery.stories import asked, done, tree
from tests.servers.s3 import S3Server


@pytest.fixture(params=["local", "s3"])
def storage(transactional_db: None, by: Actor, tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    """A directory, and a prefix in a bucket."""
    if request.param == "local":
        return storages.create("disk", "local", {"path": str(tmp_path / "disk")}, by=by)
    server: S3Server = request.getfixturevalue("s3_server")
    return storages.create("bucket", "s3", server.options(), by=by)


def test_it_has_every_row_again_and_what_they_hold(
    first: FirstConsole, storage: Storage, by: Actor, target: Path
) -> None:
    lost()

    _repository, job = adopted(storage, first.code, by)

    assert job.state == JobState.COMPLETED, job.error_message
    assert remembered() == first.rows
    assert job.progress["points"] == 4
    for number, (backup, before) in enumerate(first.trees.items()):
        parts = {part.source.name: part.pk for part in Backup.objects.get(pk=backup).parts.all()}
        recovery = done(asked(by, Backup.objects.get(pk=backup), target / str(number)))
        assert recovery.state == RecoveryState.COMPLETED, recovery.error
        place = target / str(number) / "docs" if len(parts) > 1 else target / str(number)
        assert tree(place) == before
    checks = verifications.request(Backup.objects.get(pk=next(iter(first.trees))), level=3, by=by)
    stories.work()
    assert {verifications.get(check.pk).state for check in checks} == {"passed"}
