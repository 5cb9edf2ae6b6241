"""What no form of ours sends: refused as a bad request, stored nowhere, and no failure of the console."""

from __future__ import annotations

import pytest
from django.test import Client

from backups.models import Source

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("value", ["-1", "[]", "x\x00", "9" * 40])
@pytest.mark.parametrize("field", ["environment", "policy"])
def test_a_choice_that_is_none_changes_nothing(source: Source, admin_client: Client, field: str, value: str) -> None:
    before = Source.objects.values().get(pk=source.pk)
    admin_client.raise_request_exception = False

    answer = admin_client.post(f"/admin/backups/source/{source.pk}/change/", {field: value})

    assert answer.status_code == 400
    assert Source.objects.values().get(pk=source.pk) == before


def test_a_key_with_forty_digits_makes_no_group(admin_client: Client) -> None:
    admin_client.raise_request_exception = False

    answer = admin_client.post("/admin/auth/group/add/", {"name": "ops", "permissions": "9" * 40})

    assert answer.status_code == 400
