"""Deleting forgets, and only what may be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest
from django.db import connection
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.jobs import Lease
from backups.models import (
    Backup,
    BackupPart,
    BackupState,
    PartState,
    Repository,
    Source,
    Verification,
    VerificationState,
)
from backups.services import backups, deletion, policies, sources, verifications
from tests.backups import stories


@pytest.fixture
def pair(source: Source, by: Actor) -> tuple[Backup, Backup]:
    """Two recovery points of one source."""
    first = backups.request("files", by=by)
    stories.work()
    second = backups.request("incremental", by=by)
    stories.work()
    return backups.get(first.pk), backups.get(second.pk)


def test_a_base_goes_and_what_followed_it_stays_whole(
    pair: tuple[Backup, Backup], repository: Repository, data: Path, by: Actor, tmp_path: Path
) -> None:
    deleted = backups.delete(pair[0], by=by, reason="not needed")
    assert deleted.state == BackupState.DELETING

    stories.work()

    first, second = backups.get(pair[0].pk), stories.part_of(pair[1])
    assert (first.state, stories.part_of(first).state) == (BackupState.DELETED, PartState.DELETED)
    assert first.deleted_at
    assert list(stories.opened(repository).log.live) == [second.snapshot_id]
    assert stories.restored(second, data, tmp_path / "back") == stories.files(data)
    assert backups.restorable([stories.part_of(first)]) == (False, ["deleted"])


def test_the_last_point_of_a_source_stays(pair: tuple[Backup, Backup], by: Actor) -> None:
    backups.delete(pair[0], by=by)

    with pytest.raises(Refused, match="last restorable point of the source “docs”") as refusal:
        backups.delete(pair[1], by=by)

    assert refusal.value.code == "last-restorable-point"
    sources.archive(stories.part_of(pair[1]).source, by=by)
    assert backups.delete(backups.get(pair[1].pk), by=by).state == BackupState.DELETING


def test_a_damaged_point_does_not_count_as_one_that_is_left(pair: tuple[Backup, Backup], by: Actor) -> None:
    damaged = stories.part_of(pair[1])
    Verification.objects.create(
        part=damaged, storage=damaged.repository.storage, level=3, state=VerificationState.FAILED, problems_count=1,
        finished_at=timezone.now(),
    )  # fmt: skip

    with pytest.raises(Refused, match="last restorable point of the source “docs”"):
        backups.delete(pair[0], by=by)


def test_of_two_deletions_at_once_one_leaves_the_last_point(
    pair: tuple[Backup, Backup], by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_looked, real = Barrier(2), deletion._must_be_deletable

    def looked(backup: Backup, parts: Sequence[BackupPart]) -> None:
        real(backup, parts)
        with suppress(BrokenBarrierError):  # the other one waits for our transaction
            both_have_looked.wait(timeout=1)

    def delete(backup: Backup) -> str:
        try:
            return backups.delete(backup, by=by).state
        except Refused as refusal:
            return refusal.code
        finally:
            connection.close()

    monkeypatch.setattr(deletion, "_must_be_deletable", looked)
    with ThreadPoolExecutor(2) as pool:
        ends = sorted(pool.map(delete, pair))

    assert ends == [BackupState.DELETING, "last-restorable-point"]


def test_a_held_one_stays_until_the_hold_ends(pair: tuple[Backup, Backup], by: Actor) -> None:
    until = timezone.now() + timedelta(days=7)
    backups.hold(pair[0], until=until, by=by, reason="audit")

    with pytest.raises(Refused, match="is held until") as refusal:
        backups.delete(pair[0], by=by)

    assert refusal.value.code == "on-hold"
    with pytest.raises(Invalid, match="would become shorter"):
        backups.hold(pair[0], until=until - timedelta(days=1), by=by)
    backups.release(pair[0], by=by)
    assert backups.delete(pair[0], by=by).state == BackupState.DELETING


def test_a_hold_in_the_past_is_a_mistake(pair: tuple[Backup, Backup], by: Actor) -> None:
    with pytest.raises(Invalid, match="ends in the future"):
        backups.hold(pair[0], until=timezone.now() - timedelta(seconds=1), by=by)


def test_an_immutable_one_stays(source: Source, by: Actor) -> None:
    sources.update(source, by=by, policy=policies.create("worm", by=by, immutable_days=3))
    backup = backups.request("files", by=by)
    stories.work()

    with pytest.raises(Refused) as refusal:
        backups.delete(backups.get(backup.pk), by=by)

    assert refusal.value.code == "immutable"


def test_of_several_policies_each_protects_its_own_source(source: Source, by: Actor, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = sources.create("more", "files", {"paths": [str(tmp_path / "more")]}, by=by, test=False)
    sources.update(source, by=by, policy=policies.create("worm", by=by, immutable_days=3))
    sources.update(other, by=by, policy=policies.create("free", by=by))
    backup = backups.request("full", by=by)
    stories.work()

    with pytest.raises(Refused, match="“worm” keeps this backup of “docs” immutable") as refusal:
        backups.delete(backups.get(backup.pk), by=by)

    assert backup.policy is None
    assert refusal.value.code == "immutable"


def test_one_that_is_being_verified_stays(pair: tuple[Backup, Backup], by: Actor) -> None:
    verifications.request(pair[0], level=1, by=by)

    with pytest.raises(Refused) as refusal:
        backups.delete(pair[0], by=by)

    assert refusal.value.code == "in-use"


def test_an_active_one_is_cancelled_instead(source: Source, by: Actor) -> None:
    backup = backups.request("files", by=by)

    assert backups.delete(backup, by=by).state == BackupState.CANCELLED


def test_one_that_never_stored_anything_goes_at_once(source: Source, by: Actor) -> None:
    backup = backups.cancel(backups.request("files", by=by), by=by)

    assert backups.delete(backup, by=by).state == BackupState.DELETED
    with pytest.raises(Refused) as refusal:
        backups.delete(backups.get(backup.pk), by=by)
    assert refusal.value.code == "backup-deleted"


def test_a_forgetting_that_fails_can_be_asked_for_again(
    pair: tuple[Backup, Backup], repository: Repository, by: Actor
) -> None:
    place = Path(repository.storage.options["path"])
    place.rename(place.with_name("unmounted"))
    backups.delete(pair[0], by=by)
    for _ in range(3):
        stories.hurry()
        stories.work()
    assert stories.part_of(pair[0]).error_code == "storage-unavailable"
    place.with_name("unmounted").rename(place)

    backups.delete(backups.get(pair[0].pk), by=by)
    stories.work()

    assert stories.part_of(pair[0]).state == PartState.DELETED
    assert stories.part_of(pair[0]).error is None


def test_a_forget_record_that_was_not_written_down_is_found(
    pair: tuple[Backup, Backup], repository: Repository, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backups.services import deletion

    real = deletion._close
    calls: list[None] = []

    def unlucky(part: object) -> None:
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("killed here")
        real(part)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(deletion, "_close", unlucky)
    backups.delete(pair[0], by=by)

    stories.work()

    assert stories.part_of(pair[0]).state == PartState.DELETED
    assert len(stories.opened(repository).log.live) == 1


def test_a_lost_lease_forgets_nothing(
    pair: tuple[Backup, Backup], repository: Repository, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(lease: Lease) -> None:
        lease._taken_away = True
        lease.check()

    monkeypatch.setattr(Lease, "commit_guard", lost)
    backups.delete(pair[0], by=by)

    stories.work()

    assert len(stories.opened(repository).log.live) == 2
    assert stories.part_of(pair[0]).state == PartState.DELETING
