"""/recover, /recover/status, /recover/list, /recover/rollback, /recover/{recovery}, /recover/{recovery}/log."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.access import covers, scope
from aihub_backup.core.api import names
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.api.schema import operation, page_of
from aihub_backup.core.failures import Denied
from aihub_backup.core.models import AuditEvent
from backups.api import told
from backups.api.nouns import API
from backups.api.shapes import EventShape
from backups.api.sight import sees_names, with_sight
from backups.models import Trigger
from recovery.api import bodies, shapes
from recovery.models import Recovery, RecoveryPart, RecoveryState, TargetKind
from recovery.models.recovery import BEFORE_THE_START
from recovery.services import recoveries

RECOVERY = names.register(
    names.Noun("recovery", "recovery.Recovery", "recovery.view_recovery", f"{API}/recover/status/{{id}}")
)

IN_PLACE = "recovery.recover_inplace"
_PLACE = {"kind": "new_place", "path": "/srv/recovered/orders"}
EXAMPLES = [
    OpenApiExample(
        "everything", request_only=True,
        value={"type": "full", "backup_id": "7f0c…", "target": _PLACE, "reason": "INC-4711"},
    ),
    OpenApiExample(
        "as it was at a moment", request_only=True,
        value={
            "type": "point_in_time", "source": "models", "at": "2026-11-22T07:41:30+08:00", "target": _PLACE,
            "reason": "INC-4711 wrong upload",
        },
    ),
    OpenApiExample(
        "only the configuration", request_only=True,
        value={
            "type": "selective", "source": "models", "include": ["*.yaml"], "exclude": ["tmp/"], "target": _PLACE,
            "reason": "compare settings",
        },
    ),
]  # fmt: skip


class Recover(Endpoint):
    """Starting a recovery."""

    @operation(
        "recover_create", needs=bodies.REQUEST, body=bodies.RequestRecovery, answers={202: shapes.RecoveryShape},
        problems=(409, 410, 422), summary="Start a recovery", examples=EXAMPLES, tag="recoveries", once=True,
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """Built up beside the target, read back, then given its name in one step. Follow `Location`."""
        given = dict(self.given)
        target = recoveries.Target(**given.pop("target"))
        given["backup"] = given.pop("backup_id", None)
        meant = given["backup"] or given.get("source")
        if target.kind == TargetKind.IN_PLACE and not (meant and covers(self.user, IN_PLACE, meant)):
            raise Denied(f"You need the permission “{IN_PLACE}” to recover in place.")
        made = recoveries.request(given.pop("type"), by=self.actor, trigger=Trigger.API, target=target, **given)
        return self.accepted(shapes.recovery(made, names=sees_names(self, made)), f"{API}/recover/status/{made.pk}")


class Status(Endpoint):
    """How a recovery is."""

    @operation(
        "recover_status", needs="recovery.view_recovery", answers={200: shapes.RecoveryShape}, problems=(404,),
        summary="State, progress and result of a recovery", tagged=True, tag="recoveries",
    )  # fmt: skip
    def get(self, _request: Request, recovery_id: UUID) -> Response:
        """200 in every state, for ever."""
        row = _recovery(self, recovery_id, "recovery.view_recovery")
        return self.going_on(shapes.recovery(row, names=sees_names(self, row)))


class Listing(Endpoint):
    """Recoveries."""

    @operation(
        "recover_list", needs="recovery.view_recovery", query=bodies.RecoveryQuery,
        answers={200: page_of(shapes.RecoveryShape, sparse=True)}, summary="List recoveries", tag="recoveries",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """Newest first; by a cursor that stays true while recoveries are added."""
        rows = with_sight(self._chosen(), self.user)
        return self.scrolled(rows, lambda row: shapes.recovery(row, whole=False, names=row.names_seen))

    def _chosen(self) -> QuerySet[Recovery]:
        asked, rows = self.asked, scope(recoveries.listing(), self.user, "recovery.view_recovery")
        plain = {
            "status": "state__in", "type": "type__in", "purpose": "purpose__in", "backup": "backup",
            "created_after": "created_at__gt", "created_before": "created_at__lt",
        }  # fmt: skip
        rows = rows.filter(**{lookup: asked[name] for name, lookup in plain.items() if name in asked})
        for name, lookup in {"source": "part__source", "environment": "part__source__environment"}.items():
            if name in asked:
                parts = RecoveryPart.objects.filter(recovery=OuterRef("pk"), **{lookup: asked[name]})
                rows = rows.filter(Exists(parts))
        if "q" in asked:
            rows = rows.filter(Q(target_path__icontains=asked["q"]) | Q(reason__icontains=asked["q"]))
        return rows


class Rollback(Endpoint):
    """Undoing a recovery."""

    @operation(
        "recover_rollback", needs="recovery.rollback_recovery", body=bodies.Reason,
        answers={202: shapes.RecoveryShape}, problems=(404, 409), summary="Roll a recovery back", tag="recoveries",
    )  # fmt: skip
    def post(self, _request: Request, recovery_id: UUID) -> Response:
        """A recovery to a new place replaced nothing, so it is refused with what to do instead."""
        raise recoveries.refuse_rollback(_recovery(self, recovery_id, "recovery.rollback_recovery"))


class One(Endpoint):
    """A recovery."""

    @operation(
        "recover_get", needs="recovery.view_recovery", answers={200: shapes.RecoveryShape}, problems=(404,),
        summary="A recovery (the same as its status)", tagged=True, tag="recoveries",
    )  # fmt: skip
    def get(self, _request: Request, recovery_id: UUID) -> Response:
        """The same as its status."""
        row = _recovery(self, recovery_id, "recovery.view_recovery")
        return self.going_on(shapes.recovery(row, names=sees_names(self, row)))

    @operation(
        "recover_cancel", needs="recovery.cancel_recovery", query=bodies.CancelQuery,
        answers={202: shapes.RecoveryShape, 204: None}, problems=(404, 409), summary="Cancel a recovery",
        tag="recoveries",
    )  # fmt: skip
    def delete(self, _request: Request, recovery_id: UUID) -> Response:
        """204 when it had not begun; else 202, and nothing stays behind."""
        row = _recovery(self, recovery_id, "recovery.cancel_recovery")
        waiting = row.state in BEFORE_THE_START
        recoveries.cancel(row, by=self.actor, reason=self.asked["reason"])
        row = recoveries.get(row.pk)
        if waiting and row.state == RecoveryState.CANCELLED:
            return Response(status=204)
        return self.accepted(shapes.recovery(row, names=sees_names(self, row)), f"{API}/recover/status/{row.pk}")


class Log(Endpoint):
    """The story of a recovery."""

    @operation(
        "recover_log", needs="recovery.view_recovery", query=bodies.LogQuery, answers={200: page_of(EventShape)},
        problems=(404,), summary="What happened to a recovery", tag="recoveries",
    )  # fmt: skip
    def get(self, _request: Request, recovery_id: UUID) -> Response:
        """Newest first."""
        row = _recovery(self, recovery_id, "recovery.view_recovery")
        events = AuditEvent.objects.filter(target_type="recovery.recovery", target_id=str(row.pk))
        return self.scrolled(events, told.event, field="at")


def _recovery(endpoint: Endpoint, recovery_id: UUID, permission: str) -> Recovery:
    rows = scope(recoveries.listing(), endpoint.user, permission)
    found: Recovery = names.find(RECOVERY, str(recovery_id), endpoint.user, rows=rows)
    return found
