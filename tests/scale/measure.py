"""`python -m tests.scale.measure`: build the whole city in an empty database and open every page of it.

One line of JSON at the end: [page, queries, milliseconds, milliseconds of this process] for each page.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

import_module("aihub_backup.wsgi")  # as a web process begins

from django.core.management import call_command  # noqa: E402  # the settings must be there first
from django.db import connection  # noqa: E402

from aihub_backup.core.models import User  # noqa: E402
from tests.scale import city, pages  # noqa: E402
from tests.scale.pages import Page  # noqa: E402
from tests.scale.promise import Cost  # noqa: E402


def main() -> None:
    """Build, open, tell."""
    call_command("migrate", verbosity=0)
    city.build(city.FULL)
    rows = [(f"{role}, {cost.name}", *cost[1:]) for role, user in _people() for cost in _costs(role, user)]
    sys.stdout.write(f"{json.dumps(rows)}\n")


def _people() -> list[tuple[str, User]]:
    admin, viewer = city.people()
    if connection.vendor == "postgresql":  # what autovacuum does within a minute
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    return [("admin", admin), ("viewer", viewer)]


def _costs(role: str, user: User) -> list[Cost]:
    client = pages.browser(user)
    machine = [Page("metrics", "/metrics")] if role == "admin" else []
    return [pages.cost(client, page) for page in [*pages.of_the_admin(client), *pages.of_the_api(), *machine]]


if __name__ == "__main__":
    main()
