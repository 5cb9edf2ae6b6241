"""The environment in which another process works on this test's own database."""

from __future__ import annotations

import os

from django.db import connection


def of_this_database() -> dict[str, str]:
    """Ours, with the address of the test's database; embedded, whatever that is."""
    name = connection.settings_dict["NAME"]
    address = os.environ.get("AIHUB_DATABASE_URL", "").rpartition("/")[0]
    url = f"sqlite:///{name}" if connection.vendor == "sqlite" else f"{address}/{name}"
    own = {"AIHUB_DATABASE_URL": url, "AIHUB_MODE": "embedded", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return {**os.environ, **own}
