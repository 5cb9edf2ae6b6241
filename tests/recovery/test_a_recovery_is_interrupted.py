"""Cancels, kills and faults: afterwards there is the old or the new, and nothing beside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.db import OperationalError, connection

from aihub_backup.core import jobs, processes
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models.job import JobState
from backups.models import Backup, Repository, RepositoryState, Source
from backups.runner import holding
from recovery.models import Recovery, RecoveryPart, RecoveryState
from recovery.services import recoveries, running, stages
from tests.backups.stories import hurry
from tests.backups.test_a_run_is_interrupted import group, kill, kill_one_of, later, put_off, started
from tests.recovery.stories import asked, backed_up, done, tree

__all__ = ["started"]

KILLS = 8


def fresh(recovery: Recovery) -> Recovery:
    """As the database has it now."""
    return recoveries.get(recovery.pk)


def nothing_is_left(place: Path) -> bool:
    """No stage below the place, and no directory on the way to a target that was not made."""
    left = list(place.rglob(".aihub-re*"))
    return not left and not (place / "recovered").exists()


@pytest.fixture
def big(source: Source, heavy: Path, by: Actor) -> Backup:
    """A backup whose recovery takes a moment."""
    return backed_up(by, source)


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt ends before the rename, when all is restored and has no name yet."""
    publish = stages.publish
    failing = [OperationalError("killed before the rename")]

    def unlucky(*arguments: Any) -> None:
        if failing:
            raise failing.pop()
        publish(*arguments)

    monkeypatch.setattr(stages, "publish", unlucky)


def test_it_ends_at_once_while_it_waits(backup: Backup, target: Path, tmp_path: Path, by: Actor) -> None:
    recovery = asked(by, backup, target)

    recoveries.cancel(recovery, by=by)

    assert fresh(recovery).state == RecoveryState.CANCELLED
    assert fresh(recovery).finished_at is not None
    assert done(recovery).state == RecoveryState.CANCELLED
    assert nothing_is_left(tmp_path)


def test_it_ends_in_the_middle_and_leaves_nothing(
    big: Backup, target: Path, tmp_path: Path, by: Actor, impatient: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = asked(by, big, target)
    restore = running.Run.restore

    def interrupted(run: running.Run) -> None:
        def cancel() -> None:
            recoveries.cancel(fresh(recovery), by=by, reason="wrong place")
            connection.close()

        thread = later(0.05, cancel)
        restore(run)
        thread.join()
        run.validate()

    monkeypatch.setattr(running.Run, "restore", interrupted)
    found = done(recovery)

    assert found.state == RecoveryState.CANCELLED
    assert found.job is not None and found.job.state == JobState.CANCELLED
    assert nothing_is_left(tmp_path)


def test_it_cannot_be_cancelled_after_its_end(backup: Backup, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target))

    with pytest.raises(Refused) as refusal:
        recoveries.cancel(recovery, by=by)

    assert refusal.value.code == "not-cancellable"


def test_killed_runners_leave_nothing_and_the_next_attempt_succeeds(
    big: Backup, heavy: Path, tmp_path: Path, by: Actor, started: list[processes.Child], impatient: object
) -> None:
    random, hit, begun = Random(5), 0, time.monotonic()
    assert done(asked(by, big, tmp_path / "undisturbed")).state == RecoveryState.COMPLETED
    usual = time.monotonic() - begun
    for number in range(KILLS):
        target = tmp_path / f"recovered-{number}"
        recovery = asked(by, big, target)
        killer = later(random.uniform(0.0, usual), partial(kill_one_of, started, len(started), random))

        found = done(recovery)
        put_off(killer)
        if found.state == RecoveryState.QUEUED:
            hit += 1
            assert found.error_code in ("runner-died", "worker-died")
            assert not target.exists()
            hurry()
            found = done(recovery)

        assert found.state == RecoveryState.COMPLETED, found.error
        assert tree(target) == tree(heavy)
        assert nothing_is_left(tmp_path)
    assert hit, "every kill came too late to prove anything"


