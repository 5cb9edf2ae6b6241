"""What adoption refuses, what it says, and what stays as it is when it is interrupted or done again."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.jobs import LostLease, machine
from aihub_backup.core.models import AuditEvent, Job
from aihub_backup.core.models.job import JobState
from backups import engine
from backups.models import Backup, BackupPart, PartState, Policy, Repository, RepositoryState, Source, Storage
from backups.services import adopted as written
from backups.services import adopting, backups, facts, policies, repositories, running, sources, storages
from tests.adopting.stories import FirstConsole, adopted, lost, remembered
from tests.backups import stories
from tests.recovery.stories import backed_up


def asked(storage: Storage, by: Actor, code: str, **more: Any) -> Failure:
    """The refusal."""
    with pytest.raises(Failure) as refused:
        adopting.adopt(storage, adopting.key(recovery_code=code), by=by, **more)
    return refused.value


# --- what is refused --------------------------------------------------------------------------------------------------


def test_another_secret_is_refused_and_leaves_nothing(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    refusal = asked(storage, by, engine.new_recovery_code(), take_over=True)

    assert refusal.code == "wrong-secret"
    assert "recovery code is wrong" in refusal.message
    assert not Repository.objects.exists()


def test_a_mistyped_code_says_what_is_wrong_with_it(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()

    refusal = asked(storage, by, lone.code[:-1], take_over=True)

    assert "it has 56 letters, 55 were given" in refusal.message
    assert lone.code[:-1] not in refusal.message


@pytest.mark.parametrize(("given", "field"), [
    ({}, "recovery_code"), ({"recovery_code": "a", "passphrase": "b"}, "passphrase"), ({"keyfile": "…"}, "keyfile"),
])  # fmt: skip
def test_one_secret_has_to_be_given(given: dict[str, str], field: str, storage: Storage, by: Actor) -> None:
    with pytest.raises(Invalid) as refused:
        adopting.adopt(storage, adopting.key(**given), by=by)

    assert list(refused.value.errors) == [field]


def test_a_directory_of_something_else_is_refused(storage: Storage, by: Actor, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(exist_ok=True)
    (tmp_path / "disk" / "holiday.jpg").write_bytes(b"no repository")

    refusal = asked(storage, by, engine.new_recovery_code())

    assert "There is no store of ours in the directory" in refusal.message
    assert not Repository.objects.exists()


def test_a_newer_format_is_refused(lone: FirstConsole, storage: Storage, by: Actor, tmp_path: Path) -> None:
    lost()
    (slot,) = [path for path in (tmp_path / "disk" / "keys").iterdir() if b'"recovery"' in path.read_bytes()][:1]
    newer = slot.read_bytes().replace(b'"format":1', b'"format":3')
    (slot.parent / hashlib.sha256(newer).hexdigest()).write_bytes(newer)

    refusal = asked(storage, by, lone.code, take_over=True)

    assert "format 3; this version reads up to 2. Upgrade first." in refusal.message


def test_a_console_that_may_be_at_work_has_to_be_taken_over(
    lone: FirstConsole, storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost()

    refusal = asked(storage, by, lone.code)

    assert refusal.code == "another-console"
    assert "may still be at work. Stop it, or take the repository over" in refusal.message
    assert not Repository.objects.exists()
    monkeypatch.setattr(adopting, "STILL_WRITING", timedelta(0))  # an hour later
    adopting.adopt(storage, adopting.key(recovery_code=lone.code), by=by)


def test_its_own_repository_is_nobody_elses_whatever_its_address_is(
    lone: FirstConsole, storage: Storage, by: Actor, settings: Settings
) -> None:
    settings.AIHUB_PUBLIC_URL = "http://127.0.0.1:8123"

    repository, job = adopting.adopt(storage, None, by=by)
    stories.work()

    job.refresh_from_db()
    assert (repository.pk, job.state) == (Repository.objects.get().pk, JobState.COMPLETED)


def test_a_copy_of_one_of_ours_is_refused(lone: FirstConsole, by: Actor, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    copy = storages.create("copy", "local", {"path": str(tmp_path / "copy")}, by=by, test=False)

    refusal = asked(copy, by, lone.code, take_over=True)

    assert refusal.code == "place-taken"
    assert "which this console keeps in the storage “disk”" in refusal.message


# --- what becomes of the old console ----------------------------------------------------------------------------------


def test_the_console_that_was_taken_over_writes_no_more(
    lone: FirstConsole, storage: Storage, source: Source, by: Actor
) -> None:
    old = Repository.objects.get().secrets["keyfile"]
    lost()
    repository, _job = adopted(storage, lone.code, by)
    sources.test(Source.objects.get(name="docs"), by=by)
    repository.secrets = {"keyfile": old}  # as the first console would go on
    repository.save()

    backup = backups.request("full", by=by, sources=[Source.objects.get(name="docs")])
    stories.work()

    part = stories.part_of(backup)
    assert part.state == PartState.FAILED
    assert part.error_code == "taken-over"
    assert "this one may only read it" in part.error_message
    repository.refresh_from_db()
    assert repository.state == RepositoryState.TAKEN_OVER


def test_taken_over_again_it_writes_again(lone: FirstConsole, storage: Storage, source: Source, by: Actor) -> None:
    Repository.objects.update(state=RepositoryState.TAKEN_OVER)

    adopting.adopt(storage, None, by=by, take_over=True)

    stories.work()
    assert Repository.objects.get().state == RepositoryState.OK
    assert backed_up(by, Source.objects.get(name="docs")).state == "completed"


def test_what_is_learnt_while_it_is_enrolled_is_taken_back_too(
    lone: FirstConsole, storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol = running.perform

    def slowly(job: dict[str, Any], **more: Any) -> Any:
        done = enrol(job, **more)
        Repository.objects.update(state=RepositoryState.TAKEN_OVER)  # as a job finds out
        return done

    monkeypatch.setattr(adopting, "perform", slowly)

    adopting.adopt(storage, None, by=by, take_over=True)

    assert Repository.objects.get().state == RepositoryState.OK


def test_a_changed_history_is_learnt_of_a_repository_that_was_taken_over(lone: FirstConsole, by: Actor) -> None:
    Repository.objects.update(state=RepositoryState.TAKEN_OVER)
    repository = Repository.objects.get()

    repositories.learn(repository, Failure("records are gone", permanent=True, code="tampered"))

    repository.refresh_from_db()
    assert repository.state == RepositoryState.TAMPERED
    assert repositories.accept_history(repository, reason="looked at", by=by).state == RepositoryState.OK


def test_the_console_that_was_taken_over_gets_back_what_it_cannot_delete_and_is_told_of_its_hold(
    lone: FirstConsole, storage: Storage, by: Actor
) -> None:
    old = Repository.objects.get().secrets["keyfile"]
    lost()
    repository, _job = adopted(storage, lone.code, by)
    Source.objects.update(archived_at=timezone.now())  # its last point may go then
    Policy.objects.update(immutable_days=0)
    repository.secrets = {"keyfile": old}  # as the first console would go on
    repository.save()
    backup = Backup.objects.get()

    backups.delete(backup, by=by)
    stories.work()

    part = stories.part_of(backup)
    assert (part.state, part.error_code) == (PartState.COMPLETED, "taken-over")
    assert Backup.objects.get().state == "completed"
    BackupPart.objects.update(error_code="", error_message="")
    Repository.objects.update(state=RepositoryState.OK)  # as long as it has not found out
    backups.hold(backup, until=timezone.now() + timedelta(days=1), by=by)
    stories.work()
    assert stories.part_of(backup).error_code == "taken-over"


@pytest.mark.parametrize("deed", [
    lambda by: backups.hold(Backup.objects.get(), until=timezone.now() + timedelta(days=1), by=by),
    lambda by: backups.request("full", sources=list(Source.objects.filter(name="docs")), by=by),
    lambda by: backups.delete(Backup.objects.get(), by=by),
], ids=["hold", "request", "delete"])  # fmt: skip
def test_once_it_knows_the_console_that_was_taken_over_refuses_at_the_door(
    lone: FirstConsole, by: Actor, deed: Callable[[Actor], object]
) -> None:
    Repository.objects.update(state=RepositoryState.TAKEN_OVER)
    Policy.objects.update(immutable_days=0)

    with pytest.raises(Refused, match="take it over") as refusal:
        deed(by)

    assert refusal.value.code == "taken-over"
    backup = Backup.objects.get()
    assert (backup.held, backup.state) == (False, "completed")


# --- again, and interrupted -------------------------------------------------------------------------------------------


def test_a_second_reading_adds_only_what_is_new(first: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    repository, job = adopted(storage, first.code, by)
    forgotten = BackupPart.objects.exclude(state=PartState.DELETED).order_by("created_at").last()
    assert forgotten is not None
    forgotten.delete()  # a row that got lost

    again, second = adopting.adopt(storage, None, by=by)
    stories.work()

    second.refresh_from_db()
    assert (again.pk, second.state) == (repository.pk, JobState.COMPLETED)
    assert (job.progress["new"]["parts"], second.progress["new"].get("parts")) == (5, 1)
    assert remembered() == first.rows


def test_a_point_that_another_console_forgot_is_gone_here_too(first: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    repository, _job = adopted(storage, first.code, by)
    held = Backup.objects.filter(hold_until=None, state="completed").order_by("created_at").first()
    assert held is not None
    there = stories.opened(repository)
    there.log.append("forget", {"forget": [str(part.pk) for part in held.parts.all()], "reason": "elsewhere"})

    adopted(storage, first.code, by)

    held.refresh_from_db()
    assert held.state == "deleted"
    assert held.deleted_at is not None


def test_a_reading_that_is_killed_goes_on_where_it_was(
    lone: FirstConsole, storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    lost()
    settings.AIHUB_JOB_RETRY_SECONDS = 0
    take, calls = written.Rows.take, []

    def killed(rows: written.Rows, event: Any) -> None:
        calls.append(event)
        if len(calls) == 3:  # policies and sources are written, backups are not
            raise LostLease("killed")
        take(rows, event)

    monkeypatch.setattr(written.Rows, "take", killed)

    _repository, job = adopted(storage, lone.code, by)

    stories.hurry()
    stories.work()
    job.refresh_from_db()
    assert (job.state, job.attempts) == (JobState.COMPLETED, 2)
    assert remembered() == lone.rows


def test_it_can_be_cancelled_and_done_again(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    repository, job = adopting.adopt(storage, adopting.key(recovery_code=lone.code), by=by, take_over=True)

    adopting.cancel(repository, by=by)
    stories.work()

    job.refresh_from_db()
    assert (job.state, Backup.objects.count()) == (JobState.CANCELLED, 0)
    with pytest.raises(Refused, match="Nobody is reading the log"):
        adopting.cancel(repository, by=by)
    adopted(storage, lone.code, by)
    assert remembered() == lone.rows


def test_an_expired_lease_writes_nothing(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    repository, job = adopting.adopt(storage, adopting.key(recovery_code=lone.code), by=by, take_over=True)
    lease = machine.claim(job.pk)
    assert lease is not None
    Job.objects.filter(pk=job.pk).update(lease_epoch=99)  # another worker has it

    with pytest.raises(LostLease):
        written.Rows(repository, lease).take(
            {"event": "rows", "rows": [{"is": "policy", "id": str(job.pk), "name": "x"}]}
        )

    assert not Policy.objects.exists()


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_record_costs_its_point_and_is_named(
    first: FirstConsole, storage: Storage, by: Actor, tmp_path: Path
) -> None:
    held = next(key for key, row in first.rows["Backup"].items() if row["hold_reason"])
    (record,) = {row["log_record"] for row in first.rows["BackupPart"].values() if str(row["backup"]) == held}
    path = tmp_path / "disk" / record
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-3] + b"???")
    lost()

    _repository, job = adopted(storage, first.code, by)

    assert (job.state, job.progress["points"], job.progress["damaged_count"]) == (JobState.COMPLETED, 3, 1)
    assert record in job.progress["damaged"][0]
    assert held not in remembered()["Backup"]


# --- what comes back --------------------------------------------------------------------------------------------------


def test_sources_rest_until_somebody_has_tried_them(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    adopted(storage, lone.code, by)
    docs = Source.objects.get(name="docs")
    assert (docs.enabled, docs.in_service) == (False, False)

    with pytest.raises(Refused, match=r"was adopted\. It was made by another console: test whether"):
        sources.resume(docs, by=by)
    with pytest.raises(Refused, match="was adopted"):
        backups.request("full", by=by, sources=[docs])

    sources.test(docs, by=by)
    assert sources.resume(docs, by=by).in_service


def test_a_source_with_secrets_says_which_it_needs(
    repository: Repository, source: Source, storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = repository.code  # type: ignore[attr-defined]
    source.secrets = {"password": "c4nary-of-a-secret"}
    source.save()
    monkeypatch.setattr(sources, "strategy_spec", lambda one: {"kind": one.kind, "options": one.options})
    backed_up(by, source)
    lost()

    adopted(storage, code, by)

    docs = Source.objects.get()
    assert "It needs its secrets (password)" in docs.test_error
    assert not docs.secrets
    assert "c4nary" not in str(list(AuditEvent.objects.values()))


def test_the_kit_is_proven_by_the_code_that_opened_it(lone: FirstConsole, storage: Storage, by: Actor) -> None:
    keyfile = Repository.objects.get().secrets["keyfile"]
    lost()
    repository, _job = adopted(storage, lone.code, by)
    assert repository.kit_proven_at is not None
    lost()

    repository, _job = adopting.adopt(storage, adopting.key(keyfile=keyfile), by=by, take_over=True)

    assert repository.kit_proven_at is None
    assert base64.b64decode(repository.secrets["keyfile"]) == base64.b64decode(keyfile)


def test_what_is_here_already_keeps_its_name_and_its_rules(first: FirstConsole, storage: Storage, by: Actor) -> None:
    lost()
    mine = policies.create("gold", by=by, keep_daily=1)
    other = sources.create("docs", "files", {"paths": ["/elsewhere"]}, by=by, test=False)

    adopted(storage, first.code, by, name="old main")

    assert set(Source.objects.values_list("name", flat=True)) == {"docs", "docs 2", "orders"}
    assert set(Policy.objects.values_list("name", "keep_daily")) == {("gold", 1), ("gold 2", 7)}
    assert {mine.pk, other.pk}.isdisjoint(Source.objects.exclude(pk=other.pk).values_list("policy", flat=True))
    assert Repository.objects.get().name == "old main"


def test_a_set_that_lacks_a_part_is_partial_again(
    repository: Repository, source: Source, database: Source, storage: Storage, by: Actor, tmp_path: Path
) -> None:
    code = repository.code  # type: ignore[attr-defined]
    backed_up(by, database)
    (tmp_path / "orders.sqlite3").unlink()
    backup = backups.request("full", by=by, sources=[source, database])
    stories.work()
    BackupPart.objects.filter(state=PartState.QUEUED).update(state=PartState.FAILED)
    lost()

    adopted(storage, code, by)

    found = Backup.objects.get(pk=backup.pk)
    assert found.state == "partial"
    lacking = found.parts.get(state=PartState.FAILED)
    assert (lacking.source.name, lacking.error_code) == ("orders", "not-in-log")


def test_points_that_no_console_made_are_counted_and_left(first: FirstConsole, storage: Storage, by: Actor) -> None:
    there = stories.opened(Repository.objects.get())
    point = next(iter(there.log.live.values()))
    there.log.append_snapshot(replace(point, id="by hand", facts={"kind": "files", "roots": ["/etc"]}))
    lost()

    _repository, job = adopted(storage, first.code, by)

    assert (job.progress["points"], job.progress["passed_over"]) == (4, 1)
    assert remembered() == first.rows


def test_holds_are_told_to_the_log_once(first: FirstConsole) -> None:
    log = stories.opened(Repository.objects.get()).log
    held = {key: row["hold_until"] for key, row in first.rows["Backup"].items() if row["hold_until"]}

    told = {key: one["until"] for key, one in log.holds.items() if one["until"]}

    assert told == {key: until.timestamp() for key, until in held.items()}
    assert len(log.holds) == 2


def test_a_hold_that_cannot_be_told_stands_and_is_audited(repository: Repository, source: Source, by: Actor) -> None:
    backup = backed_up(by, source)
    repositories.learn(repository, Failure("records are gone", permanent=True, code="tampered"))

    backups.hold(backup, until=timezone.now() + timedelta(days=1), by=by, reason="kept")
    stories.work()

    assert backups.get(backup.pk).held
    assert AuditEvent.objects.get(action="backup.hold.untold").facts["code"]


def test_a_source_that_would_read_this_console_rests_and_says_why(
    lone: FirstConsole, repository: Repository, storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the other console had its documents, this one has its home."""
    docs = Source.objects.get(name="docs")
    monkeypatch.setattr("backups.services.own_places._keys", lambda: Path(docs.options["paths"][0], "deep"))
    lost()

    adopted(storage, lone.code, by)

    docs = Source.objects.get(name="docs")
    assert not docs.enabled and "every secret of this console" in docs.test_error
    with pytest.raises(Refused, match="was adopted"):
        sources.resume(docs, by=by)
    sources.test(docs, by=by)
    with pytest.raises(Refused, match="every secret of this console"):
        sources.resume(docs, by=by)


@pytest.mark.parametrize(
    "wrong",
    [{"id": "zzz"}, {"name": "x" * 300}, {"kind": "k" * 100}, {"options": "none"}, {"environment": "e" * 300}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_record_that_tells_what_cannot_be_is_named_and_the_rest_goes_on(
    lone: FirstConsole,
    storage: Storage,
    source: Source,
    by: Actor,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
) -> None:
    honest = facts._source
    monkeypatch.setattr(facts, "_source", lambda row: {**honest(row), **wrong})
    bad = stories.part_of(backed_up(by, source))
    lost()

    _repository, job = adopted(storage, lone.code, by)

    assert job.state == JobState.COMPLETED
    assert job.progress["damaged_count"] == len(job.progress["damaged"]) >= 1
    told, found = " ".join(job.progress["damaged"]), remembered()
    assert (bad.log_record if "id" in wrong else str(source.pk)) in told
    assert {model: {key: found[model].get(key) for key in rows} for model, rows in lone.rows.items()} == lone.rows
    assert (str(bad.pk) in found["BackupPart"]) == ("id" not in wrong)  # an older record tells what the source is
