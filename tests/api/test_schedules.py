"""The addresses of schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import ApiToken, Environment, User
from backups.models import Policy, Schedule, ScheduleSlot, Source
from backups.services import schedules, slots
from tests.api.stories import Answer, Caller, is_problem
from tests.backups import stories

NIGHTLY = {"name": "nightly", "type": "files", "cron_expression": "0 2 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture
def nightly(source: Source, by: Actor) -> Schedule:
    """Of all files, daily at 02:00 in Berlin."""
    return schedules.create("nightly", "files", "0 2 * * *", by=by, timezone="Europe/Berlin")


def put(call: Caller, path: str, body: Any = None, **headers: str) -> Answer:
    """PUT of a JSON body, or of nothing."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = call.client.put(f"/api/v1/backup{path}", body, format="json", headers=named)
    return Answer(response)


def test_a_list_asks_the_database_as_often_for_ten_schedules_as_for_one(
    call: Caller, source: Source, by: Actor
) -> None:
    def added(count: int) -> None:
        for number in range(count):
            made = schedules.create(f"s{number}-{count}", "files", "0 2 * * *", by=by, sources=[source])
            ScheduleSlot.objects.create(schedule=made, due_at=datetime(2026, 11, 26, tzinfo=UTC), state="skipped")

    added(1)
    call.get("/schedule/list")
    with CaptureQueriesContext(connection) as few:
        one = call.get("/schedule/list")
    added(9)

    with CaptureQueriesContext(connection) as lots:
        ten = call.get("/schedule/list")

    assert [len(answer["results"]) for answer in (one, ten)] == [1, 10]
    assert {row["last_slot"]["status"] for row in ten["results"]} == {"skipped"}
    assert len(lots) <= len(few)


# --- adding ---------------------------------------------------------------------------------------------------------


def test_a_schedule_is_added_with_its_next_runs_in_words_and_times(call: Caller, source: Source) -> None:
    with time_machine.travel(datetime.fromisoformat("2026-11-26T08:00:00+00:00"), tick=False):
        made = call.post("/schedule", {**NIGHTLY, "sources": ["docs"], "retention_days": 7})

    assert (made.status, made.headers["Location"]) == (201, f"/api/v1/backup/schedule/{made['id']}")
    assert made["next_runs"] == [f"2026-11-{day}T01:00:00Z" for day in (27, 28, 29, 30)] + ["2026-12-01T01:00:00Z"]
    assert (made["cron_text"], made["policy"]["name"]) == ("At 02:00", "keep 7 days")
    assert [one["name"] for one in made["sources"]] == ["docs"]
    assert (made["misfire"], made["grace_seconds"], made["enabled"], made["last_slot"]) == (
        "run_once",
        3600,
        True,
        None,
    )
    assert call.get(made["links"]["self"]).body == {
        **made.body,
        "next_runs": call.get("/schedule/nightly")["next_runs"],
    }


def test_the_seeds_words_are_understood(call: Caller, db: None) -> None:
    made = call.post("/schedule", {
        "name": "Daily Database Backup", "backup_type": "database", "strategy_name": "database",
        "cron_expression": "0 2 * * *", "retention_days": 7,
    })  # fmt: skip
    short = call.post("/schedule", {"name": "x", "type": "full", "cron": "0 * * * *"})

    assert (made.status, made["type"], made["strategy"]) == (201, "database", "database")
    assert (short.status, short["cron_expression"], Policy.objects.get().name) == (201, "0 * * * *", "keep 7 days")


