"""A password that somebody else has seen is good for one thing: to choose another one."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from aihub_backup.core.models import User

OPEN = ("admin:password_change", "admin:logout", "admin:jsi18n", "healthz", "mfa_authenticate")


class OneTimePasswordMiddleware:
    """Leads who signed in with a one-time password to the page where it is changed, and nowhere else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request; process_view() may have led it elsewhere. Tokens have no password and pass."""
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_view: object) -> HttpResponse | None:
        """None lets the request pass."""
        user, match = request.user, request.resolver_match
        due = isinstance(user, User) and user.password_expired
        if not due or (match is not None and match.view_name in OPEN):
            return None
        messages.warning(
            request, _("This password is only for choosing your own, which ends it; then the console opens.")
        )
        return HttpResponseRedirect(reverse("admin:password_change"))
