"""Keeping a backup, letting it go again, accepting a history; and who sees the names inside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import AuditEvent
from backups.models import Backup, BackupPart, Repository, RepositoryState, Verification, VerificationState
from backups.services import repositories
from recovery.models import Recovery, RecoveryPart
from tests.api.stories import Caller, is_problem
from tests.recovery.stories import asked

pytestmark = pytest.mark.django_db(transaction=True)


def later(days: int) -> str:
    return (timezone.now() + timedelta(days=days)).isoformat()


def test_it_holds_and_releases_a_backup(call: Caller, backup: Backup) -> None:
    held = call.post(f"/{backup.pk}/hold", {"until": later(7), "reason": "audit"})
    assert (held.status, bool(held["hold_until"])) == (200, True)
    assert is_problem(call.delete(f"/{backup.pk}"), 409, "on-hold")

    released = call.post(f"/{backup.pk}/release", {"reason": "audit is over"})

    assert (released.status, released["hold_until"]) == (200, None)
    facts = list(AuditEvent.objects.filter(action__startswith="backup.").order_by("at").values_list("action", "facts"))
    told = {action: found.get("reason") for action, found in facts}
    assert (told["backup.hold"], told["backup.release"]) == ("audit", "audit is over")


@pytest.mark.parametrize("days", [-1, 3])
def test_a_hold_is_in_the_future_and_never_shortened(call: Caller, backup: Backup, days: int) -> None:
    call.post(f"/{backup.pk}/hold", {"until": later(7), "reason": "audit"})

    answer = call.post(f"/{backup.pk}/hold", {"until": later(days), "reason": "audit"})

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == ["/until"]


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2300-01-01T00:00:00Z"])
def test_a_time_beyond_all_calendars_is_told(call: Caller, backup: Backup, until: str) -> None:
    answer = call.post(f"/{backup.pk}/hold", {"until": until, "reason": "audit"})

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == ["/until"]


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00%2B14:00"])
@pytest.mark.parametrize("address", ["/list", "/recover/list"])
def test_no_list_goes_back_to_such_a_time(call: Caller, address: str, name: str, moment: str) -> None:
    assert is_problem(call.get(f"{address}?{name}={moment}"), 400, "validation-error")


@pytest.mark.parametrize("address", ["hold", "release"])
def test_a_hold_has_a_reason(call: Caller, backup: Backup, address: str) -> None:
    answer = call.post(f"/{backup.pk}/{address}", {"until": later(7)} if address == "hold" else {})

    assert answer.pointers == ["/reason"]


def test_it_accepts_the_history_of_a_tampered_repository(call: Caller, repository: Repository) -> None:
    assert is_problem(call.post("/repositories/main/accept-history", {"reason": "looked"}), 409, "state-conflict")
    repositories.learn(repository, Failure("records are gone", permanent=True, code="tampered"))

    answer = call.post("/repositories/main/accept-history", {"reason": "the disk was restored from a copy"})

    assert (answer.status, answer["status"]) == (200, RepositoryState.OK)
    assert AuditEvent.objects.get(action="repository.history.accept").facts["reason"]


def test_names_inside_a_backup_are_for_those_who_may_browse(
    caller_with: Callable[..., Caller], backup: Backup, target: Path, by: Actor
) -> None:
    oddity = {"path": "salaries.xls", "action": "read", "message": "it changed", "severity": "warning"}
    damage = {"object": "packs/aa", "message": "damaged", "snapshots": [], "paths": ["salaries.xls"], "paths_count": 1}
    part, recovery = backup.parts.get(), asked(by, backup, target)
    BackupPart.objects.update(item_errors=[oddity])
    check = Verification.objects.create(
        part=part, storage=part.repository.storage, level=3, state=VerificationState.FAILED, problems=[damage],
        problems_count=1, requested_by_name="x",
    )  # fmt: skip
    RecoveryPart.objects.update(item_errors=[oddity])
    finding = {"part": "docs", "check": "read back", "passed": False, "detail": "salaries.xls (other content)."}
    Recovery.objects.update(findings=[finding])
    addresses = [f"/status/{backup.pk}", f"/verifications/{check.pk}", f"/recover/status/{recovery.pk}"]
    sees = ["backups.view_backup", "backups.view_verification", "recovery.view_recovery"]
    viewer, browser = caller_with(*sees), caller_with(*sees, "backups.browse_backup", name="bert")

    shown = [str(viewer.get(address).body) for address in (*addresses, "/verifications")]

    assert not [text for text in shown if "salaries" in text]
    assert all("salaries" in str(browser.get(address).body) for address in addresses)
