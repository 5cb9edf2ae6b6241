"""Who holds a way into a repository, through the API."""

from __future__ import annotations

import base64

import pytest

from aihub_backup.core.models import AuditEvent
from backups.models import Repository
from tests.api.stories import Caller, is_problem

KEYFILE = base64.b64encode(b"the keyfile that Ann keeps in a drawer").decode()


def labels(call: Caller) -> list[str]:
    return sorted(slot["label"] for slot in call.get("/repositories/main/keys")["slots"])


def handle(call: Caller, label: str) -> str:
    found = call.get("/repositories/main/keys")["slots"]
    return str(next(slot["handle"] for slot in found if slot["label"] == label))


def test_a_new_printed_code_counts_once_it_was_typed(call: Caller, repository: Repository) -> None:
    drawn = call.post("/repositories/main/keys/new-code")
    before = labels(call)

    added = call.post("/repositories/main/keys", {"label": "the safe", "recovery_code": drawn["code"]})
    again = call.post("/repositories/main/keys", {"label": "the safe", "recovery_code": drawn["code"]})

    assert (drawn.status, added.status, again.status) == (200, 200, 200)
    assert drawn["code"] in drawn["text"]
    assert (before, labels(call)) == (["application", "recovery kit"], ["application", "recovery kit", "the safe"])
    assert call.get("/repositories/main")["kit_proven_at"] is not None
    assert drawn["code"] not in str(list(AuditEvent.objects.values()))


def test_a_secret_comes_is_changed_and_goes(call: Caller, repository: Repository) -> None:
    call.post("/repositories/main/keys", {"label": "Ann", "keyfile": KEYFILE})
    other = base64.b64encode(b"another keyfile that Ann keeps in a drawer").decode()

    changed = call.post("/repositories/main/keys/change", {"old_keyfile": KEYFILE, "keyfile": other})
    stale = call.post("/repositories/main/keys/change", {"old_keyfile": KEYFILE, "keyfile": other})
    gone = call.post("/repositories/main/keys/remove", {"slot": handle(call, "Ann"), "reason": "she left"})

    assert (changed.status, gone.status) == (200, 200)
    assert is_problem(stale, 422, "wrong-secret")
    assert labels(call) == ["application", "recovery kit"]


def test_new_keys_are_drawn_and_the_console_gets_a_new_keyfile(call: Caller, repository: Repository) -> None:
    rotated = call.post("/repositories/main/keys/rotate", {"reason": "a laptop was stolen"})
    renewed = call.post("/repositories/main/keys/renew", {})

    assert (rotated.status, rotated["epoch"], renewed.status) == (200, 2, 200)
    assert [slot["works"] for slot in call.get("/repositories/main/keys")["slots"]] == [True, True]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/keys", {"label": "Ann"}, 400, "validation-error"),
        ("/keys", {"label": "Ann", "keyfile": KEYFILE, "passphrase": "x"}, 400, "validation-error"),
        ("/keys", {"label": "Ann", "keyfile": "AAAA"}, 422, "not-possible"),
        ("/keys", {"label": "Ann", "recovery_code": "AAAA-BBBB"}, 422, "wrong-secret"),
        ("/keys/remove", {"slot": "Zoe", "reason": "x"}, 422, "not-possible"),
        ("/keys/remove", {"slot": "recovery kit", "reason": "x"}, 422, "not-possible"),
        ("/keys/remove", {"slot": "recovery kit"}, 400, "validation-error"),
        ("/keys/rotate", {}, 400, "validation-error"),
        ("/keys/renew", {"passphrase": "wrong"}, 422, "wrong-secret"),
    ],
)
def test_what_cannot_be_is_refused(
    call: Caller, repository: Repository, path: str, body: dict[str, str], status: int, code: str
) -> None:
    assert is_problem(call.post(f"/repositories/main{path}", body), status, code)
    assert labels(call) == ["application", "recovery kit"]