@pytest.mark.parametrize("expression", ["61 * * * *", "@daily", "0 0 L * *", "0 0 1 * 1"])
def test_a_wrong_expression_is_told_at_its_field(call: Caller, db: None, expression: str) -> None:
    answer = call.post("/schedule", {**NIGHTLY, "cron_expression": expression})

    assert is_problem(answer, 400, "invalid-cron")
    assert (answer.pointers, answer["errors"][0]["code"]) == (["/cron_expression"], "invalid-cron")
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"type": "everything"}, "/type"),
        ({"sources": []}, "/sources"),
        ({"sources": ["nobody"]}, "/sources/0"),
        ({"retention_days": 0}, "/retention_days"),
        ({"misfire": "run_all"}, "/misfire"),
        ({"grace_seconds": -1}, "/grace_seconds"),
        ({"cron": "0 1 * * *"}, "/cron"),
        ({"crom": "0 1 * * *"}, "/crom"),
    ],
)
def test_wrong_members_are_told(call: Caller, source: Source, more: dict[str, Any], pointer: str) -> None:
    answer = call.post("/schedule", {**NIGHTLY, **more})

    assert answer.status == 400
    assert [one.partition("/0")[0] for one in answer.pointers] == [pointer.partition("/0")[0]]


def test_a_schedule_that_could_never_run_is_refused(call: Caller, db: None) -> None:
    answer = call.post("/schedule", {**NIGHTLY, "type": "redis"})

    assert is_problem(answer, 422, "source-not-ready")
    assert "has no strategy for “redis” yet" in answer["detail"]


def test_a_name_is_taken_once(call: Caller, nightly: Schedule) -> None:
    assert is_problem(call.post("/schedule", NIGHTLY), 409, "name-taken")


def test_a_repeated_request_adds_one(call: Caller, db: None) -> None:
    key = {"Idempotency_Key": "one"}

    first, second = call.post("/schedule", NIGHTLY, **key), call.post("/schedule", NIGHTLY, **key)

    assert (first.status, second.status, first["id"]) == (201, 201, second["id"])


def test_a_token_of_one_environment_adds_nothing_that_reaches_further(
    owner: User, nightly: Schedule, source: Source
) -> None:
    ours = Environment.objects.create(name="ours")
    _row, token = ApiToken.objects.issue(owner, "bound", environments=[str(ours.pk)])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    call = Caller(client)

    refused = call.post("/schedule", {**NIGHTLY, "name": "mine"})
    made = call.post("/schedule", {**NIGHTLY, "name": "mine", "environment": "ours"})
    widened = call.patch("/schedule/mine", {"environment": None})

    assert is_problem(refused, 403, "permission-denied")
    assert (made.status, widened.status) == (201, 403)
    assert str(Schedule.objects.get(name="mine").environment) == "ours"
    assert [row["name"] for row in call.get("/schedule/list")["results"]] == ["mine"]
    assert call.get("/schedule/nightly").status == call.post("/schedule/nightly/run").status == 404


# --- looking --------------------------------------------------------------------------------------------------------


def test_schedules_are_listed_and_filtered(call: Caller, nightly: Schedule, source: Source, by: Actor) -> None:
    named = schedules.create("alone", "incremental", "0 * * * *", by=by, sources=[source], enabled=False)

    def listed(**query: Any) -> list[str]:
        return [row["name"] for row in call.get("/schedule/list", query)["results"]]

    assert listed() == ["alone", "nightly"]
    assert (listed(enabled="true"), listed(type="incremental"), listed(source="docs")) == (
        ["nightly"], ["alone"], ["alone"],
    )  # fmt: skip
    assert listed(q="NIGHT") == ["nightly"]
    assert is_problem(call.get("/schedule/list", {"state": "x"}), 400, "unknown-parameter")
    assert call.get(f"/schedule/{named.pk}")["next_runs"] == []


def test_what_became_of_the_last_slot_is_told(call: Caller, nightly: Schedule) -> None:
    backup = slots.schedule_due(nightly.pk, nightly.created_at + timedelta(days=1))

    assert backup
    told = call.get("/schedule/nightly")["last_slot"]
    assert (told["status"], told["backup"]) == ("run", str(backup.pk))


# --- changing -------------------------------------------------------------------------------------------------------


