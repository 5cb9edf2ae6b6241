"""Storages that are full or read-only, on real mounts: told in one sentence, and nothing of the attempt is visible."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from backups.models import PartState, Repository, Source, Storage
from backups.services import backups, repositories, storages
from tests.backups import stories

pytestmark = pytest.mark.root


def _mount(*arguments: str) -> None:
    """Mount, or skip visibly where this process may not."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")


@pytest.fixture
def small(transactional_db: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", "size=4m", "aihub-test", str(place))
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def storage(small: Path, by: Actor) -> Storage:
    """A directory on it."""
    return storages.create("disk", "local", {"path": str(small / "store")}, by=by)


def test_a_full_storage_fails_the_run_and_the_next_one_succeeds_with_more_room(
    source: Source, repository: Repository, small: Path, data: Path, by: Actor
) -> None:
    (data / "big").write_bytes(os.urandom(6_000_000))
    backup = backups.request("files", by=by)

    stories.work()

    part = stories.part_of(backup)
    assert (part.state, part.error_code, part.error_permanent) == (PartState.FAILED, "storage-full", True)
    assert "room" in part.error_message or "full" in part.error_message
    assert not stories.opened(repository).snapshots
    _mount("-o", "remount,size=40m", str(small))
    again = backups.request("files", by=by)
    stories.work()
    assert stories.part_of(again).state == PartState.COMPLETED


def test_a_read_only_storage_fails_the_run(source: Source, repository: Repository, small: Path, by: Actor) -> None:
    _mount("-o", "remount,ro", str(small))
    backup = backups.request("files", by=by)

    stories.work()

    part = stories.part_of(backup)
    assert (part.state, part.error_code) == (PartState.FAILED, "storage-read-only")
    assert "read-only" in part.error_message


def test_a_read_only_place_is_refused_as_a_storage(small: Path, by: Actor) -> None:
    _mount("-o", "remount,ro", str(small))

    with pytest.raises(Failure) as refusal:
        storages.create("disk", "local", {"path": str(small / "store")}, by=by)

    assert refusal.value.code == "storage-read-only"
    assert not Storage.objects.exists()


def test_a_place_that_became_read_only_takes_no_repository(storage: Storage, small: Path, by: Actor) -> None:
    _mount("-o", "remount,ro", str(small))

    with pytest.raises(Failure) as refusal:
        repositories.create("main", storage, by=by)

    assert refusal.value.code == "storage-read-only"
    assert not Repository.objects.exists()
    _mount("-o", "remount,rw", str(small))
    assert repositories.create("main", storage, by=by).code
