"""A console that has been in use for long: many sources, many more backups, written straight into the tables.

Every source is backed up once a day. A part in twelve went wrong in some way, every third point was verified, what is
older than sixty days has mostly expired. Nothing of it is on any disk.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils import timezone

from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import AuditEvent, Environment, Grant, Job, Node, User
from aihub_backup.core.roles import VIEWER
from backups.models import (
    Backup,
    BackupPart,
    Policy,
    Repository,
    RepositoryState,
    Schedule,
    ScheduleSlot,
    Source,
    Storage,
    Verification,
)
from backups.services import schedules
from recovery.models import Recovery, RecoveryPart

BATCH = 2_000  # rows of one INSERT
DAYS_OF_SLOTS = 30
PLENTY = ("completed",) * 88 + ("completed_with_warnings",) * 4 + ("failed",) * 3 + ("cancelled",) + ("expired",) * 4
KEPT = timedelta(days=60)
TEAMS = ("ml", "web", "data")


@dataclass(frozen=True)
class Size:
    """How much there is of it."""

    backups: int
    sources: int
    environments: int = 20
    schedules: int = 40


FULL = Size(100_000, 1_000)
SMALL = Size(1_000, 100)


@dataclass
class City:
    """What was built, as far as somebody wants to address it."""

    size: Size
    now: datetime = field(default_factory=timezone.now)
    environments: list[Environment] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)
    repositories: dict[Any, Repository] = field(default_factory=dict)  # by environment

    def sources_of(self, number: int) -> list[Source]:
        """Whose parts the backup of that number has: mostly one, sometimes three; seldom of two environments."""
        step = self.size.environments
        if number % 500 == 499:
            places: tuple[int, ...] = (number, number + 1)
        elif number % 50 == 49:
            places = (number, number + step, number + 2 * step)
        else:
            places = (number,)
        return list(
            {self.sources[at % len(self.sources)].pk: self.sources[at % len(self.sources)] for at in places}.values()
        )

    def moment(self, number: int) -> datetime:
        """When the backup of that number was asked for: 0 is the newest."""
        return self.now - timedelta(minutes=10) - timedelta(days=number / self.size.sources)


def build(size: Size) -> City:
    """All of it."""
    city = City(size)
    _places(city)
    _schedules(city)
    for first in range(0, size.backups, BATCH):
        _runs(city, range(first, min(first + BATCH, size.backups)))
    _recoveries(city)
    return city


def people() -> tuple[User, User]:
    """Somebody who may do everything, and a viewer whose grant covers one environment."""
    admin = User.objects.create_superuser("olivia", "olivia@example.org", "correct horse battery")
    viewer = User.objects.create_user("rita", "rita@example.org", "correct horse battery", is_staff=True)
    grant = Grant.objects.create(user=viewer, role=Group.objects.get(name=VIEWER))
    grant.environments.set([Environment.objects.get(name="env-07")])
    return admin, viewer


# --- what people configure --------------------------------------------------------------------------------------------


def _places(city: City) -> None:
    node = Node.objects.create(name="host-a", seen_at=city.now)
    Node.objects.create(name="host-b", seen_at=city.now)
    policies = [
        Policy.objects.create(name="gold", rpo_target_minutes=1_500, verify_interval_hours=24, keep_daily=60),
        Policy.objects.create(name="silver", rpo_target_minutes=3_000, retention_days=60),
        Policy.objects.create(name="lead"),
    ]
    for number in range(city.size.environments):
        place = Environment.objects.create(name=f"env-{number:02}")
        storage = Storage.objects.create(
            name=f"disk-{number:02}", kind="local", environment=place, node=node,
            options={"path": f"/nowhere/{number}"},
            tested_at=city.now,
        )  # fmt: skip
        city.environments.append(place)
        city.repositories[place.pk] = Repository.objects.create(
            name=f"main-{number:02}", storage=storage, state=RepositoryState.OK, kit_proven_at=city.now
        )
    city.sources = [_source(city, number, policies) for number in range(city.size.sources)]
    Source.objects.bulk_create(city.sources, BATCH)


def _source(city: City, number: int, policies: list[Policy]) -> Source:
    place = city.environments[number % len(city.environments)]
    return Source(
        name=f"source-{number:04}", kind="files" if number % 3 else "sqlite", environment=place,
        options={"paths": [f"/nowhere/{number}"]}, tags={"team": TEAMS[number % 3]},
        repository=city.repositories[place.pk],
        policy=[*policies, None][number % 4], enabled=number % 25 != 0,
    )  # fmt: skip


def _schedules(city: City) -> None:
    for number in range(city.size.schedules):
        mine = [one for at, one in enumerate(city.sources) if at % city.size.schedules == number]
        city.schedules.append(schedules.create(
            f"nightly-{number:02}", "full", f"{number} 2 * * *", by=SYSTEM, sources=mine,
        ))  # fmt: skip
    slots = [
        ScheduleSlot(
            schedule=one, due_at=city.now - timedelta(days=day, minutes=at),
            state="missed" if (at + day) % 41 == 7 else "run",
        ) for at, one in enumerate(city.schedules) for day in range(DAYS_OF_SLOTS)
    ]  # fmt: skip
    ScheduleSlot.objects.bulk_create(slots, BATCH)


# --- what happened ----------------------------------------------------------------------------------------------------


def _runs(city: City, numbers: Iterable[int]) -> None:
    backups, parts, jobs, checks, events = [], [], [], [], []
    for number in numbers:
        backup = _backup(city, number)
        backups.append(backup)
        events.append(_event(backup, city.moment(number)))
        if backup.state == "missed":
            continue
        for source in city.sources_of(number):
            part = _part(city, backup, source, number)
            parts.append(part)
            check = _check(part, source, city) if part.data_as_of and number % 3 == 0 else None
            checks += [check] if check else []
            jobs += [one.job for one in (part, check) if one is not None and one.job is not None]
    for model, rows in (
        (Job, jobs),
        (Backup, backups),
        (BackupPart, parts),
        (Verification, checks),
        (AuditEvent, events),
    ):
        _store(model, rows)


def _store(model: type[models.Model], rows: list[Any]) -> None:
    model._default_manager.bulk_create(rows, BATCH)


def _state(city: City, number: int) -> str:
    if number < 3:
        return "running"
    if number % 400 == 77:
        return "missed"
    state = PLENTY[number * 37 % len(PLENTY)]
    old = city.now - city.moment(number) > KEPT and number % 10 != 0
    return "expired" if old and state.startswith("completed") else state


def _backup(city: City, number: int) -> Backup:
    of, at, state = city.sources_of(number), city.moment(number), _state(city, number)
    alone = len({source.environment_id for source in of}) == 1
    return Backup(
        pk=uuid.uuid4(), type="full" if number % 7 == 0 else "incremental", state=state, trigger="schedule",
        environment=of[0].environment if alone else None, label=f"before release {number}" if number % 20 == 3 else "",
        requested_by_kind="schedule", requested_by_name=f"nightly-{number % 40:02}", policy=of[0].policy,
        created_at=at, started_at=at, finished_at=None if state == "running" else at + timedelta(minutes=4),
        hold_until=city.now + timedelta(days=90) if number % 333 == 5 else None,
    )  # fmt: skip


def _part(city: City, backup: Backup, source: Source, number: int) -> BackupPart:
    at, state, kept = (
        backup.created_at,
        backup.state,
        backup.state in ("completed", "completed_with_warnings", "expired"),
    )
    job = _job("backup-part", "completed" if kept else state, at)
    return BackupPart(
        pk=job.target_id, backup=backup, source=source, repository=city.repositories[source.environment_id], job=job,
        state=state, mode="full" if backup.type == "full" else "incremental", created_at=at, started_at=at,
        finished_at=backup.finished_at, data_as_of=at if kept else None, items=4_000 if kept else None,
        size_bytes=(number + 1) * 1_000 if kept else None, stored_bytes=(number + 1) * 10 if kept else None,
        stats={"files": 4_000, "new": 12} if kept else {}, warnings_count=2 * (state == "completed_with_warnings"),
        item_errors=[{"path": "/nowhere/a", "action": "read", "message": "It changed.", "severity": "warning"}]
        if state == "completed_with_warnings" else [],
        error_code="source-unreachable" if state == "failed" else "",
        error_message="The source did not answer." if state == "failed" else "",
    )  # fmt: skip


def _check(part: BackupPart, source: Source, city: City) -> Verification:
    at, number = part.created_at + timedelta(minutes=9), part.size_bytes or 0
    damaged = number // 1_000 % 900 == 1
    job = _job("verification", "completed", at)
    return Verification(
        pk=job.target_id, part=part, source=source, storage=city.repositories[source.environment_id].storage, job=job,
        level=2, state="failed" if damaged else "passed", requested_by_name="nightly", created_at=at,
        started_at=at, finished_at=at + timedelta(minutes=1), objects_checked=300, bytes_checked=number,
        problems_count=int(damaged),
        problems=[{"object": "packs/ab", "paths": [], "message": "It is gone."}] if damaged else [],
    )  # fmt: skip


def _job(kind: str, state: str, at: datetime) -> Job:
    running = state == "running"
    return Job(
        pk=uuid.uuid4(), target_id=uuid.uuid4(), kind=kind, queue="backup", state=state, created_at=at, started_at=at,
        finished_at=None if running else at + timedelta(minutes=3), attempts=1, not_before=at,
        progress={"phase": "reading", "bytes_done": 10, "bytes_total": 40, "ratio": 0.25} if running else {},
    )  # fmt: skip


def _event(backup: Backup, at: datetime) -> AuditEvent:
    return AuditEvent(
        pk=uuid.uuid4(), at=at, action="backup.request", actor_kind="schedule", actor_name=backup.requested_by_name,
        target_type="backups.backup", target_id=str(backup.pk), target_name=str(backup),
        environment=backup.environment_id,
    )  # fmt: skip


def _recoveries(city: City) -> None:
    points = BackupPart.objects.filter(state="completed").select_related("backup").order_by("-created_at", "pk")
    made: list[Recovery] = []
    parts: list[RecoveryPart] = []
    for part in _every(50, points[: city.size.backups // 2]):
        job = _job("recovery", "completed", part.created_at)
        job.save(force_insert=True)
        recovery = Recovery(
            type="full", backup=part.backup, state="completed", job=job, target_path=f"/srv/back/{part.pk}",
            reason="INC-4711", requested_by_name="olivia", created_at=part.created_at, finished_at=city.now,
        )  # fmt: skip
        made.append(recovery)
        parts.append(RecoveryPart(recovery=recovery, part=part))
    _store(Recovery, made)
    _store(RecoveryPart, parts)


def _every(step: int, rows: Iterable[Any]) -> Iterator[Any]:
    return (row for at, row in enumerate(rows) if at % step == 0)
