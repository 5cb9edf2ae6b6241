"""A repeated request is answered again and not done again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from aihub_backup.core.api import idempotency
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import AnsweredRequest, ApiToken
from backups.models import Policy
from backups.services import policies
from tests.api.stories import Answer, Caller, is_problem

BODY = {"name": "gold", "keep_daily": 7}
KEY = {"Idempotency_Key": "4711"}


def test_it_gives_the_first_answer_again(call: Caller) -> None:
    first = call.post("/policies", BODY, **KEY)
    second = call.post("/policies", BODY, **KEY)

    assert (first.status, second.status) == (201, 201)
    assert second.body == first.body
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert Policy.objects.count() == 1


def test_it_takes_the_key_with_quotes_too(call: Caller) -> None:
    call.post("/policies", BODY, Idempotency_Key='"4711"')

    assert call.post("/policies", BODY, **KEY).headers["Idempotency-Replayed"] == "true"


def test_it_refuses_the_key_for_another_body(call: Caller) -> None:
    call.post("/policies", BODY, **KEY)

    assert is_problem(call.post("/policies", {**BODY, "keep_daily": 8}, **KEY), 422, "idempotency-key-reused")


def test_a_key_belongs_to_one_address_and_one_caller(call: Caller, caller_with: Callable[..., Caller]) -> None:
    call.post("/policies", BODY, **KEY)

    assert call.post("/tokens", {"name": "x"}, **KEY).status == 201
    other = caller_with("backups.add_policy")
    assert is_problem(other.post("/policies", BODY, **KEY), 409, "name-taken")


def test_it_forgets_a_refusal(call: Caller) -> None:
    Policy.objects.create(name="gold")
    assert is_problem(call.post("/policies", BODY, **KEY), 409, "name-taken")
    Policy.objects.all().delete()

    assert call.post("/policies", BODY, **KEY).status == 201


def test_it_says_that_the_first_request_is_still_going_on(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    create = policies.create
    nested: list[Answer] = []

    def slow(*arguments: object, **more: object) -> Policy:
        if not nested:
            nested.append(call.post("/policies", BODY, **KEY))
        return create(*arguments, **more)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(policies, "create", slow)
    assert call.post("/policies", BODY, **KEY).status == 201
    assert is_problem(nested[0], 409, "idempotency-in-progress")
    assert nested[0].headers["Retry-After"] == "1"


def test_it_leaves_nothing_behind_when_the_answer_cannot_be_remembered(
    call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember, failing = idempotency._remember, [True]

    def unlucky(*arguments: object) -> None:
        if failing:
            failing.pop()
            raise Refused("the database went away")
        remember(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(idempotency, "_remember", unlucky)
    assert call.post("/policies", BODY, **KEY).status == 409
    assert not Policy.objects.exists()
    assert call.post("/policies", BODY, **KEY).status == 201


def test_it_remembers_for_two_days(call: Caller) -> None:
    call.post("/policies", BODY, **KEY)
    AnsweredRequest.objects.update(created_at=timezone.now() - timedelta(hours=47))
    assert call.post("/policies", BODY, **KEY).status == 201
    AnsweredRequest.objects.update(created_at=timezone.now() - timedelta(hours=49))

    assert is_problem(call.post("/policies", BODY, **KEY), 409, "name-taken")


def test_a_crashed_request_does_not_hold_its_key_for_ever(call: Caller) -> None:
    call.post("/policies", BODY, **KEY)
    AnsweredRequest.objects.update(status=None, created_at=timezone.now() - idempotency.ABANDONED)
    Policy.objects.all().delete()

    assert call.post("/policies", BODY, **KEY).status == 201


def test_it_keeps_answers_with_secrets_sealed(call: Caller) -> None:
    made = call.post("/tokens", {"name": "x"}, **KEY)

    row = AnsweredRequest.objects.get()

    assert made["token"] not in row.body
    assert call.post("/tokens", {"name": "x"}, **KEY)["token"] == made["token"]
    assert ApiToken.objects.filter(name="x").count() == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "schlüssel"])
def test_it_refuses_a_key_that_is_none(call: Caller, key: str) -> None:
    answer = call.post("/policies", BODY, Idempotency_Key=key)

    assert is_problem(answer, 400, "validation-error")
    assert answer["errors"][0]["location"] == "header"


def test_invalid_requests_need_no_key(call: Caller) -> None:
    assert call.post("/policies", {}, **KEY).status == 400
    assert not AnsweredRequest.objects.exists()
