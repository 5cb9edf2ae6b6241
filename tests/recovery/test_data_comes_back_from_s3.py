"""A repository in a bucket: back up, prove, lose, recover, compare."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from backups.models import Repository, Source, Storage, VerificationState
from backups.services import storages, verifications
from recovery.models import RecoveryState
from tests.backups import stories
from tests.recovery.stories import asked, backed_up, done, tree
from tests.servers.s3 import BUCKET, S3Server


@pytest.fixture(params=["supported", "required"])
def storage(transactional_db: None, by: Actor, s3_server: S3Server, request: pytest.FixtureRequest) -> Storage:
    """A prefix in a bucket, with both ways of checksums."""
    return storages.create("bucket", "s3", s3_server.options(checksums=request.param), by=by)


def test_it_brings_everything_back(source: Source, heavy: Path, target: Path, by: Actor) -> None:
    (heavy / "noise").write_bytes(os.urandom(3 << 20))
    backup, before = backed_up(by, source), tree(heavy)
    (check,) = verifications.request(backup, level=2, by=by)
    stories.work()
    shutil.rmtree(heavy)

    recovery = done(asked(by, backup, target))

    check.refresh_from_db()
    assert (check.state, check.problems_count) == (VerificationState.PASSED, 0)
    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert tree(target) == before


def test_a_lost_object_is_found(source: Source, repository: Repository, by: Actor, s3_server: S3Server) -> None:
    backup = backed_up(by, source)
    client, prefix = s3_server.client(), repository.storage.options["prefix"]
    pack = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/packs/")["Contents"][0]["Key"]
    client.delete_object(Bucket=BUCKET, Key=pack)
    (check,) = verifications.request(backup, level=1, by=by)

    stories.work()

    check.refresh_from_db()
    assert check.state == VerificationState.FAILED
    assert pack.endswith(check.problems[0]["object"])
