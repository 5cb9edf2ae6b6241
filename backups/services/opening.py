"""What the runner needs to reach a storage and to open a repository.

Secrets lie in it in the clear: it goes to the runner's stdin and nowhere else.
"""

from __future__ import annotations

import base64
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from aihub_backup.core.failures import Refused
from backups.kinds import STORAGES
from backups.models import Repository, RepositoryState, Storage


def store(storage: Storage) -> dict[str, Any]:
    """{"kind", "options", "secrets"} of the engine's store."""
    backend, given = STORAGES.load(storage.kind), options(storage)
    return {"kind": storage.kind, "options": backend.store_options(given), "secrets": list(storage.secrets.values())}


def options(storage: Storage) -> Any:
    """Its Options, the secret ones among them."""
    return STORAGES.options(storage.kind, {**storage.options, **storage.secrets})


def repository(row: Repository, secret: dict[str, Any] | None = None) -> dict[str, Any]:
    """What opens it (`backups.runner.places`): store with secrets, our keyfile or the secret given, anchors, cache.

    Refused while it is being created. A tampered one opens without anchors: what is left of it can be read and
    restored, and nothing writes to it.
    """
    if row.state == RepositoryState.CREATING:
        told = _("The repository “%(repository)s” is still being created.")
        raise Refused(told % {"repository": row}, code="state-conflict")
    spec = {
        "store": store(row.storage),
        "secret": secret or {"kind": "keyfile", "value": keyfile(row)},
        "id": row.engine_id, "anchors": list(row.anchors), **surroundings(row),
    }  # fmt: skip
    if secret is None and (coming := row.secrets.get("next")):
        spec["next"] = {"kind": "keyfile", "value": base64.b64decode(coming)}
    return spec | ({"anchors": [], "cache": ""} if row.state == RepositoryState.TAMPERED else {})


def keyfile(row: Repository) -> bytes:
    """The console's own key to it."""
    return base64.b64decode(row.secrets["keyfile"])


def surroundings(row: Repository) -> dict[str, Any]:
    """Where its cache lies, and what this console is called in its log."""
    cache = settings.AIHUB_HOME / "cache" / str(row.era)
    return {"cache": str(cache), "console": settings.AIHUB_PUBLIC_URL}
