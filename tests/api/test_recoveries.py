"""/recover, /recover/status, /recover/list, /recover/rollback, DELETE /recover/{id}."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Job
from backups.models import Backup, Repository, Source
from recovery.models import Recovery
from tests.api.stories import PREFIX, Caller, is_problem
from tests.backups.stories import work
from tests.recovery.stories import backed_up, tree
from tests.servers import postgresql

Place = dict[str, str]


def wish(backup: Backup, path: Place, **more: Any) -> dict[str, Any]:
    """A full recovery of the backup."""
    return {"type": "full", "backup_id": str(backup.pk), "target": path, "reason": "INC-4711", **more}


def test_it_brings_lost_data_back(call: Caller, backup: Backup, data: Path, path: Place) -> None:
    before = tree(data)
    shutil.rmtree(data)

    made = call.post("/recover", wish(backup, path))
    work()
    found = call.get(made.headers["Location"])

    assert made.status == 202
    assert made.headers["Location"] == f"{PREFIX}/recover/status/{made['id']}"
    assert made.headers["Retry-After"] == "2"
    assert (made["status"], made["target"]["path"]) == ("queued", path["path"])
    assert found["status"] == "completed"
    assert found["progress"]["percent"] == 100
    assert found["finished_at"]
    assert all(finding["passed"] for finding in found["findings"])
    assert found["parts"][0]["place"] == path["path"]
    assert found["data_as_of"] == call.get(f"/status/{backup.pk}")["data_as_of"]
    assert tree(Path(path["path"])) == before


def test_it_tells_where_each_part_goes(call: Caller, both: Backup, path: Place) -> None:
    made = call.post("/recover", wish(both, path))

    assert [part["place"] for part in made["parts"]] == [f"{path['path']}/%2E.more%2Fthings", f"{path['path']}/docs"]


def test_it_takes_the_seeds_word(call: Caller, backup: Backup, path: Place) -> None:
    body = {"recovery_type": "full", "backup_id": str(backup.pk), "target": path, "reason": "x"}

    assert call.post("/recover", body).status == 202


def test_it_recovers_a_source_as_it_was_at_a_moment(call: Caller, backup: Backup, path: Place) -> None:
    at = timezone.now().isoformat()
    body = {"type": "point_in_time", "source": "docs", "at": at, "target": path, "reason": "x"}

    answer = call.post("/recover", body)

    assert answer.status == 202
    assert answer["backup"] == str(backup.pk)
    assert "keeps no log of the changes" in answer["notices"][0]


def test_it_tells_the_window_of_a_source(call: Caller, backup: Backup, path: Place) -> None:
    body = {"type": "point_in_time", "source": "docs", "at": "2020-01-01T00:00:00Z", "target": path, "reason": "x"}

    answer = call.post("/recover", body)

    assert is_problem(answer, 422, "point-in-time-out-of-range")
    assert answer["earliest"]
    assert answer.pointers == ["/at"]


def test_it_brings_a_database_back_beside_itself(call: Caller, repository: Repository, by: Actor) -> None:
    server = postgresql.started(18)
    database, name = server.database("CREATE TABLE orders AS SELECT generate_series(1, 300)"), server.new_name()
    source = call.post("/sources", {"name": "orders", "kind": "postgresql", "options": server.options(database)})
    backup = backed_up(by, Source.objects.get(pk=source["id"]))

    made = call.post("/recover", wish(backup, {"kind": "new_database", "database": name}))
    work()
    found = call.get(made.headers["Location"])

    assert (made.status, found["status"]) == (202, "completed")
    assert (found["target"]["kind"], found["target"]["database"]) == ("new_database", name)
    assert server.rows("SELECT count(*) FROM orders", name) == [(300,)]
    assert postgresql.PASSWORD not in str(source.body) + str(found.body)
    for done in (database, name):
        server.drop(done)


def test_it_recovers_what_is_selected(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path, type="selective", include=["0?.txt"], exclude=["05.txt"]))
    work()

    assert call.get(f"/recover/status/{made['id']}")["status"] == "completed"
    assert len(list(Path(path["path"]).iterdir())) == 9


@pytest.mark.parametrize(
    ("more", "pointer", "sentence"),
    [
        ({"type": "everything"}, "/type", "is not one of: full, partial, point_in_time, selective"),
        ({"backup_id": "x"}, "/backup_id", "There is no backup"),
        ({"backup_id": None}, "/backup_id", "null"),
        ({"reason": ""}, "/reason", "blank"),
        ({"target": {"kind": "new_place"}}, "/target/path", "absolute path"),
        ({"target": {"kind": "new_database"}}, "/target/database", "needs a name"),
        ({"target": {"kind": "new_database", "database": "x", "make_roles": "yes"}}, "/target/make_roles", "boolean"),
        ({"target": "there"}, "/target", "JSON object"),
        ({"target": {"kind": "new_place", "path": "/x", "node": "moon"}}, "/target/node", "There is no node"),
        ({"include": ["a"]}, "/include", "partial"),
        ({"include": "a", "type": "selective"}, "/include", "list"),
        ({"include": ["[a"], "type": "selective"}, "/include", "cannot be used"),
        ({"parts": ["nobody"], "type": "partial"}, "/parts", "has no part “nobody”; it has: docs"),
        ({"conflict": "maybe"}, "/conflict", "is not one of: fail"),
        ({"purpose": "rollback"}, "/purpose", "is not one of: recovery, test"),
        ({"source": "docs"}, "/backup_id", "either a backup or a source"),
        ({"at": "2026-11-22 10:00"}, "/at", "with its offset"),
        ({"storage": "x"}, "/storage", "no member"),
    ],
)
def test_it_names_what_is_wrong_and_leaves_no_trace(
    call: Caller, backup: Backup, path: Place, more: dict[str, Any], pointer: str, sentence: str
) -> None:
    before = Job.objects.count()

    answer = call.post("/recover", wish(backup, path, **more))

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == [pointer]
    assert sentence in answer["errors"][0]["detail"]
    assert (Recovery.objects.count(), Job.objects.count()) == (0, before)


@pytest.mark.parametrize("place", ["relative", "/etc/x", "/", "/srv/../x"])
def test_it_refuses_places_that_are_none(call: Caller, backup: Backup, place: str) -> None:
    answer = call.post("/recover", wish(backup, {"kind": "new_place", "path": place}))

    assert is_problem(answer, 422, "target-incompatible")
    assert answer.pointers == ["/target/path"]


@pytest.mark.parametrize("kind", ["in_place", "source", "download"])
def test_it_says_what_is_not_there_yet(call: Caller, backup: Backup, kind: str) -> None:
    answer = call.post("/recover", wish(backup, {"kind": kind}))

    assert is_problem(answer, 422, "not-available")
    assert "Recover to a new place" in answer["detail"]
    assert answer.pointers == ["/target/kind"]


def test_it_leaves_no_data_that_somebody_took_for_a_test(call: Caller, backup: Backup, path: Place) -> None:
    answer = call.post("/recover", wish(backup, path, purpose="test"))

    assert is_problem(answer, 422, "not-available")
    assert answer.pointers == ["/purpose"]
    assert not Recovery.objects.exists()


def test_in_place_needs_a_permission_of_its_own(caller_with: Callable[..., Caller], backup: Backup) -> None:
    caller = caller_with("recovery.request_recovery")

    assert is_problem(caller.post("/recover", wish(backup, {"kind": "in_place"})), 403, "permission-denied")


def test_it_refuses_a_place_that_is_being_written_to(call: Caller, backup: Backup, path: Place) -> None:
    call.post("/recover", wish(backup, path))

    assert is_problem(call.post("/recover", wish(backup, path)), 409, "target-busy")


def test_it_refuses_what_holds_nothing(call: Caller, source: Source, path: Place) -> None:
    made = call.post("/create", {"type": "full"})
    body = {"type": "full", "backup_id": made["id"], "target": path, "reason": "x"}

    assert is_problem(call.post("/recover", body), 422, "not-restorable")


def test_it_tells_what_an_id_of_another_kind_is(call: Caller, source: Source, path: Place) -> None:
    body = {"type": "full", "backup_id": str(source.pk), "target": path, "reason": "x"}

    answer = call.post("/recover", body)

    assert "is the id of a source, not of a backup" in answer["detail"]
    assert answer.pointers == ["/backup_id"]


def test_it_makes_one_recovery_of_a_repeated_request(call: Caller, backup: Backup, path: Place) -> None:
    first = call.post("/recover", wish(backup, path), Idempotency_Key="k")
    second = call.post("/recover", wish(backup, path), Idempotency_Key="k")

    assert first["id"] == second["id"]
    assert second.headers["Idempotency-Replayed"] == "true"


def test_it_cancels_one_that_waits(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path))

    answer = call.delete(f"/recover/{made['id']}", "?reason=wrong+place")

    assert answer.status == 204
    assert call.get(f"/recover/status/{made['id']}")["status"] == "cancelled"
    assert is_problem(call.delete(f"/recover/{made['id']}"), 409, "not-cancellable")


def test_it_cancels_one_that_runs(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path))
    Job.objects.filter(kind="recovery").update(state="running")
    Recovery.objects.update(state="restoring")

    answer = call.delete(f"/recover/{made['id']}")

    assert (answer.status, answer["status"]) == (202, "cancelling")
    assert call.delete(f"/recover/{made['id']}").status == 202


def test_it_has_nothing_to_roll_back(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path))
    waiting = call.post(f"/recover/rollback/{made['id']}", {"reason": "x"})
    work()

    answer = call.post(f"/recover/rollback/{made['id']}", {"reason": "x"})

    assert is_problem(waiting, 409, "rollback-unavailable")
    assert "cancel it instead" in waiting["detail"]
    assert is_problem(answer, 409, "rollback-unavailable")
    assert path["path"] in answer["detail"]
    assert call.post(f"/recover/rollback/{made['id']}", {}).pointers == ["/reason"]
    assert is_problem(call.post(f"/recover/rollback/{uuid4()}", {"reason": "x"}), 404, "not-found")


def test_it_lists_and_filters(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path))["id"]

    def found(**query: str) -> list[str]:
        return [row["id"] for row in call.get("/recover/list", query)["results"]]

    assert found() == found(status="queued", type="full", source="docs", backup=str(backup.pk)) == [made]
    assert found(q="INC") == found(q="recovered") == found(environment=str(backup.environment_id)) == [made]
    assert found(purpose="test") == found(status="failed") == []
    assert call.get("/recover/list", {"stats": "failed"}).pointers == ["/stats"]


def test_it_answers_not_modified_and_tells_its_story(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path))["id"]
    work()
    seen = call.get(f"/recover/status/{made}")

    assert call.get(f"/recover/status/{made}", If_None_Match=seen.headers["ETag"]).status == 304
    assert call.get(f"/recover/{made}").body == seen.body
    assert [row["action"] for row in call.get(f"/recover/{made}/log")["results"]] == [
        "recovery.completed", "recovery.requested",
    ]  # fmt: skip


def test_a_recovery_that_failed_is_still_an_answer(call: Caller, backup: Backup, path: Place) -> None:
    made = call.post("/recover", wish(backup, path))["id"]
    place = Path(path["path"])
    place.mkdir(parents=True)
    (place / "mine").write_text("hands off")
    work()

    answer = call.get(f"/recover/status/{made}")

    assert (answer.status, answer["status"]) == (200, "failed")
    assert answer["error"]["code"] == "target-incompatible"
    assert "is not empty" in answer["error"]["detail"]


def test_it_shows_nothing_to_strangers(caller_with: Callable[..., Caller], backup: Backup, path: Place) -> None:
    asker = caller_with("recovery.request_recovery")
    made = asker.post("/recover", wish(backup, path))
    reader = caller_with("recovery.view_recovery", name="reader")

    assert made.status == 202
    assert is_problem(asker.get(f"/recover/status/{made['id']}"), 403, "permission-denied")
    assert reader.get(f"/recover/status/{made['id']}").status == 200
    assert is_problem(reader.delete(f"/recover/{made['id']}"), 403, "permission-denied")
