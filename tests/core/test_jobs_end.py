from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone
from pytest_django.fixtures import Settings

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.core.jobs import Lease, drain, machine
from aihub_backup.core.models import Job
from aihub_backup.core.redaction import remember
from tests.core.handlers import Scripted

pytestmark = pytest.mark.django_db(transaction=True)


def done(job: Job) -> Job:
    """The job after one attempt."""
    assert jobs.run(job.pk)
    job.refresh_from_db()
    return job


def fail_with(error: Exception) -> None:
    def script(_lease: Lease) -> NoReturn:
        raise error

    Scripted.script = script


def fail_while_committing(lease: Lease) -> NoReturn:
    lease.commit_guard()
    raise Failure("The storage went away.", permanent=False, code="storage-unavailable")


def due_again(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(not_before=timezone.now())


def test_a_job_that_returns_is_completed(queued: Job) -> None:
    job = done(queued)

    assert (job.state, job.lease_owner, job.lease_expires_at, job.error_code) == ("completed", "", None, "")
    assert job.finished_at is not None
    assert Scripted.told == ["run"]


def test_a_handler_may_finish_in_its_own_transaction(queued: Job) -> None:
    def script(lease: Lease) -> None:
        lease.commit_guard()
        with transaction.atomic():
            lease.finish()

    Scripted.script = script

    assert done(queued).state == "completed"


def test_a_finish_that_was_rolled_back_has_not_happened(queued: Job) -> None:
    def script(lease: Lease) -> None:
        with transaction.atomic():
            lease.finish()
            raise Failure("The last row did not fit.")

    Scripted.script = script

    assert done(queued).state == "failed"


def test_the_last_progress_is_kept(queued: Job) -> None:
    Scripted.script = lambda lease: lease.progress({"bytes_done": 5, "bytes_total": 10})

    assert done(queued).progress["ratio"] == 0.5


def test_a_permanent_failure_is_not_retried(queued: Job) -> None:
    remember(["tiger-lily"])
    fail_with(Failure("The password tiger-lily is wrong.", code="storage-refused"))

    job = done(queued)

    assert (job.state, job.error_code, job.error_permanent) == ("failed", "storage-refused", True)
    assert job.error_message == "The password *** is wrong."
    assert Scripted.told == ["run", "failed failed storage-refused"]


def test_a_passing_failure_is_retried_later_and_later(queued: Job) -> None:
    fail_with(Failure("Not now.", permanent=False, code="storage-unavailable"))

    first = done(queued).not_before - timezone.now()
    due_again(queued)
    second = done(queued).not_before - timezone.now()

    assert timedelta(seconds=25) < first <= timedelta(seconds=30)
    assert timedelta(seconds=55) < second <= timedelta(seconds=60)
    assert (queued.state, queued.error_code) == ("queued", "storage-unavailable")
    assert Scripted.told == ["run", "requeued queued storage-unavailable"] * 2


def test_the_pause_has_a_bound(settings: Settings) -> None:
    assert [machine.pause(attempts) for attempts in (0, 1, 2, 8, 30)] == [30, 30, 60, 3600, 3600]


def test_a_job_that_never_succeeds_fails_in_the_end(queued: Job) -> None:
    fail_with(Failure("Not now.", permanent=False))
    for _ in range(3):
        due_again(queued)
        done(queued)

    assert (queued.state, queued.attempts, queued.error_message) == ("failed", 3, "Not now.")
    assert Scripted.told[-1] == "failed failed failed"


def test_an_unforeseen_error_keeps_its_words_out_of_the_row(queued: Job) -> None:
    fail_with(ValueError("internal details"))

    job = done(queued)

    assert (job.state, job.error_code) == ("queued", "internal-error")
    assert "ValueError" in job.error_message
    assert "internal details" not in job.error_message


def test_an_error_that_knows_whether_it_is_permanent_is_believed(queued: Job) -> None:
    class StoreFull(Exception):
        permanent = True

    fail_with(StoreFull("No room is left."))

    job = done(queued)

    assert (job.state, job.error_code, job.error_message) == ("failed", "store-full", "No room is left.")


def test_success_wipes_the_error_of_the_attempt_before(queued: Job) -> None:
    fail_with(Failure("Not now.", permanent=False))
    done(queued)
    due_again(queued)
    Scripted.reset()

    job = done(queued)

    assert (job.state, job.error_code, job.error_message, job.attempts) == ("completed", "", "", 2)


def test_a_hook_that_breaks_does_not_leave_the_row_lying(queued: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_args: object) -> NoReturn:
        raise ValueError

    monkeypatch.setattr(Scripted, "failed", break_down)
    fail_with(Failure("No."))

    assert done(queued).state == "failed"


def test_an_end_is_written_even_when_the_database_restarts(queued: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PATIENCE", (0.01, 0.01))
    tries: list[Job] = []

    def stumble(_handler: object, job: Job, _failure: Failure) -> None:
        tries.append(job)
        if len(tries) < 3:
            raise OperationalError("server closed the connection")

    monkeypatch.setattr(Scripted, "failed", stumble)
    fail_with(Failure("No."))

    assert done(queued).state == "failed"
    assert len(tries) == 3


# --- committing -----------------------------------------------------------------------------------------------------


def test_an_attempt_that_stopped_while_committing_asks_what_happened(queued: Job) -> None:
    Scripted.script = fail_while_committing
    Scripted.settled = lambda job: job.state == "committing"

    assert done(queued).state == "completed"
    assert Scripted.told == ["run", "settle"]


def test_a_commit_that_did_not_happen_is_tried_again(queued: Job) -> None:
    Scripted.script = fail_while_committing

    assert done(queued).state == "queued"
    assert Scripted.told == ["run", "settle", "requeued queued storage-unavailable"]


def test_a_commit_nobody_can_tell_about_gets_more_attempts(queued: Job) -> None:
    def unreachable(_job: Job) -> NoReturn:
        raise Failure("The repository does not answer.", permanent=False)

    Scripted.script = fail_while_committing
    Scripted.settled = unreachable
    states = []
    for _ in range(6):
        due_again(queued)
        states.append(done(queued).state)

    assert states == ["queued"] * 5 + ["failed"]


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(queued: Job) -> None:
    jobs.cancel(queued, by=SYSTEM)

    assert (queued.state, queued.cancel_requested_by) == ("cancelled", "system")
    assert Scripted.told == ["cancelled cancelled"]
    assert not jobs.run(queued.pk)


def test_a_running_job_ends_when_it_looks(queued: Job, quick: Settings) -> None:
    def script(lease: Lease) -> None:
        jobs.cancel(Job.objects.get(), by=SYSTEM)
        assert Job.objects.get().state == "cancelling"
        while True:
            lease.check()

    Scripted.script = script

    assert done(queued).state == "cancelled"
    assert Scripted.told == ["run", "cancelled cancelled"]


def test_a_cancel_wins_against_the_commit_that_comes_after_it(queued: Job) -> None:
    def script(lease: Lease) -> None:
        jobs.cancel(Job.objects.get(), by=SYSTEM)
        lease.commit_guard()

    Scripted.script = script

    assert done(queued).state == "cancelled"


def test_a_cancel_wins_against_a_job_that_returns_without_looking(queued: Job) -> None:
    Scripted.script = lambda _lease: jobs.cancel(Job.objects.get(), by=SYSTEM)

    assert done(queued).state == "cancelled"


def test_a_cancel_wins_against_a_failure_that_comes_after_it(queued: Job) -> None:
    def script(_lease: Lease) -> None:
        jobs.cancel(Job.objects.get(), by=SYSTEM)
        raise Failure("Not now.", permanent=False)

    Scripted.script = script

    assert done(queued).state == "cancelled"


def test_asking_twice_is_harmless(queued: Job) -> None:
    jobs.claim(queued.pk)
    jobs.cancel(queued, by=SYSTEM)
    jobs.cancel(queued, by=SYSTEM)

    assert queued.state == "cancelling"


@pytest.mark.parametrize("state", ["committing", "completed", "failed"])
def test_after_the_point_of_no_return_a_cancel_is_refused(queued: Job, state: str) -> None:
    Job.objects.update(state=state)

    with pytest.raises(Refused, match="cannot be cancelled any more") as caught:
        jobs.cancel(queued, by=SYSTEM)
    assert caught.value.code == "not-cancellable"


def test_a_job_nobody_knows_any_more_can_be_cancelled(queued: Job, settings: Settings) -> None:
    settings.AIHUB_JOB_HANDLERS = {}

    jobs.cancel(queued, by=SYSTEM)

    assert queued.state == "cancelled"


# --- losing ---------------------------------------------------------------------------------------------------------


def silent_for_long(lease: Lease) -> None:
    lease._renewed -= 100


def test_a_holder_that_fenced_itself_gives_the_job_back(queued: Job) -> None:
    def script(lease: Lease) -> None:
        silent_for_long(lease)
        lease.check()

    Scripted.script = script

    job = done(queued)

    assert (job.state, job.error_code) == ("queued", "worker-lost")


def test_a_holder_that_fenced_itself_while_committing_leaves_the_question_to_the_watchdog(queued: Job) -> None:
    def script(lease: Lease) -> None:
        lease.commit_guard()
        silent_for_long(lease)
        lease.check()

    Scripted.script = script
    Scripted.settled = lambda _job: True

    assert done(queued).state == "committing"
    jobs.watchdog()

    queued.refresh_from_db()
    assert queued.state == "completed"


def test_a_holder_that_was_replaced_writes_nothing(queued: Job) -> None:
    def script(lease: Lease) -> None:
        Job.objects.update(lease_epoch=9)
        raise Failure("Too late.")

    Scripted.script = script

    assert done(queued).state == "running"
    assert Scripted.told == ["run"]


# --- draining -------------------------------------------------------------------------------------------------------


def test_a_stopping_worker_hands_its_job_back(queued: Job) -> None:
    def script(lease: Lease) -> None:
        drain.begin()
        lease.check()

    Scripted.script = script

    job = done(queued)

    assert (job.state, job.attempts, job.error_code) == ("queued", 0, "")
    assert job.not_before <= timezone.now()
    assert Scripted.told == ["run", "requeued queued worker-stopping"]


def test_a_committing_job_is_not_stopped(queued: Job) -> None:
    def script(lease: Lease) -> None:
        lease.commit_guard()
        drain.begin()
        lease.check()

    Scripted.script = script

    assert done(queued).state == "completed"


def test_a_stopping_worker_takes_no_new_job(queued: Job) -> None:
    drain.begin()

    assert not jobs.answer(queued.pk)
    assert (Job.objects.get().state, Job.objects.get().rung_at) == ("queued", None)
