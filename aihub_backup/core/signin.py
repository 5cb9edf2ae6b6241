"""Signing in with a browser: who asks from where, the second factor, and what a lock-out says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter, get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import TOTP
from allauth.mfa.utils import encrypt, is_mfa_enabled
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _

from aihub_backup.core import secrets
from aihub_backup.core.models import User

# Where somebody without a second factor may be: making one, proving the password again, changing it, going away.
OPEN = frozenset({
    "mfa_activate_totp", "mfa_reauthenticate", "mfa_authenticate", "account_reauthenticate", "account_login",
    "account_inactive", "admin:login", "admin:password_change", "admin:password_change_done", "admin:logout",
    "admin:jsi18n", "healthz",
})  # fmt: skip
_PLACE = ("mfa_authenticator", "all", "data")  # what is sealed opens in no other place


def client_ip(request: HttpRequest) -> str:
    """Who asks. Behind our TLS proxy its last word in X-Forwarded-For counts; anybody may say what stands before it."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.SECURE_PROXY_SSL_HEADER else ""
    return forwarded.rpartition(",")[2].strip() or str(request.META.get("REMOTE_ADDR", ""))


def locked_out(
    request: HttpRequest, _response: HttpResponse | None = None, _credentials: Mapping[str, Any] | None = None
) -> HttpResponse:
    """The page that says so, 429. The same for names that do not exist."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    sentence = _(
        "Too many attempts to sign in as this person from your address. Wait %(minutes)d minutes, or ask an"
        " administrator to run “aihub account unlock”."
    ) % {"minutes": minutes}
    return render(
        request, "account/locked_out.html", {"title": _("Locked for a while"), "sentence": sentence}, status=429
    )


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth's own types are not complete
    """Accounts are made by administrators, never by visitors."""

    def is_open_for_signup(self, _request: HttpRequest) -> bool:
        """No."""
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """By our backends alone: axes counts the failures there, a second count would lock whole addresses."""
        return authenticate(request, **credentials)

    def get_client_ip(self, request: HttpRequest) -> str:
        """As the lock-out sees it."""
        return client_ip(request)


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # as above
    """The second factor's secrets are sealed with the console's key, like every other secret in the database."""

    def encrypt(self, text: str) -> str:
        """Sealed."""
        return secrets.seal(text.encode(), *_PLACE)

    def decrypt(self, encrypted_text: str) -> str:
        """Opened. SecretUnreadable when the key is another one."""
        return secrets.unseal(encrypted_text, *_PLACE).decode()


class ActivateTotpForm(ActivateTOTPForm):  # type: ignore[misc]  # as above
    """Whoever looks over a shoulder sees one code: it must not be good a second time, right after."""

    def clean_code(self) -> str:
        """The code, used up by this."""
        code: str = super().clean_code()
        held = Authenticator(user=self.user, type=Authenticator.Type.TOTP, data={"secret": encrypt(self.secret)})
        if not TOTP(held).validate_code(code):
            raise get_adapter().validation_error("incorrect_code")
        return code


def reseal() -> int:
    """Seal every second factor anew with the current key; how many. SecretUnreadable when one does not open."""
    adapter, count = MfaAdapter(), 0
    for row in Authenticator.objects.all():
        held = {name: row.data[name] for name in ("secret", "seed") if name in row.data}
        row.data = {**row.data, **{name: adapter.encrypt(adapter.decrypt(text)) for name, text in held.items()}}
        row.save(update_fields=["data"])
        count += len(held)
    return count


def due(user: object) -> bool:
    """Does somebody who is signed in lack the second factor that AIHUB_REQUIRE_MFA asks for?"""
    return bool(settings.AIHUB_REQUIRE_MFA and isinstance(user, User) and not is_mfa_enabled(user))


class SecondFactorMiddleware:
    """With AIHUB_REQUIRE_MFA, leads who has no second factor yet to the page where one is made, and nowhere else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request; process_view() may have led it elsewhere. Tokens have no second factor and pass."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: object) -> HttpResponse | None:
        """None lets the request pass."""
        user, match = request.user, request.resolver_match
        if (match is not None and match.view_name in OPEN) or not due(user):
            return None
        return HttpResponseRedirect(reverse("mfa_activate_totp"))
