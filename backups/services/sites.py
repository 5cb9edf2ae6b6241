"""What people do with sites."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from aihub_backup.core.audit import Actor, record
from backups.models import Site
from backups.services import configured, saving


def create(name: str, *, by: Actor, description: str = "") -> Site:
    """Add a site. Invalid (not a slug), Refused (name taken)."""
    site = Site(name=name, description=description)
    saving.checked(site)
    with transaction.atomic():
        saving.write(site)
        record("site.create", site, by=by)
    return site


def update(site: Site, *, by: Actor, **changes: Any) -> Site:
    """Change name or description."""
    configured.lay_over(site, changes, allowed=("name", "description"))
    saving.checked(site)
    with transaction.atomic():
        saving.write(site, changes)
        record("site.update", site, by=by, changed=sorted(changes))
    return site
