"""Every list of the console as somebody opens it: each page of the admin with its filters, each list of the API."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from aihub_backup.core.paging import Mark
from backups.models import Backup, BackupPart
from tests.scale.promise import Cost

WARM = 5  # runs whose median counts
API = "/api/v1/backup"
DEEP = 500  # the page far behind


class Page(NamedTuple):
    """What is opened."""

    name: str
    address: str


def browser(user: Any) -> Client:
    """Signed in."""
    client = Client(SERVER_NAME="127.0.0.1", raise_request_exception=True)
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def cost(client: Client, page: Page, *, timed: bool = True) -> Cost:
    """The page, warm: once for its queries; with `timed` five times more for its time."""
    client.get(page.address, **_headers(page))
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(page.address, **_headers(page))
    queries = len(captured)  # counted now: the next request empties the log
    assert answer.status_code == 200, f"{page.name} {page.address}: {answer.status_code}"
    assert queries > 0, f"{page.name} asked the database nothing: the page or the count is wrong"
    took = [_took(client, page) for _ in range(WARM)] if timed else [(0.0, 0.0)]
    whole, own = (statistics.median(column) for column in zip(*took, strict=True))
    return Cost(page.name, queries, whole, own)


def _headers(page: Page) -> dict[str, Any]:
    return {"HTTP_AUTHORIZATION": f"Bearer {settings.AIHUB_METRICS_TOKEN}"} if page.name == "metrics" else {}


def _took(client: Client, page: Page) -> tuple[float, float]:
    begin, own = time.perf_counter(), time.process_time()
    client.get(page.address, **_headers(page))
    return (time.perf_counter() - begin) * 1000, (time.process_time() - own) * 1000


# --- the admin --------------------------------------------------------------------------------------------------------


def of_the_admin(client: Client) -> Iterator[Page]:
    """The overview, and of each list the first page, one far behind, each filter and the search."""
    yield Page("overview", reverse("admin:index"))
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label != "safes":
            address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            answer: Any = client.get(address)
            if answer.status_code == 200:
                yield from _of_a_list(model._meta.label, address, answer.context_data["cl"], model_admin)


def _of_a_list(name: str, address: str, found: Any, model_admin: Any) -> Iterator[Page]:
    yield Page(name, address)
    last = min(DEEP, found.paginator.num_pages)
    if last > 1:
        yield Page(f"{name}, page {last}", f"{address}?p={last}")
    for spec in found.filter_specs:
        chosen = next((one["query_string"] for one in list(spec.choices(found))[1:]), "")
        yield Page(f"{name}, by {spec.title}", address + chosen)
    if model_admin.search_fields:
        for word in ("source-0007", "7"):
            yield Page(f"{name}, search {word}", f"{address}?q={word}")


# --- the API ----------------------------------------------------------------------------------------------------------


def of_the_api() -> Iterator[Page]:
    """Each list: as it opens, far behind, and by each of its parameters."""
    for name, query in [*_backups(), *_others()]:
        path = name.partition(",")[0]
        yield Page(f"GET {name}", f"{API}/{path}?{urlencode(query)}")


def _backups() -> Iterator[tuple[str, dict[str, str]]]:
    seen = BackupPart.objects.filter(source__environment__name="env-07")  # by the viewer, too
    part = seen.select_related("source__environment", "repository").order_by("created_at")[0]
    yield "list", {}
    yield "list, 500 rows", {"page_size": "500"}
    yield "list, far behind", {"cursor": _far_behind()}
    yield "list, oldest first", {"ordering": "created_at"}
    yield "list, counted", {"count": "true"}
    for name, value in {
        "status": "failed", "type": "full", "source": part.source.name, "environment": part.source.environment.name,
        "repository": part.repository.name, "policy": "gold", "created_before": "2199-01-01T00:00:00Z",
        "verified": "true", "restorable": "true", "q": "release 7", "tag": "team",
    }.items():  # fmt: skip
        yield f"list, {name}", {name: value}
    yield "list, not verified", {"verified": "false"}
    yield "list, not restorable", {"restorable": "false"}


def _others() -> Iterator[tuple[str, dict[str, str]]]:
    yield "verifications", {}
    yield "verifications, status", {"status": "failed"}
    yield "verifications, level", {"level": "2"}
    for name in ("sources", "storages", "repositories", "policies", "schedule/list"):
        yield name, {}
        yield f"{name}, q", {"q": "7"}
    yield "sources, page 2", {"page": "2", "page_size": "2"}
    yield "sources, tag", {"tag": "team:ml"}
    yield "sources, kind", {"kind": "files"}
    yield "recover/list", {}
    yield "recover/list, q", {"q": "4711"}
    yield "recover/list, status", {"status": "completed"}
    yield "tokens", {}


def _far_behind() -> str:
    """The cursor in the middle of all backups."""
    middle = Backup.objects.order_by("-created_at")[Backup.objects.count() // 2]
    return str(Mark(middle.created_at, middle.pk, False))
