"""/schedule: when backups are made by themselves."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.access import scope
from aihub_backup.core.api.schema import operation, page_of
from backups.api import schedule_bodies as bodies
from backups.api import schedule_shapes as shapes
from backups.api import told
from backups.api.bodies import RUN
from backups.api.configured import Configured
from backups.api.nouns import API, SCHEDULE
from backups.api.sight import sees_names
from backups.models import Schedule, ScheduleSlot, Source, Trigger
from backups.services import backups, schedules

CREATE = [
    OpenApiExample("every database, daily", {
        "name": "Daily Database Backup", "type": "database", "strategy": "database",
        "cron_expression": "0 2 * * *", "retention_days": 7,
    }, request_only=True),
    OpenApiExample("two sources, hourly in Shanghai", {
        "name": "orders", "type": "incremental", "sources": ["orders", "users"], "cron_expression": "0 * * * *",
        "timezone": "Asia/Shanghai", "misfire": "skip", "grace_seconds": 900,
    }, request_only=True),
]  # fmt: skip

WIDER = "Your roles or your token reach some sources only; name some of these, or an environment or tags of yours."


class _Schedules(Configured):
    noun = SCHEDULE
    related = ("environment", "policy")
    volatile = shapes.VOLATILE

    def rows(self, permission: str) -> QuerySet[Schedule]:
        """With their sources and newest slots."""
        newest = ScheduleSlot.objects.order_by("-due_at", "-id")[:1]
        return super().rows(permission).prefetch_related("sources", Prefetch("slots", newest, to_attr="newest"))

    def narrowed(self, rows: QuerySet[Schedule]) -> QuerySet[Schedule]:
        """By what they say."""
        plain = {"type": "type__in", "source": "sources", "policy": "policy", "enabled": "enabled"}
        chosen = {lookup: self.asked[name] for name, lookup in plain.items() if name in self.asked}
        return rows.filter(**chosen)


class Create(_Schedules):
    """Adding a schedule."""

    @operation(
        "schedule_create", needs="backups.add_schedule", body=bodies.CreateSchedule,
        answers={201: shapes.ScheduleShape}, problems=(409, 422), summary="Add a schedule", tag="schedules",
        examples=CREATE, once=True,
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """Its first backup is made at the next moment that its expression means."""
        given = dict(self.given)
        with transaction.atomic():
            made = schedules.create(
                given.pop("name"), given.pop("type"), given.pop("cron_expression"), by=self.actor, **given
            )
            self.must_reach(made, "backups.add_schedule", WIDER)
        return self.created(shapes.schedule(made), self.named(made))


class Listing(_Schedules):
    """Schedules."""

    @operation(
        "schedule_list", needs="backups.view_schedule", query=bodies.ScheduleQuery, tag="schedules",
        answers={200: page_of(shapes.ScheduleShape)}, summary="List schedules",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """By name."""
        return self.listing(shapes.schedule, "backups.view_schedule")


class One(_Schedules):
    """A schedule."""

    @operation(
        "schedule_get", needs="backups.view_schedule", answers={200: shapes.ScheduleShape}, problems=(404,),
        summary="A schedule", tagged=True, tag="schedules",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """By id or name."""
        return Response(shapes.schedule(self.one(reference, "backups.view_schedule")))

    @operation(
        "schedule_change", needs="backups.change_schedule", body=bodies.ChangeSchedule,
        answers={200: shapes.ScheduleShape}, problems=(404, 409, 412), summary="Change a schedule", tag="schedules",
    )  # fmt: skip
    def patch(self, _request: Request, reference: str) -> Response:
        """Members that are left out stay. If-Match guards against a lost change. Another time begins to count now."""
        return self.changed(reference, "backups.change_schedule", shapes.schedule, schedules.change)

    @operation(
        "schedule_delete", needs="backups.delete_schedule", query=bodies.DeleteScheduleQuery, answers={204: None},
        problems=(404, 409, 412), summary="Delete a schedule", tag="schedules",
    )  # fmt: skip
    def delete(self, _request: Request, reference: str) -> Response:
        """Its backups stay. Refused while nothing else backs its sources up, unless `confirm`."""
        row: Schedule = self.one(reference, "backups.delete_schedule")
        self.require_version(shapes.schedule(row))
        schedules.delete(row, by=self.actor, reason=self.asked["reason"], confirm=self.asked["confirm"])
        return Response(status=204)


class Run(_Schedules):
    """Running a schedule now."""

    @operation(
        "schedule_run", needs=RUN, answers={202: shapes.ScheduleRunsShape}, problems=(404, 409, 422),
        summary="Run a schedule now", tag="schedules", once=True,
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Beside its slots, which stay as they are; also when it is disabled."""
        row: Schedule = self.one(reference, RUN)
        within = scope(Source.objects.all(), self.user, RUN)
        made = schedules.run_now(row, by=self.actor, trigger=Trigger.API, within=within)
        shown = told.backup(backups.get(made.pk), names=sees_names(self, made))
        return self.accepted({"runs": [shown]}, f"{API}/status/{made.pk}")


class Enable(_Schedules):
    """Switching a schedule on and off."""

    @operation(
        "schedule_enable", needs="backups.change_schedule", body=bodies.EnableSchedule,
        answers={200: shapes.ScheduleShape}, problems=(404, 412), summary="Enable or disable a schedule",
        tag="schedules",
    )  # fmt: skip
    def put(self, _request: Request, reference: str) -> Response:
        """What was due while it was disabled is not caught up with."""
        row: Schedule = self.one(reference, "backups.change_schedule")
        self.require_version(shapes.schedule(row))
        if self.given["enabled"]:
            schedules.enable(row, by=self.actor)
        else:
            schedules.disable(row, by=self.actor, reason=self.given["reason"])
        return Response(shapes.schedule(self.one(str(row.pk), "backups.change_schedule")))
