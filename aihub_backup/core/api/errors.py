"""Errors that no view of the API has answered (a foreign Host, a middleware that fails): problems there, and pages
everywhere else."""

from __future__ import annotations

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from aihub_backup.core.failures import Failure
from aihub_backup.core.problems import MEDIA_TYPE, problem, unforeseen

API = "/api/"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """As Django's `handler400`. A foreign Host is told with its cure, never with the names that we answer to."""
    if not request.path.startswith(API):
        return defaults.bad_request(request, exception)
    words = "The request cannot be understood; send it as /api/v1/docs describes."
    if isinstance(exception, DisallowedHost):
        words = (
            "This console does not answer to the name in the header “Host”. Use the address in AIHUB_PUBLIC_URL, or add"
            " the name to AIHUB_ALLOWED_HOSTS."
        )
    return _answer(request, Failure(words, permanent=True, code="bad-request"))


def server_error(request: HttpRequest) -> HttpResponse:
    """As Django's `handler500`; the details are in the log already."""
    if not request.path.startswith(API):
        return defaults.server_error(request)
    return _answer(request, unforeseen())


def _answer(request: HttpRequest, failure: Failure) -> HttpResponse:
    document = problem(failure, request.path)
    return JsonResponse(document, status=document["status"], content_type=MEDIA_TYPE)
