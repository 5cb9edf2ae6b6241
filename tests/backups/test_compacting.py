"""The console gives back the space that only forgotten backups needed, and never while somebody may need it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from aihub_backup.core import jobs
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from backups.models import BackupPart, Repository, RepositoryState, Source, VerificationState
from backups.services import adopting, backups, compacting, keyring, usage, verifications
from tests.backups import stories


@pytest.fixture
def wasteful(source: Source, data: Path, by: Actor, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository most of which only a deleted backup needed."""
    monkeypatch.setattr(compacting, "PATIENCE", 0.0)
    (data / "bulk").write_bytes(os.urandom(2_000_000))
    first = stories.back_up(source, by)
    (data / "bulk").unlink()
    stories.back_up(source, by)
    backups.delete(first, by=by)
    stories.work()
    repository: Repository = source.repository or Repository.objects.get()
    return repository


def stored(repository: Repository) -> int:
    """Bytes in its packs."""
    return sum(info.size for info in stories.opened(repository).store.list("packs/"))


def added(repository: Repository) -> int:
    """By all its backups, the deleted ones too."""
    parts = BackupPart.objects.filter(repository=repository).values_list("stored_bytes", flat=True)
    return sum(size or 0 for size in parts)


def somebody_at_work() -> Job:
    """A job that holds a lease, of a kind that may read any repository."""
    later = timezone.now() + timedelta(hours=1)
    return Job.objects.create(
        kind="recovery", queue="recovery", state=JobState.RUNNING, lease_epoch=4, lease_expires_at=later,
        lease_owner="elsewhere",
    )  # fmt: skip


def run(repository: Repository, by: Actor) -> Job:
    """One run, done by a worker."""
    job = compacting.request(repository, by=by)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.COMPLETED, job.error_message
    return job


def test_space_comes_back_and_what_is_left_restores(
    wasteful: Repository, source: Source, data: Path, by: Actor, tmp_path: Path
) -> None:
    before = stored(wasteful)

    job = run(wasteful, by)

    assert job.progress["freed"] >= 2_000_000
    assert stored(wasteful) < before - 2_000_000
    part = stories.part_of(backups.listing().filter(state="completed")[0])
    assert stories.restored(part, data, tmp_path / "back") == stories.files(data)
    assert stories.deeds()[-2:] == ["repository.compact", "repository.compacted"]


def test_what_a_repository_fills_is_measured_and_grows_by_what_is_added_then(
    wasteful: Repository, source: Source, data: Path, by: Actor
) -> None:
    run(wasteful, by)
    wasteful.refresh_from_db()
    before = added(wasteful)

    (data / "more").write_bytes(os.urandom(300_000))
    stories.back_up(source, by)

    assert usage.filled(wasteful, before) == (wasteful.measured_bytes or 0) < before
    now = added(wasteful)
    assert usage.filled(wasteful, now) - usage.filled(wasteful, before) == now - before > 300_000
    assert abs(usage.filled(wasteful, now) - stored(wasteful)) < 10_000  # index objects are no packs


def test_after_new_keys_nothing_is_left_under_the_old_ones_and_the_preview_foretells_it(
    wasteful: Repository, source: Source, data: Path, by: Actor, tmp_path: Path
) -> None:
    run(wasteful, by)
    keyring.rotate(wasteful, reason="a laptop was stolen", by=by)
    before = keyring.look(wasteful)

    foreseen = compacting.preview(wasteful)
    run(wasteful, by)

    assert before.packs > 0
    assert foreseen["outdated"] == foreseen["renewed"] == before.bytes
    assert (keyring.look(wasteful).packs, keyring.look(wasteful).bytes) == (0, 0)
    part = stories.part_of(backups.listing().filter(state="completed")[0])
    assert stories.restored(part, data, tmp_path / "back") == stories.files(data)


def test_what_was_given_back_is_missed_by_no_check_and_no_adoption(wasteful: Repository, by: Actor) -> None:
    run(wasteful, by)

    (backup,) = backups.listing().filter(state="completed")
    (check,) = verifications.request(backup, level=3, by=by)
    _, adoption = adopting.adopt(wasteful.storage, None, by=by)
    stories.work()

    check.refresh_from_db()
    adoption.refresh_from_db()
    assert (check.state, check.problems_count) == (VerificationState.PASSED, 0)
    assert (adoption.state, adoption.progress["points"], adoption.progress["damaged_count"]) == ("completed", 1, 0)


