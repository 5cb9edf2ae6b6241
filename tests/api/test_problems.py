"""Everything that is refused is a problem document with a sentence that names the place and the cure."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from aihub_backup.core.models import ApiToken, User
from aihub_backup.core.problems import KINDS, TYPES
from tests.api.stories import Answer, Caller, is_problem

POLICY = {"name": "gold"}


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "required"),
        (b"{", "not valid JSON"),
        (b'{"name": }', "not valid JSON"),
        (b'{"name": "x", "name": "y"}', "given twice"),
        (b"{" + b'"m": 0, ' * 50_000 + b'"x": 1}', "'m' is given twice"),
        (b'{"name": NaN}', "NaN is not JSON"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b'{"name": "a\\u0000b"}', "NUL"),
        (b'{"name": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"name": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"[]", "must be a JSON object, not a list"),
        (b'"name"', "must be a JSON object, not a str"),
    ],
)
def test_it_says_what_is_wrong_with_a_body(call: Caller, raw: bytes, sentence: str) -> None:
    answer = call.raw("/policies", raw)

    assert answer.status == 400
    assert answer["code"] in ("malformed-json", "validation-error")
    assert sentence in answer["detail"]


def test_it_refuses_a_body_larger_than_any_request(call: Caller) -> None:
    assert is_problem(call.raw("/policies", b'"' + b"x" * (1 << 20) + b'"'), 413, "content-too-large")


def test_it_takes_json_only(call: Caller) -> None:
    answer = call.raw("/policies", b"name=gold", "application/x-www-form-urlencoded")

    assert is_problem(answer, 415, "unsupported-media-type")
    assert "application/json" in answer["detail"]


def test_it_answers_json_only(call: Caller) -> None:
    assert is_problem(call.get("/policies", Accept="text/html"), 406, "not-acceptable")


def test_it_names_an_unknown_member_and_the_one_that_was_meant(call: Caller) -> None:
    answer = call.post("/policies", {**POLICY, "keep_weely": 3, "zebra": 1})

    assert is_problem(answer, 400, "validation-error")
    assert sorted(answer.pointers) == ["/keep_weely", "/zebra"]
    assert "Did you mean “keep_weekly”?" in answer["detail"]


def test_spaces_around_a_text_count(call: Caller) -> None:
    answer = call.post("/policies", {"name": "gold" + " " * 200})

    assert (answer.status, answer.pointers) == (400, ["/name"])


def test_it_reports_every_wrong_member_at_once(call: Caller) -> None:
    answer = call.post("/policies", {"keep_last": -1, "keep_daily": "7", "nonsense": 1})

    assert sorted(answer.pointers) == ["/keep_daily", "/keep_last", "/name", "/nonsense"]


def test_it_points_into_nested_bodies(call: Caller) -> None:
    answer = call.post("/recover", {"type": "full", "reason": "x", "target": {"kind": "moon", "pth": "/x"}})

    assert sorted(answer.pointers) == ["/target/kind", "/target/pth"]
    assert "“moon” is not one of: new_place" in answer["detail"]


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ({"colour": "red"}, "/colour", "unknown-parameter"),
        ({"status": "failed,lost"}, "/status", "validation-error"),
        ({"created_after": "2026-11-22T07:41:30"}, "/created_after", "validation-error"),
        ({"created_after": "yesterday"}, "/created_after", "validation-error"),
        ({"page_size": "501"}, "/page_size", "validation-error"),
        ({"page_size": "many"}, "/page_size", "validation-error"),
        ({"ordering": "size"}, "/ordering", "validation-error"),
        ({"cursor": "garbage"}, "/cursor", "validation-error"),
        ({"cursor": "W10"}, "/cursor", "validation-error"),
        ({"source": "nobody"}, "/source", "validation-error"),
    ],
)
def test_it_ignores_no_query_parameter(call: Caller, query: dict[str, str], pointer: str, code: str) -> None:
    answer = call.get("/list", query)

    assert is_problem(answer, 400, code)
    assert answer.pointers == [pointer]
    assert answer["errors"][0]["location"] == "query"


def test_it_asks_strangers_to_sign_in(db: None) -> None:
    answer = Caller(APIClient()).get("/list")

    assert is_problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("given", ["Bearer", "Bearer a b", "Bearer aihub_nonsense", "Bearer \xff\xfe", "bearer x"])
def test_it_refuses_a_token_that_is_none(db: None, given: str) -> None:
    answer = Answer(APIClient().get("/api/v1/backup/list", headers={"Authorization": given}))

    assert is_problem(answer, 401, "unauthenticated")


def test_it_ignores_a_scheme_that_is_not_ours(db: None) -> None:
    answer = Answer(APIClient().get("/api/v1/backup/list", headers={"Authorization": "Basic b2xpdmlhOng="}))

    assert is_problem(answer, 401, "unauthenticated")


def test_it_names_the_missing_permission(caller_with: Callable[..., Caller]) -> None:
    answer = caller_with("backups.view_source").get("/list")

    assert is_problem(answer, 403, "permission-denied")
    assert answer["permission"] == "backups.view_backup"
    assert "backups.view_backup" in answer["detail"]


def test_it_knows_nothing_at_other_addresses(call: Caller, db: None) -> None:
    assert is_problem(call.get("/nothing"), 404, "not-found")
    assert is_problem(call.get("/api/v9/x"), 404, "not-found")
    assert is_problem(Caller(APIClient()).get("/nothing"), 401, "unauthenticated")


def test_it_names_the_methods_of_an_address(call: Caller) -> None:
    answer = call.delete("/list")

    assert is_problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["Allow"]
    assert "OPTIONS" not in answer.headers["Allow"]
    assert is_problem(Answer(call.client.options("/api/v1/backup/list")), 405, "method-not-allowed")


def test_it_tells_what_an_id_of_another_kind_is(call: Caller) -> None:
    policy = call.post("/policies", POLICY)["id"]

    answer = call.get(f"/status/{policy}")

    assert is_problem(answer, 404, "not-found")
    assert f"{policy} is the id of a policy, not of a backup" in answer["detail"]
    assert f"/api/v1/backup/policies/{policy}" in answer["detail"]


def test_it_tells_strangers_nothing_about_an_id(call: Caller, caller_with: Callable[..., Caller]) -> None:
    policy = call.post("/policies", POLICY)["id"]

    answer = caller_with("backups.view_backup").get(f"/status/{policy}")

    assert is_problem(answer, 404, "not-found")
    assert "policy" not in answer["detail"]


def test_it_keeps_the_callers_request_id(call: Caller) -> None:
    assert call.get("/list", X_Request_ID="trace-1").headers["X-Request-ID"] == "trace-1"
    assert call.get("/list", X_Request_ID="a b\nc").headers["X-Request-ID"].startswith("req_")


def test_it_lets_nobody_keep_an_answer(call: Caller) -> None:
    assert call.get("/list").headers["Cache-Control"] == "no-store"
    assert call.get("/nothing").headers["Cache-Control"] == "no-store"


def test_it_works_with_and_without_a_slash_at_the_end(call: Caller) -> None:
    assert call.get("/list/").status == 200
    assert call.post("/policies/", POLICY).status == 201


def test_a_browser_needs_the_csrf_token(owner: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner)

    refused = browser.post("/api/v1/backup/policies", POLICY, content_type="application/json")
    page = browser.get("/api/v1/backup/list")

    assert refused.status_code == 403
    assert refused.json()["code"] == "permission-denied"
    assert "CSRF" in refused.json()["detail"]
    assert page.status_code == 200


def test_it_hides_what_it_did_not_foresee(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_more: object) -> None:
        raise KeyError("the inside of the house")

    monkeypatch.setattr("backups.services.policies.create", broken)
    answer = call.post("/policies", POLICY)

    assert is_problem(answer, 500, "internal-error")
    assert "inside of the house" not in str(answer.body)
    assert answer["retryable"] is True


def test_no_token_is_stored_as_it_is(call: Caller, owner: User) -> None:
    given = str(vars(call.client)["_credentials"]["HTTP_AUTHORIZATION"]).split()[1]
    row = ApiToken.objects.get(user=owner)

    assert given not in (row.digest, row.token_key)
    assert given not in str(row)


# --- types ----------------------------------------------------------------------------------------------------------


def test_the_type_of_a_problem_leads_to_a_page_that_explains_it(call: Caller) -> None:
    refused = call.get("/policies/nobody")

    page = Client().get(refused["type"])

    assert page.status_code == 200
    assert refused["title"] in page.content.decode()
    assert "<code>not-found</code> and the HTTP status 404" in page.content.decode()


@pytest.mark.parametrize("code", sorted(KINDS))
@pytest.mark.django_db
def test_every_problem_has_its_page_in_both_languages(code: str) -> None:
    english, chinese = (Client(headers={"Accept-Language": it}).get(TYPES + code) for it in ("en", "zh-hans"))

    assert (english.status_code, chinese.status_code) == (200, 200)
    assert code in chinese.content.decode()
    assert "HTTP 状态" in chinese.content.decode()


@pytest.mark.django_db
def test_there_is_no_page_for_a_problem_that_is_none() -> None:
    assert Client().get(f"{TYPES}nonsense").status_code == 404
