"""/{backup}/hold and /{backup}/release: keeping a backup whatever its policy says."""

from __future__ import annotations

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.access import scope
from aihub_backup.core.api import names
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.api.schema import operation
from aihub_backup.core.failures import Invalid
from backups.api import bodies, shapes, told
from backups.api.nouns import BACKUP
from backups.api.sight import sees_names
from backups.models import Backup
from backups.services import backups

NEEDS = "backups.hold_backup"


class Hold(Endpoint):
    """Holding a backup."""

    @operation(
        "backup_hold", needs=NEEDS, body=bodies.HoldBackup, answers={200: shapes.BackupShape},
        problems=(404, 410), summary="Hold a backup", once=True,
    )  # fmt: skip
    def post(self, _request: Request, backup_id: UUID) -> Response:
        """Nobody may delete it before that moment, whatever its policy says."""
        row, until = _backup(self, backup_id), self.given["until"]
        try:
            backups.hold(row, until=until, by=self.actor, reason=self.given["reason"])
        except Invalid as error:
            raise Invalid(error.message, errors={"until": error.message}) from None
        return _shown(self, backup_id)


class Release(Endpoint):
    """Ending a hold."""

    @operation(
        "backup_release", needs=NEEDS, body=bodies.MustReason, answers={200: shapes.BackupShape},
        problems=(404,), summary="Release a backup from its hold", once=True,
    )  # fmt: skip
    def post(self, _request: Request, backup_id: UUID) -> Response:
        """Its policy counts again. Who said so and why is recorded."""
        backups.release(_backup(self, backup_id), by=self.actor, reason=self.given["reason"])
        return _shown(self, backup_id)


def _backup(endpoint: Endpoint, backup_id: UUID) -> Backup:
    rows = scope(Backup.objects.all(), endpoint.user, NEEDS)
    found: Backup = names.find(BACKUP, str(backup_id), endpoint.user, rows=rows)
    return found


def _shown(endpoint: Endpoint, backup_id: UUID) -> Response:
    row = backups.get(backup_id)
    return Response(told.backup(row, names=sees_names(endpoint, row)))