def test_a_killed_worker_is_found_out_and_the_recovery_goes_on(
    big: Backup, heavy: Path, target: Path, tmp_path: Path, by: Actor, elsewhere: dict[str, str], impatient: object
) -> None:
    recovery = asked(by, big, target)
    assert recovery.job is not None
    code = f"import django; django.setup()\nfrom aihub_backup.core import jobs\njobs.run('{recovery.job.pk}')"
    worker = subprocess.Popen([sys.executable, "-c", code], env=elsewhere, process_group=0)
    while fresh(recovery).state != RecoveryState.RESTORING:
        assert worker.poll() is None
    kill([worker.pid])
    worker.wait()

    jobs.watchdog()
    assert fresh(recovery).state == RecoveryState.QUEUED
    assert not target.exists()
    hurry()
    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert tree(target) == tree(heavy)
    assert nothing_is_left(target.parent)
    assert not group(worker.pid)


def stage_of(recovery: Recovery) -> Path:
    """Where it is built up; none of its names is known before an attempt has begun."""
    return Path(fresh(recovery).stage)


def inodes(place: Path) -> dict[int, int]:
    """The files below a place: inode and bytes on the disk."""
    found = [path.lstat() for path in place.rglob("*") if path.is_file()]
    return {one.st_ino: one.st_blocks * 512 for one in found}


def broken_off(recovery: Recovery, started: list[processes.Child], size: int) -> dict[int, int]:
    """Let its runner be killed when so many bytes stand in the stage; what stood there then."""
    since, place = len(started), Path(recovery.target_path).parent

    def grown() -> bool:
        with contextlib.suppress(OSError):
            return sum(sum(inodes(stage).values()) for stage in place.glob(".aihub-recovery-*")) > size
        return False

    def strike() -> None:
        while not grown():
            time.sleep(0.002)
        kill([pid for child in started[since:] for pid in group(child.pid)])

    thread = later(0.0, strike)
    assert done(recovery).state == RecoveryState.QUEUED, "the kill came too late"
    thread.join()
    assert not os.path.lexists(recovery.target_path)
    return inodes(stage_of(recovery))


@pytest.fixture
def vast(source: Source, data: Path, by: Actor) -> Backup:
    """A backup that takes long enough to come back that one can aim."""
    random = Random(8)
    for number in range(128):
        (data / f"vast {number}").write_bytes(random.randbytes(1 << 20))
    return backed_up(by, source)


def test_a_recovery_that_was_killed_goes_on_where_it_was(
    vast: Backup, data: Path, tmp_path: Path, by: Actor, started: list[processes.Child], impatient: object
) -> None:
    recovery = asked(by, vast, tmp_path / "back")
    left = broken_off(recovery, started, 48 << 20)
    hurry()

    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert tree(tmp_path / "back") == tree(data)
    kept, size = found.parts.get().stats["kept"], found.size_bytes or 0
    assert kept >= size // 5, "little less than everything was fetched"
    same = set(left) & set(inodes(tmp_path / "back"))
    assert sum(left[inode] for inode in same) >= kept  # they are the very files that the first attempt has written
    assert nothing_is_left(tmp_path)


def test_what_stands_in_the_stage_is_proved_before_it_is_kept(
    vast: Backup, data: Path, tmp_path: Path, by: Actor, started: list[processes.Child], impatient: object
) -> None:
    recovery = asked(by, vast, tmp_path / "back")
    broken_off(recovery, started, 48 << 20)
    for path in list(stage_of(recovery).rglob("vast *")):
        path.write_bytes(bytes(path.stat().st_size))
    hurry()

    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert tree(tmp_path / "back") == tree(data)


