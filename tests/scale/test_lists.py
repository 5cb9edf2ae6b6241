"""Lists of the admin that are drawn and searched in our own way show what Django and unfold would show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from unfold.templatetags.unfold_list import items_for_result, result_headers

from aihub_backup.core import list_cells
from aihub_backup.core.models import User
from backups.models import BackupPart
from tests.scale import city, pages
from tests.scale.city import City, Size

pytestmark = pytest.mark.django_db

HAMLET = Size(60, 6, environments=2, schedules=2)


@pytest.fixture
def hamlet() -> City:
    """Sixty backups of six sources."""
    return city.build(HAMLET)


@pytest.fixture
def browser(owner: User) -> Client:
    """Signed in with every permission."""
    return pages.browser(owner)


def listed(browser: Client, address: str, **query: str) -> Any:
    """The list as it was opened."""
    answer: Any = browser.get(address, query)
    return answer.context_data["cl"]


@pytest.mark.parametrize("query", [{}, {"_popup": "1"}, {"q": "source"}])
@time_machine.travel(datetime(2026, 3, 9, 12, tzinfo=UTC), tick=False)
def test_every_cell_is_drawn_as_unfold_draws_it(hamlet: City, browser: Client, query: dict[str, str]) -> None:
    compared = 0
    for model in (one for one in admin.site._registry if one._meta.app_label != "safes"):
        found = listed(browser, reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), **query)

        drawn = list(list_cells.rows(found, list(result_headers(found))))

        assert drawn == ["".join(items_for_result(found, row, None)) for row in found.result_list]
        compared += len(drawn)
    assert compared > 100


def test_a_name_of_a_source_finds_its_backups_parts_and_checks(hamlet: City, browser: Client) -> None:
    parts = BackupPart.objects.filter(source__name="source-0003")

    counts = [
        listed(browser, f"/admin/backups/{name}/", q="SOURCE-0003").result_count
        for name in ("source", "backup", "backuppart")
    ]

    assert counts == [1, parts.values("backup").distinct().count(), parts.count()]


def test_who_asked_and_what_it_was_called_find_a_backup(hamlet: City, browser: Client) -> None:
    found = listed(browser, "/admin/backups/backup/", q='"before release 43" NIGHTLY')

    assert [row.label for row in found.result_list] == ["before release 43"]


def test_an_id_finds_its_row_and_a_piece_of_it_nothing(hamlet: City, browser: Client) -> None:
    part = BackupPart.objects.order_by("pk")[0]

    whole, piece, of_the_backup = (
        list(listed(browser, "/admin/backups/backuppart/", q=word).result_list)
        for word in (str(part.pk), str(part.pk)[:8], str(part.backup_id))
    )

    assert (whole, piece) == ([part], [])
    assert part in of_the_backup


def test_a_schedule_is_found_once_by_several_of_its_sources(hamlet: City, browser: Client) -> None:
    found = listed(browser, "/admin/backups/schedule/", q="source-000")

    assert found.result_count == len(found.result_list) == HAMLET.schedules