def test_a_change_needs_the_version_that_was_seen(call: Caller, nightly: Schedule) -> None:
    seen = call.get("/schedule/nightly").headers["ETag"]

    changed = call.patch(
        "/schedule/nightly", {"cron": "30 4 * * 1", "policy": None, "retention_days": 3}, If_Match=seen
    )
    late = call.patch("/schedule/nightly", {"misfire": "skip"}, If_Match=seen)

    assert (changed.status, changed["cron_text"], changed["policy"]["name"]) == (
        200, "At 04:30, only on Monday", "keep 3 days",
    )  # fmt: skip
    assert is_problem(late, 412, "version-mismatch")
    assert is_problem(call.patch("/schedule/nightly", {"cron_expression": "x"}), 400, "invalid-cron")
    assert call.patch("/schedule/nightly", {"enabled": False}).pointers == ["/enabled"]


def test_time_that_passes_is_no_new_version(call: Caller, nightly: Schedule) -> None:
    before = call.get("/schedule/nightly")
    slots.schedule_due(nightly.pk, nightly.created_at + timedelta(days=1))
    with time_machine.travel(nightly.created_at + timedelta(days=3)):
        after = call.get("/schedule/nightly", If_None_Match=before.headers["ETag"])

    assert (after.status, after["next_runs"] != before["next_runs"]) == (200, True)
    assert after.headers["ETag"] == before.headers["ETag"]


def test_it_is_switched_off_with_a_reason_and_on_without(call: Caller, nightly: Schedule) -> None:
    unexplained = put(call, "/schedule/nightly/enable", {"enabled": False})
    off = put(call, "/schedule/nightly/enable", {"enabled": False, "reason": "moving house"})
    on, again = put(call, "/schedule/nightly/enable"), put(call, "/schedule/nightly/enable", {"enabled": True})

    assert unexplained.pointers == ["/reason"]
    assert (off["enabled"], off["disabled_reason"], off["next_runs"]) == (False, "moving house", [])
    assert (on.status, on["enabled"], on["disabled_reason"], len(on["next_runs"])) == (200, True, "", 5)
    assert again["updated_at"] == on["updated_at"]
    stale = put(call, "/schedule/nightly/enable", {"enabled": True}, If_Match='"another"')
    assert is_problem(stale, 412, "version-mismatch")


def test_it_is_run_now(call: Caller, nightly: Schedule) -> None:
    started = call.post("/schedule/nightly/run")
    twice = call.post("/schedule/nightly/run")

    (run,) = started["runs"]
    assert (started.status, run["label"], run["trigger"]) == (202, "nightly", "api")
    assert started.headers["Location"] == f"/api/v1/backup/status/{run['id']}"
    assert is_problem(twice, 409, "operation-in-progress")
    stories.work()
    assert call.get(started.headers["Location"])["status"] == "completed"


def test_deleting_the_last_one_of_a_source_is_confirmed(call: Caller, nightly: Schedule) -> None:
    version = call.get("/schedule/nightly").headers["ETag"]

    refused = call.delete("/schedule/nightly")
    stale = call.delete("/schedule/nightly", "?confirm=true", If_Match='"another"')
    done = call.delete("/schedule/nightly", "?confirm=true&reason=moved", If_Match=version)

    assert is_problem(refused, 409, "last-schedule-of-source")
    assert refused["sources"] == ["docs"]
    assert (stale.status, done.status, call.get("/schedule/nightly").status) == (412, 204, 404)


def test_an_id_of_something_else_is_explained(call: Caller, nightly: Schedule, source: Source) -> None:
    assert "is the id of a source" in call.get(f"/schedule/{source.pk}")["detail"]
    assert "is the id of a schedule" in call.get(f"/sources/{nightly.pk}")["detail"]


def test_running_needs_the_permission_for_backups(
    caller_with: Callable[..., Caller], nightly: Schedule, source: Source
) -> None:
    editor = caller_with("backups.add_schedule", "backups.change_schedule", "backups.view_schedule")

    assert is_problem(editor.post("/schedule/nightly/run"), 403, "permission-denied")
    assert editor.post("/schedule", {**NIGHTLY, "name": "x", "sources": ["docs"]}).pointers == ["/sources/0"]
