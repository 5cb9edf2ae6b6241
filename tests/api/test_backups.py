"""/create, /status, /list, DELETE, /cancel, /verify, /verifications."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from aihub_backup.core.models import Job
from backups.models import Backup, BackupPart, BackupState, Policy, Source, Verification
from tests.api.stories import PREFIX, Caller, is_problem
from tests.backups.stories import work

TYPES = ["database", "files", "redis", "config", "logs", "full", "incremental", "differential"]


# --- create ---------------------------------------------------------------------------------------------------------


def test_it_accepts_a_backup_and_says_where_to_look(call: Caller, source: Source) -> None:
    answer = call.post("/create", {"type": "full", "label": "before the upgrade", "tags": {"team": "ml"}})

    assert answer.status == 202
    assert answer.headers["Location"] == f"{PREFIX}/status/{answer['id']}"
    assert answer.headers["Retry-After"] == "2"
    assert (answer["status"], answer["type"], answer["trigger"]) == ("queued", "full", "api")
    assert (answer["label"], answer["tags"]) == ("before the upgrade", {"team": "ml"})
    assert answer["requested_by"] == {"type": "token", "name": "test (olivia)"}
    assert [part["source"]["name"] for part in answer["parts"]] == ["docs"]
    assert answer["restorable"] is False
    assert answer["restorable_reasons"] == ["running"]


def test_it_follows_a_backup_to_its_end(call: Caller, source: Source) -> None:
    made = call.post("/create", {"type": "files", "sources": ["docs"], "verify": 1})
    work()

    answer = call.get(made["links"]["self"])

    assert answer.status == 200
    assert answer["status"] == "completed"
    assert answer["finished_at"]
    assert answer["progress"]["percent"] == 100
    assert answer["restorable"] is True
    assert answer["size_bytes"] > 0
    assert answer["verification"]["state"] == "passed"
    assert answer["verification"]["level"] == 1
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("kind", TYPES)
def test_it_knows_the_eight_types(call: Caller, source: Source, kind: str) -> None:
    answer = call.post("/create", {"type": kind})

    if kind in ("database", "redis", "config", "logs"):
        assert is_problem(answer, 422, "source-not-ready")
    else:
        assert answer.status == 202


def test_a_backup_whose_last_part_ends_while_it_is_told_is_still_running(call: Caller, backup: Backup) -> None:
    """Its row was read before, its parts after the end: what is told must fit together."""
    Backup.objects.filter(pk=backup.pk).update(state=BackupState.RUNNING)

    answer = call.get(f"/status/{backup.pk}")

    assert (answer["status"], answer["restorable"]) == ("running", False)


def test_it_takes_the_seeds_words(call: Caller, source: Source) -> None:
    answer = call.post("/create", {"backup_type": "incremental", "strategy_name": "files", "retention_days": 7})

    assert answer.status == 202
    assert (answer["type"], answer["policy"]) == ("incremental", "keep 7 days")


def test_it_names_sources_by_id_too(call: Caller, source: Source) -> None:
    assert call.post("/create", {"type": "full", "sources": [str(source.pk)]}).status == 202


@pytest.mark.parametrize(
    ("body", "pointer", "sentence"),
    [
        ({}, "/type", "required"),
        ({"type": "everything"}, "/type", "“everything” is not one of: full, incremental"),
        ({"type": "full", "backup_type": "files"}, "/backup_type", "says the same as “type”"),
        ({"type": "full", "sources": ["nobody"]}, "/sources/0", "There is no source"),
        ({"type": "full", "sources": []}, "/sources", "Name at least one"),
        ({"type": "full", "sources": "docs"}, "/sources", "list"),
        ({"type": "full", "sources": [7]}, "/sources/0", "as a text"),
        ({"type": "redis", "sources": ["docs"]}, "/sources", "is of the kind files"),
        ({"type": "full", "strategy": "magic"}, "/strategy", "is not one of: database, files, config, redis, logs"),
        ({"type": "full", "tags": ["a"]}, "/tags", "mapping"),
        ({"type": "full", "tags": {"a": 1}}, "/tags", "mapping"),
        ({"type": "full", "verify": 7}, "/verify", "1 (objects are there)"),
        ({"type": "full", "verify": True}, "/verify", "Give 0"),
        ({"type": "full", "hold_until": "2026-01-01T00:00:00"}, "/hold_until", "with its offset"),
        ({"type": "full", "hold_until": "2020-01-01T00:00:00Z"}, "/hold_until", "passed already"),
        ({"type": "full", "retention_days": 0}, "/retention_days", "greater than or equal to 1"),
        ({"type": "full", "policy": "none such"}, "/policy", "There is no policy"),
        ({"type": "full", "label": "x" * 201}, "/label", "200 characters"),
    ],
)
def test_it_names_what_is_wrong_and_leaves_no_trace(
    call: Caller, source: Source, body: dict[str, object], pointer: str, sentence: str
) -> None:
    answer = call.post("/create", body)

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == [pointer]
    assert sentence in answer["errors"][0]["detail"]
    assert not Backup.objects.exists()
    assert not Job.objects.exists()


def test_it_tells_what_an_id_of_another_kind_is(call: Caller, source: Source) -> None:
    answer = call.post("/create", {"type": "full", "sources": [str(source.environment_id)]})

    assert is_problem(answer, 400, "validation-error")
    assert "is the id of an environment, not of a source" in answer["detail"]


def test_it_runs_one_backup_of_a_source_at_a_time(call: Caller, source: Source) -> None:
    first = call.post("/create", {"type": "full"})

    answer = call.post("/create", {"type": "full"})

    assert is_problem(answer, 409, "operation-in-progress")
    assert answer["backup"] == first["id"]


def test_it_backs_up_what_the_caller_may_only(caller_with: Callable[..., Caller], source: Source) -> None:
    assert caller_with("backups.run_backup").post("/create", {"type": "full"}).status == 202
    assert is_problem(
        caller_with("backups.run_backup", name="b").post(
            "/create", {"type": "full", "hold_until": (timezone.now() + timedelta(days=1)).isoformat()}
        ), 403, "permission-denied",
    )  # fmt: skip


def test_it_makes_one_backup_of_a_repeated_request(call: Caller, source: Source) -> None:
    first = call.post("/create", {"type": "full"}, Idempotency_Key="k")
    second = call.post("/create", {"type": "full"}, Idempotency_Key="k")

    assert (first.status, second.status) == (202, 202)
    assert first["id"] == second["id"]
    assert Backup.objects.count() == 1


# --- status, list ---------------------------------------------------------------------------------------------------


def test_it_answers_not_modified(call: Caller, backup: Backup) -> None:
    first = call.get(f"/status/{backup.pk}")
    second = call.get(f"/status/{backup.pk}", If_None_Match=first.headers["ETag"])
    Backup.objects.filter(pk=backup.pk).update(label="changed")
    third = call.get(f"/status/{backup.pk}", If_None_Match=first.headers["ETag"])

    assert (first.status, second.status, third.status) == (200, 304, 200)
    assert second.body is None
    assert second.headers["ETag"] == first.headers["ETag"]


def test_progress_stays_below_a_hundred_until_the_end(call: Caller, source: Source) -> None:
    made = call.post("/create", {"type": "full"})
    progress = {"phase": "reading", "bytes_done": 10, "bytes_total": 10, "ratio": 1.0, "bytes_per_second": 5.0}
    Job.objects.update(state="running", progress=progress, heartbeat_at=timezone.now())
    BackupPart.objects.update(state="running")
    Backup.objects.update(state="running")

    answer = call.get(f"/status/{made['id']}")

    assert answer["progress"]["percent"] == 99
    assert answer["progress"]["rate_bytes_per_second"] == 5
    assert answer["progress"]["heartbeat_at"]
    assert answer.headers["Retry-After"] == "2"


def test_a_backup_that_failed_is_still_an_answer(call: Caller, backup: Backup) -> None:
    Backup.objects.update(state="failed")
    BackupPart.objects.update(state="failed", error_code="storage-full", error_message="No room.", error_permanent=True)

    answer = call.get(f"/status/{backup.pk}")

    assert answer.status == 200
    assert answer["error"]["code"] == "storage-full"
    assert answer["error"]["retryable"] is False
    assert answer["restorable_reasons"] == ["failed"]


def test_it_knows_nothing_about_others(call: Caller, caller_with: Callable[..., Caller], backup: Backup) -> None:
    assert is_problem(call.get(f"/status/{uuid4()}"), 404, "not-found")
    assert is_problem(call.get("/status/not-a-uuid"), 404, "not-found")
    assert is_problem(caller_with().get(f"/status/{backup.pk}"), 403, "permission-denied")


def test_a_backup_is_found_at_its_own_address_too(call: Caller, backup: Backup) -> None:
    assert call.get(f"/{backup.pk}").body == call.get(f"/status/{backup.pk}").body


def rows(call: Caller, count: int) -> list[Backup]:
    """Backups of the past, one a minute, the newest first."""
    now = timezone.now()
    made = [
        Backup(type="full", state=BackupState.MISSED, created_at=now - timedelta(minutes=n), requested_by_name="x")
        for n in range(count)
    ]
    return Backup.objects.bulk_create(made)


@pytest.mark.django_db
def test_it_turns_pages_both_ways_while_backups_are_added(call: Caller) -> None:
    made = [str(row.pk) for row in rows(call, 7)]
    first = call.get("/list", {"page_size": 3})
    Backup.objects.create(type="full", state=BackupState.MISSED, requested_by_name="x")

    second = call.get(first["next"])
    third = call.get(second["next"])
    back = call.get(third["previous"])

    pages = [[row["id"] for row in page["results"]] for page in (first, second, third, back)]
    assert pages == [made[:3], made[3:6], made[6:], made[3:6]]
    assert first["previous"] is None
    assert third["next"] is None
    assert first["count"] is None
    assert call.get("/list", {"count": "true"})["count"] == 8


@pytest.mark.django_db
def test_it_lists_backups_of_the_same_moment_once_each(call: Caller) -> None:
    now = timezone.now()
    for _ in range(5):
        Backup.objects.create(type="full", state=BackupState.MISSED, created_at=now, requested_by_name="x")

    seen, page = [], call.get("/list", {"page_size": 2, "ordering": "created_at"})
    while True:
        seen += [row["id"] for row in page["results"]]
        if page["next"] is None:
            break
        page = call.get(page["next"])

    assert len(seen) == len(set(seen)) == 5


def test_it_filters(call: Caller, backup: Backup) -> None:
    rows(call, 2)
    Backup.objects.filter(pk=backup.pk).update(tags={"team": "ml"}, label="Nightly")

    def found(**query: str) -> list[str]:
        return [row["id"] for row in call.get("/list", query)["results"]]

    ours = [str(backup.pk)]
    assert found(status="completed") == ours
    assert len(found(status="completed,missed")) == 3
    assert found(source="docs") == ours
    assert found(repository="main") == ours
    assert found(tag="team:ml") == found(tag="team") == ours
    assert found(tag="team:infra") == []
    Backup.objects.filter(pk=backup.pk).update(tags={"a.b": "c:d", 'q"uote': "x", "ünder__score": "y"})
    assert found(tag="a.b:c:d") == found(tag='q"uote:x') == found(tag="ünder__score:y") == ours
    assert found(tag='q"uote') == found(tag="a.b") == ours
    assert found(tag="a:c:d") == found(tag="a.b:c") == []
    assert found(q="night") == found(q="DOC") == ours
    assert found(restorable="true") == ours
    assert found(verified="true") == []
    assert len(found(verified="false")) == 3
    assert found(environment=str(backup.environment_id)) == ours
    assert found(type="incremental") == []
    assert found(created_after=timezone.now().isoformat()) == []
    assert len(found(created_before=timezone.now().isoformat())) == 3
    Verification.objects.create(
        part=backup.parts.get(), storage=backup.parts.get().repository.storage, level=3, state="failed",
        finished_at=timezone.now(), requested_by_name="x",
    )  # fmt: skip
    assert found(restorable="true") == []


def test_it_cuts_rows_to_the_wanted_members(call: Caller, backup: Backup) -> None:
    answer = call.get("/list", {"fields": "id,status"})

    assert answer["results"] == [{"id": str(backup.pk), "status": "completed"}]


def test_a_page_costs_the_same_for_few_and_many(
    call: Caller, backup: Backup, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    rows(call, 60)

    with django_assert_max_num_queries(12):
        assert len(call.get("/list")["results"]) == 50


# --- delete, cancel -------------------------------------------------------------------------------------------------


def test_it_deletes_a_backup(call: Caller, backup: Backup, source: Source) -> None:
    call.post("/create", {"type": "full"})
    work()

    answer = call.delete(f"/{backup.pk}", "?reason=too+old")

    assert answer.status == 202
    assert answer.headers["Location"] == f"{PREFIX}/status/{backup.pk}"
    work()
    assert call.get(f"/status/{backup.pk}")["status"] == "deleted"
    assert is_problem(call.delete(f"/{backup.pk}"), 410, "backup-deleted")


def test_it_cancels_a_backup_that_waits(call: Caller, source: Source) -> None:
    made = call.post("/create", {"type": "full"})

    answer = call.delete(f"/{made['id']}")

    assert answer.status == 202
    assert call.get(f"/status/{made['id']}")["status"] == "cancelled"


def test_it_keeps_what_is_held(call: Caller, backup: Backup) -> None:
    Backup.objects.update(hold_until=timezone.now() + timedelta(days=1))

    assert is_problem(call.delete(f"/{backup.pk}"), 409, "on-hold")


def test_it_keeps_the_last_recovery_point(call: Caller, backup: Backup) -> None:
    assert is_problem(call.delete(f"/{backup.pk}"), 409, "last-restorable-point")


def test_it_deletes_the_version_that_was_seen_only(call: Caller, backup: Backup) -> None:
    assert is_problem(call.delete(f"/{backup.pk}", If_Match='"another"'), 412, "version-mismatch")


def test_it_cancels(call: Caller, source: Source, backup: Backup) -> None:
    made = call.post("/create", {"type": "full"})

    answer = call.post(f"/{made['id']}/cancel", {"reason": "wrong one"})

    assert answer.status == 202
    assert answer["status"] == "cancelled"
    assert is_problem(call.post(f"/{backup.pk}/cancel"), 409, "not-cancellable")
    assert is_problem(call.post(f"/{uuid4()}/cancel"), 404, "not-found")


# --- verify ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2, 3, "L3"])
def test_it_verifies(call: Caller, backup: Backup, level: object) -> None:
    answer = call.post(f"/verify/{backup.pk}", {"level": level})
    work()

    found = call.get(f"/verifications/{answer['id']}")

    assert answer.status == 202
    assert answer.headers["Location"] == f"{PREFIX}/verifications/{answer['id']}"
    assert [one["id"] for one in answer["verifications"]] == [answer["id"]]
    assert (found["status"], found["problems_count"], found["progress"]["percent"]) == ("passed", 0, 100)
    assert call.get(f"/status/{backup.pk}")["verification"]["state"] == "passed"


def test_it_verifies_every_part(call: Caller, both: Backup) -> None:
    answer = call.post(f"/verify/{both.pk}", {"level": 1})

    assert len(answer["verifications"]) == 2
    assert answer.headers["Location"] == f"{PREFIX}/verifications?backup={both.pk}"
    listed = call.get(answer.headers["Location"])
    assert {row["id"] for row in listed["results"]} == {row["id"] for row in answer["verifications"]}


def test_it_verifies_the_named_parts(call: Caller, both: Backup) -> None:
    answer = call.post(f"/verify/{both.pk}", {"level": 1, "parts": ["docs"]})

    assert [row["source"]["name"] for row in answer["verifications"]] == ["docs"]
    assert call.post(f"/verify/{both.pk}", {"parts": ["nobody"]}).pointers == ["/parts"]


@pytest.mark.parametrize(("level", "sentence"), [(4, "restore test"), (9, "level is 1"), (0, "level is 1")])
def test_it_knows_three_levels(call: Caller, backup: Backup, level: int, sentence: str) -> None:
    answer = call.post(f"/verify/{backup.pk}", {"level": level})

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == ["/level"]
    assert sentence in answer["detail"]


def test_it_verifies_only_what_was_stored(call: Caller, source: Source) -> None:
    made = call.post("/create", {"type": "full"})

    assert is_problem(call.post(f"/verify/{made['id']}"), 422, "not-restorable")
    assert is_problem(call.post(f"/verify/{uuid4()}"), 404, "not-found")


def test_it_cancels_a_check(call: Caller, backup: Backup) -> None:
    made = call.post(f"/verify/{backup.pk}", {"level": 1})

    answer = call.post(f"/verifications/{made['id']}/cancel")

    assert (answer.status, answer["status"]) == (202, "cancelled")
    assert is_problem(call.post(f"/verifications/{made['id']}/cancel"), 409, "not-cancellable")


def test_it_filters_checks(call: Caller, backup: Backup) -> None:
    made = call.post(f"/verify/{backup.pk}", {"level": 1})["id"]

    assert [row["id"] for row in call.get("/verifications", {"status": "queued", "level": 1})["results"]] == [made]
    assert call.get("/verifications", {"level": 2})["results"] == []


@pytest.mark.django_db
def test_a_policy_and_days_contradict_each_other(call: Caller) -> None:
    Policy.objects.create(name="gold")

    assert call.post("/create", {"type": "full", "policy": "gold", "retention_days": 3}).pointers == ["/retention_days"]
