"""Schemathesis asks every operation, as the admin and as a viewer: no 5xx, nothing that the document does not tell.

A reduced run with fixed seeds; `./aihub prove api` asks more.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from schemathesis import GenerationMode

from aihub_backup.core.models import ApiToken, User
from aihub_backup.core.roles import VIEWER
from backups.api import schedules
from tests.api.fuzzing import MODES, Fuzzer
from tests.roles.worlds import World, person, policy, world

EXAMPLES = int(os.environ.get("AIHUB_FUZZ_EXAMPLES", "4"))  # of each operation and mode
REPORT = os.environ.get("AIHUB_FUZZ_REPORT", "")  # where the proof wants to read what was found


@pytest.fixture
def ours(db: None) -> World:
    """One of each thing."""
    made = world("ours")
    made.rows["policies"] = policy()
    return made


@pytest.fixture(params=["admin", "viewer"])
def fuzzer(request: pytest.FixtureRequest, ours: World, owner: User, tmp_path: Path) -> Fuzzer:
    """Somebody who may do everything, or only look."""
    user = owner if request.param == "admin" else person(VIEWER, ours.environment)
    row, token = ApiToken.objects.issue(user, "fuzz")
    ours.rows["token_id"] = row
    return Fuzzer(ours, token, tmp_path)


@pytest.mark.slow
def test_every_answer_is_one_that_the_document_tells(fuzzer: Fuzzer) -> None:
    for operation in fuzzer.operations().values():
        for mode in MODES:
            fuzzer.fuzz(operation, mode, EXAMPLES)

    if REPORT:
        Path(REPORT).write_text(json.dumps(fuzzer.told()))
    assert not fuzzer.tally.failures, "\n\n".join(f"{key}: {words}" for key, words in fuzzer.tally.failures.items())
    assert fuzzer.tally.cases > len(MODES) * len(fuzzer.operations())


def test_a_crash_is_found(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_given: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(schedules.Listing, "narrowed", crash)

    fuzzer.fuzz(fuzzer.operations()["schedule_list"], GenerationMode.POSITIVE, 1)

    assert fuzzer.tally.statuses == {500: 1}
    assert ("schedule_list", "AssertionError") in fuzzer.tally.failures
