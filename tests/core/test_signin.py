"""Signing in: the second factor, the lock after many failures, and who is not touched by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core.management import call_command
from django.test import Client
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from aihub_backup.core.models import User

PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXP"
ACTIVATE = "/accounts/second-factor/totp/activate/"
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


def sign_in(client: Client, password: str = PASSWORD, name: str = "olivia", address: str = HERE) -> Any:
    return client.post("/accounts/login/", {"login": name, "password": password}, REMOTE_ADDR=address)


def code(secret: str = SECRET) -> str:
    """What the person's telephone shows now."""
    return str(format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time()))))


def is_inside(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_it_asks_for_name_and_password_and_lets_in(client: Client, owner: User) -> None:
    shown = client.get("/admin/login/?next=/admin/core/job/", follow=True)

    assert shown.status_code == 200
    assert "sign up" not in shown.text.lower()
    assert sign_in(client).status_code == 302
    assert is_inside(client)


def test_nobody_makes_an_account_for_themselves(client: Client, db: None) -> None:
    assert client.get("/accounts/signup/").status_code in (302, 404)
    assert not User.objects.exists()


def test_many_failures_lock_this_person_from_this_address_with_a_sentence(
    client: Client, owner: User, settings: Settings
) -> None:
    for _attempt in range(settings.AXES_FAILURE_LIMIT):
        answer = sign_in(client, "wrong")
    right = sign_in(client)

    assert (answer.status_code, right.status_code) == (429, 429)
    assert "Wait 15 minutes" in right.text
    assert not is_inside(client)


def test_a_lock_touches_nobody_else(
    client: Client, owner: User, operator: User, api_for: Callable[[User], APIClient], settings: Settings
) -> None:
    inside, token = Client(), api_for(owner)
    sign_in(inside)
    for _attempt in range(settings.AXES_FAILURE_LIMIT + 1):
        sign_in(client, "wrong")

    assert sign_in(Client(), address=ELSEWHERE).status_code == 302
    assert sign_in(Client(), name="oscar").status_code == 302
    assert token.get("/api/v1/backup/list").status_code == 200
    assert is_inside(inside)


def test_what_a_visitor_claims_about_their_address_does_not_count(
    client: Client, owner: User, settings: Settings
) -> None:
    for attempt in range(settings.AXES_FAILURE_LIMIT):
        client.post("/accounts/login/", {"login": "olivia", "password": "x"}, HTTP_X_FORWARDED_FOR=f"10.0.0.{attempt}")

    assert sign_in(client, address="127.0.0.1").status_code == 429


def test_the_second_factor_is_asked_for_after_the_password(client: Client, owner: User) -> None:
    TOTP.activate(owner, SECRET)

    first = sign_in(client)
    between = is_inside(client)
    client.post("/accounts/second-factor/authenticate/", {"code": code()})

    assert first.headers["Location"].startswith("/accounts/second-factor/authenticate/")
    assert client.get(first.headers["Location"]).status_code in (200, 302)
    assert (between, is_inside(client)) == (False, True)


def test_the_code_that_makes_a_second_factor_is_good_for_nothing_else(client: Client, owner: User) -> None:
    sign_in(client)
    client.post(f"/accounts/reauthenticate/?next={ACTIVATE}", {"password": PASSWORD})
    client.get(ACTIVATE)
    shown = code(client.session["mfa.totp.secret"])
    client.post(ACTIVATE, {"code": shown})
    other = Client()
    sign_in(other)

    answer = other.post("/accounts/second-factor/authenticate/", {"code": shown})

    assert Authenticator.objects.filter(user=owner, type=Authenticator.Type.TOTP).exists()
    assert answer.status_code == 200 and not is_inside(other)


def test_a_recovery_code_is_good_once(owner: User) -> None:
    TOTP.activate(owner, SECRET)
    given = RecoveryCodes.activate(owner).get_unused_codes()[0]

    def enters() -> bool:
        client = Client()
        sign_in(client)
        client.post("/accounts/second-factor/authenticate/", {"code": given})
        return is_inside(client)

    assert (enters(), enters()) == (True, False)


def test_the_secret_of_a_second_factor_is_sealed(owner: User) -> None:
    TOTP.activate(owner, SECRET)

    assert SECRET not in str(Authenticator.objects.get().data)


def test_where_it_is_required_the_first_thing_to_do_is_to_make_one(
    client: Client, owner: User, settings: Settings
) -> None:
    settings.AIHUB_REQUIRE_MFA = True
    sign_in(client)

    led, api = client.get("/admin/"), client.get("/api/v1/backup/list")
    asked = client.get(f"/accounts/reauthenticate/?next={ACTIVATE}")
    client.post(f"/accounts/reauthenticate/?next={ACTIVATE}", {"password": PASSWORD})
    page = client.get(ACTIVATE)

    assert "asks for a second factor" in asked.text
    assert led.headers["Location"] == api.headers["Location"] == ACTIVATE
    assert page.status_code == 200, page.headers
    assert "AI Hub Backup" in page.text


def test_tokens_need_no_second_factor(owner: User, api_for: Callable[[User], APIClient], settings: Settings) -> None:
    settings.AIHUB_REQUIRE_MFA = True

    assert api_for(owner).get("/api/v1/backup/list").status_code == 200


def test_a_new_key_seals_the_second_factors_anew(owner: User, client: Client) -> None:
    TOTP.activate(owner, SECRET)
    before = Authenticator.objects.get().data["secret"]

    call_command("rotate_app_keys", verbosity=0)

    assert Authenticator.objects.get().data["secret"] != before
    sign_in(client)
    client.post("/accounts/second-factor/authenticate/", {"code": code()})
    assert is_inside(client)


@pytest.mark.parametrize("page", ["second-factor/", "second-factor/recovery-codes/", "reauthenticate/", "logout/"])
def test_its_pages_are_shown_in_the_consoles_clothes(client: Client, owner: User, page: str) -> None:
    TOTP.activate(owner, SECRET)
    RecoveryCodes.activate(owner)
    sign_in(client)
    client.post("/accounts/second-factor/authenticate/", {"code": code()})

    shown = client.get(f"/accounts/{page}", follow=True)

    assert (shown.status_code, "AI Hub Backup" in shown.text) == (200, True)