def test_a_preview_tells_the_bytes(wasteful: Repository) -> None:
    before = stored(wasteful)

    plan = compacting.preview(wasteful)

    assert plan["unused"] >= plan["freed"] > 1_900_000  # frames that hold something else, too, are carried whole
    assert plan["stored"] == before == stored(wasteful)


def test_while_somebody_is_at_work_packs_are_only_marked(wasteful: Repository, by: Actor) -> None:
    before, other = stored(wasteful), somebody_at_work()

    first = run(wasteful, by)
    second = run(wasteful, by)

    assert stored(wasteful) >= before
    assert first.progress["marked"] == second.progress["marked"] >= 2_000_000
    assert first.progress["holders"] == [[str(other.pk), 4]]


def test_when_they_have_ended_a_later_run_deletes_whoever_came_meanwhile(wasteful: Repository, by: Actor) -> None:
    before, other = stored(wasteful), somebody_at_work()
    run(wasteful, by)
    Job.objects.filter(pk=other.pk).update(state=JobState.COMPLETED)
    somebody_at_work()  # began behind the mark: nobody waits for it

    done = run(wasteful, by)

    assert done.progress["freed"] >= 2_000_000
    assert stored(wasteful) < before - 2_000_000


def test_a_lease_that_was_lost_counts_as_ended(wasteful: Repository, by: Actor) -> None:
    other = somebody_at_work()
    run(wasteful, by)
    Job.objects.filter(pk=other.pk).update(lease_epoch=5)  # the watchdog gave the job to somebody else

    assert run(wasteful, by).progress["freed"] >= 2_000_000


def test_a_backup_of_another_repository_is_not_waited_for(wasteful: Repository, by: Actor, source: Source) -> None:
    part = stories.part_of(backups.listing().filter(state="completed")[0])
    other = Repository.objects.create(name="other", storage=_another_storage(wasteful), state=RepositoryState.OK)
    type(part).objects.filter(pk=part.pk).update(repository=other)
    assert part.job is not None
    Job.objects.filter(pk=part.job.pk).update(state=JobState.RUNNING)

    assert compacting.at_work(wasteful, Job()) == []
    assert compacting.at_work(other, Job()) == [(str(part.job.pk), part.job.lease_epoch)]


def _another_storage(repository: Repository) -> Any:
    storage = repository.storage
    storage.pk, storage.name, storage._state.adding = None, "another", True
    storage.id = type(storage)().id
    storage.save()
    return storage


def test_of_two_requests_one_job_is_made(wasteful: Repository, by: Actor) -> None:
    first, second = compacting.request(wasteful, by=by), compacting.request(wasteful, by=by)

    assert first.pk == second.pk
    assert stories.deeds().count("repository.compact") == 1


def test_a_repository_that_is_not_to_be_written_is_left_alone(wasteful: Repository, by: Actor) -> None:
    wasteful.move_to(RepositoryState.RETIRED)

    for deed in (lambda: compacting.request(wasteful, by=by), lambda: compacting.preview(wasteful)):
        with pytest.raises(Refused, match="nothing is written to it"):
            deed()
    assert compacting.compact_due() == []


