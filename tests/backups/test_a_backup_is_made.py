"""From the request to the recovery point."""

from __future__ import annotations

import os
import time
from pathlib import Path

from aihub_backup.core.audit import Actor
from aihub_backup.core.models.job import JobState
from backups.models import BackupState, Mode, PartState, Repository, Source, VerificationState
from backups.runner.backup import sweep
from backups.services import backups
from tests.backups import stories


def test_it_stores_what_is_there_and_says_so(source: Source, data: Path, by: Actor, tmp_path: Path) -> None:
    backup = backups.request("files", by=by, label="first")

    stories.work()

    backup.refresh_from_db()
    part = stories.part_of(backup)
    assert (backup.state, part.state, part.job and part.job.state) == ("completed", "completed", JobState.COMPLETED)
    assert part.size_bytes == sum(len(content) for content in stories.files(data).values())
    assert part.stored_bytes and part.items and part.data_as_of and part.log_record
    assert backups.restorable([part]) == (True, [])
    assert stories.restored(part, data, tmp_path / "back") == stories.files(data)
    assert stories.deeds()[-2:] == ["backup.request", "backup.part.completed"]


def test_an_incremental_one_reads_only_what_changed(source: Source, data: Path, by: Actor, tmp_path: Path) -> None:
    first = backups.request("full", by=by)
    stories.work()
    (data / "03.txt").write_text("changed")
    (data / "new.txt").write_text("new")

    second = backups.request("incremental", by=by)
    stories.work()

    part = stories.part_of(second)
    assert (part.mode, part.base_id) == (Mode.INCREMENTAL, stories.part_of(first).pk)
    assert part.stats["bytes_read"] < stories.part_of(first).stats["bytes_read"]
    assert (part.stats["new"], part.stats["removed"]) == (1, 0)
    assert stories.restored(part, data, tmp_path / "back") == stories.files(data)


def test_a_differential_one_compares_with_the_last_full_one(source: Source, data: Path, by: Actor) -> None:
    full = backups.request("full", by=by)
    stories.work()
    backups.request("incremental", by=by)
    stories.work()

    third = backups.request("differential", by=by)
    stories.work()

    assert stories.part_of(third).base_id == stories.part_of(full).pk


def test_an_incremental_one_without_a_base_is_a_full_one(source: Source, by: Actor) -> None:
    backup = backups.request("incremental", by=by)

    stories.work()

    assert (stories.part_of(backup).mode, stories.part_of(backup).base) == (Mode.FULL, None)


def test_a_full_one_reads_everything_again(source: Source, by: Actor) -> None:
    first = backups.request("full", by=by)
    stories.work()

    second = backups.request("full", by=by)
    stories.work()

    assert stories.part_of(second).stats["bytes_read"] == stories.part_of(first).stats["bytes_read"]
    assert (stories.part_of(second).stored_bytes or 0) < (stories.part_of(first).stored_bytes or 0)


def test_oddities_are_told_and_are_warnings(source: Source, data: Path, by: Actor) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(str(data / "odd.sock"))
        backup = backups.request("files", by=by)
        stories.work()

    part = stories.part_of(backup)
    assert part.state == PartState.COMPLETED_WITH_WARNINGS
    assert part.warnings_count == 1
    assert part.item_errors[0]["path"].endswith("odd.sock")


def test_it_is_verified_afterwards_when_asked(source: Source, by: Actor) -> None:
    backup = backups.request("files", by=by, verify=3)

    stories.work()

    check = stories.part_of(backup).verifications.get()
    assert (check.state, check.level, check.problems_count) == (VerificationState.PASSED, 3, 0)
    assert check.objects_checked and check.bytes_checked


def test_several_sources_are_one_recovery_set(source: Source, data: Path, by: Actor, tmp_path: Path) -> None:
    from backups.services import sources

    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("a")
    sources.create("more", "files", {"paths": [str(other)]}, by=by)

    backup = backups.request("full", by=by)
    stories.work()

    backup.refresh_from_db()
    assert sorted(part.source.name for part in backup.parts.all()) == ["docs", "more"]
    assert (backup.state, backup.environment) == (BackupState.COMPLETED, source.environment)


def test_one_bad_part_makes_it_partial(source: Source, data: Path, by: Actor, tmp_path: Path) -> None:
    from backups.services import sources

    sources.create("gone", "files", {"paths": [str(tmp_path / "nowhere")]}, by=by, test=False)

    backup = backups.request("files", by=by)
    stories.work()

    backup.refresh_from_db()
    assert backup.state == BackupState.PARTIAL
    bad = backup.parts.get(source__name="gone")
    assert (bad.error_code, bad.error_permanent) == ("source-not-ready", True)
    assert "nowhere" in bad.error_message


def test_it_takes_away_what_killed_writers_left(source: Source, repository: Repository, by: Actor) -> None:
    place = Path(repository.storage.options["path"])
    old, young = place / ".tmp-0011223344556677", place / "keys" / ".tmp-8899aabbccddeeff"
    for file, hours in ((old, 25), (young, 23)):
        file.write_bytes(b"half")
        os.utime(file, (time.time(), time.time() - hours * 3600))

    backups.request("files", by=by)
    stories.work()

    assert not old.exists()
    assert young.exists()


def test_no_backup_fails_because_of_leftovers(tmp_path: Path) -> None:
    assert sweep({"kind": "local", "options": {"path": str(tmp_path / "unmounted")}}) == 0
