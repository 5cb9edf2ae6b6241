"""`/metrics`, behind a token of its own."""

from __future__ import annotations

import hmac
import os

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess

from aihub_backup.metrics import text
from aihub_backup.metrics.collector import StateCollector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # where the processes of one web server share their counts

_state = StateCollector()


@login_not_required
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything in the text format. 404 where no token is set, 401 without it."""
    if not settings.AIHUB_METRICS_TOKEN:
        raise Http404
    if not _knows(request.headers.get("Authorization", ""), settings.AIHUB_METRICS_TOKEN):
        return HttpResponse(status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    page = generate_latest(_processes()) + text.write(_state.collect())
    return HttpResponse(page, content_type=CONTENT_TYPE_LATEST)


def _knows(given: str, token: str) -> bool:
    """Compared in a time that tells nothing about how much of it was right."""
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _processes() -> CollectorRegistry:
    """The counts of all web processes, or of this one where it is alone."""
    if DIRECTORY not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types here
    return registry
