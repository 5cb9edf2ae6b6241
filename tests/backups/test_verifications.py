"""Integrity checks find what is damaged and say what it harms."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, Refused
from backups.models import Backup, Repository, Source, Verification, VerificationState
from backups.services import backups, due, policies, sources, storages, verifications
from tests.backups import stories


@pytest.fixture
def backup(source: Source, data: Path, by: Actor) -> Backup:
    """One recovery point, with more data than names."""
    (data / "noise").write_bytes(os.urandom(300_000))
    backup = backups.request("files", by=by)
    stories.work()
    return backups.get(backup.pk)


def packs(repository: Repository) -> list[Path]:
    """The largest first: data packs before those of trees, which every level reads."""
    found = Path(repository.storage.options["path"], "packs").rglob("*/*")
    return sorted(found, key=lambda path: -path.stat().st_size)


def spoil(path: Path) -> None:
    """Flip one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_sound_point_passes(backup: Backup, by: Actor, level: int) -> None:
    (check,) = verifications.request(backup, level=level, by=by)

    stories.work()

    check.refresh_from_db()
    assert (check.state, check.problems_count, check.error) == (VerificationState.PASSED, 0, None)
    assert check.objects_checked
    assert verifications.latest(check.part) == check


@pytest.mark.parametrize(("level", "found"), [(1, False), (2, True), (3, True)])
def test_a_flipped_byte_is_found_by_those_who_read(
    backup: Backup, repository: Repository, by: Actor, level: int, found: bool
) -> None:
    spoil(packs(repository)[0])
    (check,) = verifications.request(backup, level=level, by=by)

    stories.work()

    check = verifications.get(check.pk)
    assert (check.state == VerificationState.FAILED) == found
    if found:
        assert check.problems[0]["object"].startswith("packs/")
        assert check.problems[0]["message"]
        assert backups.restorable([check.part]) == (False, ["damaged"])


def test_the_next_backup_heals_what_a_check_found_damaged(
    backup: Backup, repository: Repository, data: Path, by: Actor, tmp_path: Path
) -> None:
    spoil(packs(repository)[0])
    verifications.request(backup, level=2, by=by)
    stories.work()

    healed = backups.request("incremental", by=by)
    stories.work()

    (check,) = verifications.request(backups.get(healed.pk), level=3, by=by)
    stories.work()
    assert verifications.get(check.pk).problems == []
    assert stories.restored(stories.part_of(healed), data, tmp_path / "back") == stories.files(data)


def test_the_next_backup_relies_on_no_damaged_pack_however_few_problems_are_told(
    backup: Backup, repository: Repository, by: Actor
) -> None:
    """The list of problems is cut short; that of damaged packs never is."""
    spoilt = packs(repository)[0]
    spoil(spoilt)
    (check,) = verifications.request(backup, level=2, by=by)
    stories.work()

    Verification.objects.filter(pk=check.pk).update(problems=[])

    assert verifications.damaged_packs(repository) == [spoilt.name]


def test_a_missing_object_is_found_at_level_one(backup: Backup, repository: Repository, by: Actor) -> None:
    packs(repository)[0].unlink()
    (check,) = verifications.request(backup, level=1, by=by)

    stories.work()

    check.refresh_from_db()
    assert check.state == VerificationState.FAILED
    assert check.problems_count >= 1


def test_what_could_not_be_found_out_is_not_called_damage(backup: Backup, repository: Repository, by: Actor) -> None:
    place = Path(repository.storage.options["path"])
    place.rename(place.with_name("unmounted"))
    (check,) = verifications.request(backup, level=1, by=by)

    for _ in range(3):
        stories.hurry()
        stories.work()

    check = verifications.get(check.pk)
    assert (check.state, check.error_code) == (VerificationState.ERROR, "storage-unavailable")
    assert backups.restorable([check.part]) == (True, [])


def test_the_same_check_is_not_queued_twice(backup: Backup, by: Actor) -> None:
    first = verifications.request(backup, level=2, by=by)

    assert verifications.request(backup, level=2, by=by) == first
    assert Verification.objects.count() == 1


def test_a_check_looks_only_where_the_data_is(
    backup: Backup, repository: Repository, by: Actor, tmp_path: Path
) -> None:
    other = storages.create("disk 2", "local", {"path": str(tmp_path / "disk2")}, by=by, test=False)

    with pytest.raises(Invalid, match="“disk 2” holds nothing of “docs”") as refusal:
        verifications.request(backup, level=1, by=by, storage=other)

    assert set(refusal.value.errors) == {"storage"}
    (check,) = verifications.request(backup, level=1, by=by, storage=repository.storage)
    assert check.storage == repository.storage


def test_a_queued_check_is_cancelled(backup: Backup, by: Actor) -> None:
    (check,) = verifications.request(backup, level=2, by=by)

    verifications.cancel(check, by=by)

    assert check.state == VerificationState.CANCELLED
    with pytest.raises(Refused, match="cannot be cancelled any more"):
        verifications.cancel(check, by=by)


def test_a_running_check_is_cancelled(backup: Backup, by: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = verifications.request(backup, level=2, by=by)
    real = verifications._begun

    def begun_and_cancelled(job: object) -> Verification:
        found = real(job)  # type: ignore[arg-type]  # handed through
        verifications.cancel(verifications.get(found.pk), by=by)
        return found

    monkeypatch.setattr(verifications, "_begun", begun_and_cancelled)
    monkeypatch.setattr("backups.services.running.CANCEL_PATIENCE", 0.1)

    stories.work()

    check.refresh_from_db()
    assert check.state in (VerificationState.CANCELLED, VerificationState.PASSED)
    assert check.job and check.job.finished


def test_nothing_stored_is_nothing_to_verify(source: Source, by: Actor) -> None:
    queued = backups.request("files", by=by)

    with pytest.raises(Refused) as refusal:
        verifications.request(queued, level=1, by=by)

    assert refusal.value.code == "not-restorable"


def test_a_policy_has_points_proved_again_when_its_interval_is_over(backup: Backup, source: Source, by: Actor) -> None:
    assert due.verify_due() == []
    policy = policies.create("daily proof", by=by, verify_interval_hours=24, verify_level=2)
    sources.update(source, by=by, policy=policy)

    (check,) = due.verify_due()

    assert (check.level, check.part.source, due.verify_due()) == (2, source, [])
    stories.work()
    Verification.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert len(due.verify_due()) == 1


def test_a_shallow_check_does_not_keep_a_deep_promise(backup: Backup, source: Source, by: Actor) -> None:
    sources.update(source, by=by, policy=policies.create("deep", by=by, verify_interval_hours=24))
    verifications.request(backup, level=1, by=by)

    (check,) = due.verify_due()

    assert check.level == 3