def test_parts_that_are_whole_are_not_restored_once_more(
    both: Backup, target: Path, by: Actor, impatient: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore, restored = running.Run._restore, list[str]()

    def unlucky(run: running.Run, part: RecoveryPart, number: int) -> None:
        restored.append(part.place)
        if len(restored) == 2:  # what a killed runner may leave among the parts
            (Path(run.recovery.stage) / stages.TREE / ".aihub-restore-probe-1").mkdir()
            raise OperationalError("the database went away")
        restore(run, part, number)

    monkeypatch.setattr(running.Run, "_restore", unlucky)
    recovery = asked(by, both, target)
    assert done(recovery).state == RecoveryState.QUEUED
    hurry()

    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    places = [part.place for part in found.parts.all()]
    assert restored == [places[0], places[1], places[1]]
    assert sorted(path.name for path in target.iterdir()) == sorted(places)
    assert [part.stats["kept"] == part.stats["bytes"] for part in found.parts.all()] == [True, False]


def test_it_begins_anew_where_somebody_still_works(
    backup: Backup, data: Path, target: Path, by: Actor, impatient: object, unnamed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A runner that hangs in the kernel, of an attempt that was given up, cannot be killed."""
    monkeypatch.setattr(holding, "LOCK_PATIENCE", 0.1)
    recovery = asked(by, backup, target)
    assert done(recovery).state == RecoveryState.QUEUED
    before = stage_of(recovery)
    hanging = os.open(before, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(hanging, fcntl.LOCK_EX)
    hurry()

    found = done(recovery)

    os.close(hanging)
    assert found.state == RecoveryState.COMPLETED, found.error
    assert found.parts.get().stats["kept"] == 0
    assert tree(target) == tree(data)
    assert not before.exists()


def test_it_does_not_go_on_in_the_stage_of_another_recovery(
    backup: Backup, data: Path, tmp_path: Path, by: Actor, impatient: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the directory above may exchange two stages of ours."""
    validate, failing = running.Run.validate, [OperationalError("broken off")] * 2

    def unlucky(run: running.Run) -> None:
        if failing:
            raise failing.pop()
        validate(run)

    monkeypatch.setattr(running.Run, "validate", unlucky)
    one, other = (asked(by, backup, tmp_path / name) for name in ("one", "other"))
    for recovery in (one, other):
        assert done(recovery).state == RecoveryState.QUEUED
    first, second = stage_of(one), stage_of(other)
    first.rename(tmp_path / "aside")
    second.rename(first)
    hurry()

    found = done(one)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert found.parts.get().stats["kept"] == 0
    assert tree(tmp_path / "one") == tree(data)


def test_a_recovery_that_ends_while_it_waits_for_its_next_attempt_leaves_nothing(
    backup: Backup, target: Path, tmp_path: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_run: running.Run) -> None:
        raise OperationalError("the database went away")

    monkeypatch.setattr(running.Run, "validate", gone)
    recovery = asked(by, backup, target)
    assert done(recovery).state == RecoveryState.QUEUED
    assert stage_of(recovery).is_dir()

    recoveries.cancel(fresh(recovery), by=by)

    assert fresh(recovery).state == RecoveryState.CANCELLED
    assert fresh(recovery).left_behind == ""
    assert nothing_is_left(tmp_path)


def test_it_is_complete_when_only_the_rows_were_not_written(
    backup: Backup, data: Path, target: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = running._close
    failing = [OperationalError("the database went away")]

    def unlucky(*arguments: Any) -> None:
        if failing:
            raise failing.pop()
        close(*arguments)

    monkeypatch.setattr(running, "_close", unlucky)
    found = done(asked(by, backup, target))

    assert found.state == RecoveryState.COMPLETED, found.error
    assert tree(target) == tree(data)


def test_it_keeps_what_is_whole_when_the_name_was_not_given(
    backup: Backup, data: Path, target: Path, tmp_path: Path, by: Actor, unnamed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = asked(by, backup, target)
    assert done(recovery).state == RecoveryState.QUEUED
    assert not target.parent.exists()
    monkeypatch.setattr(running.Run, "_restore", lambda *_: pytest.fail("what is whole was restored once more"))
    hurry()

    assert done(recovery).state == RecoveryState.COMPLETED
    assert tree(target) == tree(data)
    assert not list(tmp_path.rglob(".aihub-re*"))


def test_it_touches_nothing_that_came_to_its_target_meanwhile(
    backup: Backup, target: Path, tmp_path: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = running.Run.validate

    def occupied(run: running.Run) -> None:
        validate(run)
        target.mkdir(parents=True)
        (target / "mine").write_text("hands off")

    monkeypatch.setattr(running.Run, "validate", occupied)
    found = done(asked(by, backup, target))

    assert found.state == RecoveryState.FAILED
    assert found.error_code == "target-incompatible"
    assert [path.name for path in target.iterdir()] == ["mine"]
    assert not list(tmp_path.rglob(".aihub-re*"))


def test_it_does_not_take_somebody_elses_directory_for_its_own(
    backup: Backup, target: Path, tmp_path: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = stages.publish

    def too_late(*arguments: Any) -> None:
        target.mkdir(parents=True)
        (target / "mine").write_text("hands off")
        publish(*arguments)

    monkeypatch.setattr(stages, "publish", too_late)
    found = done(asked(by, backup, target))

    assert (found.state, found.error_code) == (RecoveryState.FAILED, "target-busy")
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_it_is_complete_when_nobody_could_look_after_the_rename(
    backup: Backup, data: Path, target: Path, by: Actor, impatient: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_arguments: Any) -> None:
        raise OperationalError("the database went away")

    with monkeypatch.context() as broken:
        broken.setattr(running, "_close", gone)
        broken.setattr(running.RecoveryHandler, "settle", gone)
        recovery = asked(by, backup, target)
        assert done(recovery).state == RecoveryState.QUEUED
    hurry()
    found = done(recovery)

    assert found.state == RecoveryState.COMPLETED, found.error
    assert tree(target) == tree(data)


def packs(repository: Repository) -> list[Path]:
    """Data and tree packs, the largest first."""
    place = Path(repository.storage.options["path"])
    return sorted(place.glob("packs/*/*"), key=lambda path: path.stat().st_size, reverse=True)


def test_it_follows_no_link_that_came_after_it_judged(
    backup: Backup, target: Path, tmp_path: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = stages.publish

    def redirected(stage: stages.Stage, place: str) -> None:
        (tmp_path / "elsewhere").mkdir()
        target.parent.symlink_to(tmp_path / "elsewhere")
        publish(stage, place)

    monkeypatch.setattr(stages, "publish", redirected)
    found = done(asked(by, backup, target))

    assert found.state == RecoveryState.FAILED
    assert found.error_code == "target-busy"
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("step", ["restore", "validate", "publish"])
def test_it_does_not_go_on_in_a_stage_that_somebody_exchanged(
    backup: Backup, target: Path, tmp_path: Path, by: Actor, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whoever owns the directory above the stage may rename it, and lay a trap in its place."""
    treasure, next_step = tmp_path / "treasure", getattr(running.Run, step)
    treasure.mkdir()

    def trapped(run: running.Run) -> None:
        stage = Path(run.recovery.stage)
        stage.rename(tmp_path / "ours")
        stage.mkdir(mode=0o700)
        (stage / stages.TREE).symlink_to(treasure)
        next_step(run)

    monkeypatch.setattr(running.Run, step, trapped)
    found = done(asked(by, backup, target))

    assert found.state == RecoveryState.FAILED
    assert "Somebody exchanged" in found.error_message
    assert not os.path.lexists(target)
    assert not list(treasure.iterdir())


def test_it_refuses_to_begin_without_all_objects(
    big: Backup, repository: Repository, target: Path, tmp_path: Path, by: Actor
) -> None:
    packs(repository)[0].unlink()

    found = done(asked(by, big, target))

    assert found.state == RecoveryState.FAILED
    assert found.error_code == "not-restorable"
    assert packs(repository)[0].parent.parent.name in found.error_message or "missing" in found.error_message
    assert nothing_is_left(tmp_path)


def test_it_blocks_a_repository_whose_records_are_gone(
    backup: Backup, repository: Repository, target: Path, by: Actor
) -> None:
    recovery = asked(by, backup, target)
    for record in Path(repository.storage.options["path"]).glob("log/*/*"):
        if str(record).endswith(tuple(name[-20:] for name in Repository.objects.get().anchors)):
            record.unlink()

    found = done(recovery)

    assert (found.state, found.error_code) == (RecoveryState.FAILED, "tampered")
    assert Repository.objects.get().state == RepositoryState.TAMPERED


def test_it_leaves_out_what_is_damaged_and_says_so(
    big: Backup, heavy: Path, repository: Repository, target: Path, by: Actor
) -> None:
    pack = packs(repository)[0]
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)

    found = done(asked(by, big, target))

    assert found.state == RecoveryState.COMPLETED_WITH_WARNINGS, found.error
    lost = set(tree(heavy)) - set(tree(target))
    assert lost
    assert found.errors_count == len(lost)
    assert all(facts == tree(heavy)[name] for name, facts in tree(target).items() if facts[0] == "file")
    assert {error["path"] for part in found.parts.all() for error in part.item_errors} == lost


def test_it_does_not_keep_what_fails_the_validation(
    backup: Backup, target: Path, tmp_path: Path, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = running.Run.restore

    def spoiled(run: running.Run) -> None:
        restore(run)
        (Path(stages.tree(run.recovery.stage)) / "00.txt").write_text("something else")

    monkeypatch.setattr(running.Run, "restore", spoiled)
    found = done(asked(by, backup, target))

    assert found.state == RecoveryState.FAILED
    assert "did not pass the validation, so it was not kept: docs (read back)" in found.error_message
    assert [finding["passed"] for finding in found.findings] == [False]
    assert "00.txt" in str(found.findings) and "00.txt" not in found.error_message  # names: for those who may browse
    assert nothing_is_left(tmp_path)
