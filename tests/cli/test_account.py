"""`aihub account`: roles from the terminal, through the same services as everything else."""

from __future__ import annotations

import json

import pytest
from allauth.mfa.totp.internal.auth import TOTP
from django.test import Client
from pytest_django.fixtures import Settings

from aihub_backup.cli import account, console
from aihub_backup.cli.exits import CommandFailed
from aihub_backup.core.access import everywhere, permits
from aihub_backup.core.models import AuditEvent, Environment, User

pytestmark = pytest.mark.django_db
RUN = "backups.run_backup"


@pytest.fixture
def rita() -> User:
    """Somebody with an account."""
    return User.objects.create_user("rita", password="correct horse battery")


def fresh() -> User:
    return User.objects.get(username="rita")


def test_it_makes_an_account_with_a_one_time_password(capsys: pytest.CaptureFixture[str]) -> None:
    account.main(["add", "rita", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert fresh().check_password(told["password"])
    assert fresh().password_expired


def test_it_gives_a_role_within_bounds_and_takes_it_away(rita: User, environment: Environment) -> None:
    account.main(["give", "rita", "operator", "--environment", "prod", "--tag", "team=ml"])
    given = permits(fresh(), RUN, environment.pk, {"team": "ml"}), permits(fresh(), RUN, environment.pk, {})
    staff = fresh().is_staff
    account.main(["take", "rita", "Operator"])

    assert (given, staff, permits(fresh(), RUN, environment.pk)) == ((True, False), True, False)
    assert list(AuditEvent.objects.order_by("at").values_list("action", flat=True)) == ["role.give", "role.take"]


def test_without_bounds_the_role_holds_everywhere(rita: User, capsys: pytest.CaptureFixture[str]) -> None:
    account.main(["give", "rita", "Restore operator"])

    account.main(["list"])

    assert everywhere(fresh(), RUN)
    assert "Restore operator" in capsys.readouterr().out


def test_it_names_the_roles_when_there_is_no_such_one(rita: User) -> None:
    with pytest.raises(CommandFailed, match="the roles are Viewer, Auditor"):
        account.main(["give", "rita", "king"])


def test_it_ends_a_lock(rita: User, client: Client, settings: Settings) -> None:
    words = {"login": "rita", "password": "correct horse battery"}
    for _attempt in range(settings.AXES_FAILURE_LIMIT):
        client.post("/accounts/login/", {**words, "password": "x"})
    locked = client.post("/accounts/login/", words).status_code

    account.main(["unlock", "rita"])

    assert (locked, client.post("/accounts/login/", words).status_code) == (429, 302)


def test_ending_a_lock_tells_one_sentence(
    rita: User, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    account.main(["unlock", "rita"])

    assert capsys.readouterr().out == "rita may sign in again\n"
    assert [record for record in caplog.records if record.name.startswith("axes")] == []


def test_it_forgets_a_second_factor_that_was_lost(rita: User) -> None:
    TOTP.activate(rita, "JBSWY3DPEHPK3PXP")

    account.main(["forget-second-factor", "rita"])

    with pytest.raises(CommandFailed, match="has no second factor"):
        account.main(["forget-second-factor", "rita"])
    assert console.actor().kind == "cli"