def test_a_job_whose_lease_was_lost_deletes_nothing(
    wasteful: Repository, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, job = stored(wasteful), compacting.request(wasteful, by=by)
    ordinary = compacting._Answers.to

    def robbed(answers: compacting._Answers, question: dict[str, Any]) -> bool:
        if question["what"] == "ended":
            Job.objects.filter(pk=job.pk).update(lease_epoch=99)
        return ordinary(answers, question)

    monkeypatch.setattr(compacting._Answers, "to", robbed)

    jobs.run(job.pk)

    assert stored(wasteful) >= before


@pytest.mark.parametrize("at", [1, 2, 4, 6])
def test_a_run_that_dies_somewhere_is_done_again(
    wasteful: Repository, source: Source, data: Path, by: Actor, tmp_path: Path, at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its runner asks before the mark, after it, before the sweep and at each step that deletes."""
    before, asked = stored(wasteful), list[str]()
    ordinary = compacting._Answers.to

    def killing(answers: compacting._Answers, question: dict[str, Any]) -> bool:
        asked.append(question["what"])
        if len(asked) == at:
            answers._lease._children[0].kill_group(grace=0)
        return ordinary(answers, question)

    monkeypatch.setattr(compacting._Answers, "to", killing)
    job = compacting.request(wasteful, by=by)
    jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error_code) == (JobState.QUEUED, "runner-died")
    part = stories.part_of(backups.listing().filter(state="completed")[0])
    assert stories.restored(part, data, tmp_path / "between") == stories.files(data)

    stories.hurry()
    stories.work()
    run(wasteful, by)

    left = stories.opened(wasteful).log.marks
    assert stored(wasteful) < before - 2_000_000 or left.marked  # those of the run that died wait for a day
    assert stories.restored(part, data, tmp_path / "back") == stories.files(data)


def test_it_can_be_cancelled_before_it_begins(wasteful: Repository, by: Actor) -> None:
    job = compacting.request(wasteful, by=by)

    compacting.cancel(wasteful, by=by)

    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    with pytest.raises(Refused, match="No space of “main” is being given back now"):
        compacting.cancel(wasteful, by=by)


# ------------------------------------------------------------------ once a day


def test_it_is_asked_for_once_a_day(wasteful: Repository) -> None:
    assert [job.target_id for job in compacting.compact_due()] == [wasteful.pk]
    assert compacting.compact_due() == []
    stories.work()
    assert compacting.compact_due() == []
    Job.objects.filter(kind=compacting.JOB).update(finished_at=timezone.now() - timedelta(hours=25))
    assert len(compacting.compact_due()) == 1


def test_it_is_asked_for_again_when_those_at_work_have_ended(wasteful: Repository) -> None:
    other = somebody_at_work()
    compacting.compact_due()
    jobs.run(Job.objects.get(kind=compacting.JOB).pk)
    Job.objects.filter(kind=compacting.JOB).update(finished_at=timezone.now() - compacting.AGAIN)
    assert compacting.compact_due() == []

    Job.objects.filter(pk=other.pk).update(state=JobState.COMPLETED)
    asked = compacting.compact_due()
    jobs.run(asked[0].pk)

    asked[0].refresh_from_db()
    assert asked[0].progress["freed"] >= 2_000_000
    Job.objects.filter(kind=compacting.JOB).update(finished_at=timezone.now() - compacting.AGAIN)
    assert compacting.compact_due() == []


def test_while_the_newest_marks_are_held_older_ones_ask_for_nothing(
    wasteful: Repository, source: Source, data: Path, by: Actor
) -> None:
    """A backup of hours: the marks that a run before it left were settled long ago."""
    first = somebody_at_work()
    run(wasteful, by)
    Job.objects.filter(pk=first.pk).update(state=JobState.COMPLETED)
    (data / "more").write_bytes(os.urandom(1_000_000))
    goes = stories.back_up(source, by)
    (data / "more").unlink()
    stories.back_up(source, by)
    backups.delete(goes, by=by)
    stories.work()
    somebody_at_work()
    run(wasteful, by)
    Job.objects.filter(kind=compacting.JOB).update(finished_at=timezone.now() - compacting.AGAIN)

    assert compacting.compact_due() == []


def test_a_run_that_failed_is_done_again_the_next_day(wasteful: Repository, by: Actor) -> None:
    other = somebody_at_work()
    run(wasteful, by)
    Job.objects.filter(pk=other.pk).update(state=JobState.COMPLETED)
    failed = compacting.request(wasteful, by=by)
    long_ago = timezone.now() - compacting.AGAIN
    Job.objects.filter(pk=failed.pk).update(state=JobState.FAILED, finished_at=long_ago)

    assert compacting.compact_due() == []
    Job.objects.filter(pk=failed.pk).update(finished_at=timezone.now() - compacting.EVERY)
    assert len(compacting.compact_due()) == 1


def test_an_empty_repository_is_not_looked_at(repository: Repository) -> None:
    assert compacting.compact_due() == []
