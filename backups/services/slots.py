"""The moments at which a schedule's backups are due, and what becomes of each. Whoever looks first writes them down.

The scheduler's ticks and the sweep both end here. It may be called by several at once, late, twice or not at all for
days: a moment has one row, and the row is written in the transaction that asks for its backup.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from aihub_backup.core import tags
from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Failure, Refused
from backups.models import (
    Backup,
    BackupState,
    BackupType,
    Misfire,
    Schedule,
    ScheduleSlot,
    SlotState,
    Source,
    Trigger,
)  # fmt: skip
from backups.services import backups, cron, repositories, scope

log = logging.getLogger(__name__)

# A clock may be set back by so much without a slot that was run becoming due a second time.
SET_BACK = timedelta(hours=1)

# Kept in the console's own language and told in the reader's (`core.retelling`).
_SUPERSEDED = gettext_noop("A newer slot took its place.")
_LATE = gettext_noop("Nobody could begin it within the grace.")
_PAUSED = gettext_noop("All its sources are paused.")
_ALL_PAUSED = gettext_noop("All sources of the schedule “%(schedule)s” are paused; resume one.")
ANOTHER_TIME = gettext_noop("The schedule was given another time.")
NOTES = (
    _SUPERSEDED, _LATE, _PAUSED, ANOTHER_TIME, _ALL_PAUSED, scope.NOTHING, scope.NOTHING_OF, scope.NOT_YET,
    scope.ARCHIVED, backups.BUSY, *repositories.REFUSALS,
)  # fmt: skip


def schedule_due(schedule_id: UUID | str, now: datetime | None = None) -> Backup | None:
    """Write down every slot since the last one up to now, ask for the newest one's backup, tell which were missed.

    The backup, or None: nothing is due, the schedule is disabled or gone, or the backup was refused. A refused slot
    stays due and is tried again by the next call until its grace is over.
    """
    moment = now or timezone.now()
    with transaction.atomic():
        schedule = _held(schedule_id)
        if schedule is None:
            return None
        _forget_the_future(schedule, moment)
        _write_down(schedule, moment)
        return _decide(schedule, moment)


def sweep(now: datetime | None = None) -> list[Backup]:
    """The same for every enabled schedule. Call it every minute: then a dead, late or double scheduler is harmless."""
    made = []
    for key in Schedule.objects.filter(enabled=True).values_list("pk", flat=True):
        try:
            made.append(schedule_due(key, now))
        except Exception:  # one sick schedule must not keep the others
            log.exception("the slots of the schedule %s cannot be settled", key)
    return [backup for backup in made if backup is not None]


def begin_anew(schedule: Schedule, now: datetime, why: str) -> None:
    """From now on: what is waiting is withdrawn, and nothing before this moment becomes due any more."""
    schedule.slots.filter(state=SlotState.DUE).update(state=SlotState.SKIPPED, note=why[:500])
    schedule.decided_until = now


def covered(schedule: Schedule, within: QuerySet[Source] | None = None) -> QuerySet[Source]:
    """The sources its environment, names and tags leave of `within` (None: all); also paused ones."""
    rows = Source.objects.all() if within is None else within
    if schedule.environment_id is not None:
        rows = rows.filter(environment=schedule.environment_id)
    if named := list(schedule.sources.values_list("pk", flat=True)):
        return rows.filter(pk__in=named)
    return rows.filter(tags.carry("tags", schedule.tags))


def ask(schedule: Schedule, *, by: Actor, trigger: str, within: QuerySet[Source] | None = None) -> Backup:
    """Ask for the schedule's backup. Refused as by `backups.request`, and when all its sources are paused."""
    rows = covered(schedule, within)
    chosen = _meant(schedule, rows)
    if chosen == []:
        raise Refused(_(_ALL_PAUSED) % {"schedule": schedule}, code="source-not-ready")
    return backups.request(
        schedule.type, by=by, trigger=trigger, sources=chosen, within=rows, family=schedule.strategy,
        policy=schedule.policy, label=schedule.name,
    )  # fmt: skip


def _meant(schedule: Schedule, rows: QuerySet[Source]) -> list[Source] | None:
    """The named ones in service; None: whatever the type means. Where there is nothing but the console, the console."""
    if schedule.sources.exists():
        return list(rows.filter(enabled=True, archived_at=None))
    if Source.objects.filter(own_protection=None, archived_at=None).exists():
        return None
    return list(scope.itself(BackupType(schedule.type), schedule.strategy, rows)) or None


def why_missed(backup: Backup) -> str:
    """The sentence of the slot, in English; "" where its schedule is gone."""
    slot = ScheduleSlot.objects.filter(backup=backup).first()
    return slot.note if slot else ""


# --- writing down ---------------------------------------------------------------------------------------------------


def _held(schedule_id: UUID | str) -> Schedule | None:
    """The schedule, held until the end of the transaction: of two looks at once the second sees the first one's."""
    rows = Schedule.objects.select_for_update(of=("self",)).filter(enabled=True)
    return rows.select_related("policy", "environment").filter(pk=schedule_id).first()


def _forget_the_future(schedule: Schedule, now: datetime) -> None:
    """A clock that was far ahead has written slots of days to come; they would keep those days from being backed up."""
    schedule.slots.filter(due_at__gt=now + SET_BACK).delete()


def _write_down(schedule: Schedule, now: datetime) -> None:
    since = min(schedule.decided_until, now)
    due, left_out = cron.between(schedule.cron_expression, schedule.zone, since, now)
    rows = [ScheduleSlot(schedule=schedule, due_at=moment, created_at=now) for moment in due]
    ScheduleSlot.objects.bulk_create(rows, ignore_conflicts=True)  # the first writer of a moment wins
    schedule.decided_until = now
    Schedule.objects.filter(pk=schedule.pk).update(decided_until=now)
    if left_out:
        record("schedule.slots.left_out", schedule, by=_actor(schedule), count=left_out)


# --- deciding -------------------------------------------------------------------------------------------------------


def _decide(schedule: Schedule, now: datetime) -> Backup | None:
    waiting = list(schedule.slots.filter(state=SlotState.DUE).order_by("due_at"))
    if not waiting:
        return None
    newest = waiting.pop()
    _miss(schedule, waiting, now, _SUPERSEDED)
    if now > _deadline(schedule, newest):
        _miss(schedule, [newest], now, newest.note or _LATE)
        return None
    return _run(schedule, newest)


def _deadline(schedule: Schedule, slot: ScheduleSlot) -> datetime:
    """With `run_once` the grace begins when the slot was written down: an outage is no reason to leave it out."""
    begin = slot.due_at if schedule.misfire == Misfire.SKIP else max(slot.due_at, slot.created_at)
    return begin + timedelta(seconds=schedule.grace_seconds)


def _run(schedule: Schedule, slot: ScheduleSlot) -> Backup | None:
    if _paused(schedule):
        _settle(slot, SlotState.SKIPPED, note=_PAUSED)
        return None
    try:
        backup = ask(schedule, by=_actor(schedule), trigger=Trigger.SCHEDULE)
    except Failure as failure:
        _settle(slot, SlotState.DUE, note=failure.message)
        return None
    _settle(slot, SlotState.RUN, backup=backup, note="")
    return backup


def _paused(schedule: Schedule) -> bool:
    """Somebody has paused every source that is named: a decision, nothing that was missed."""
    return schedule.sources.exists() and not covered(schedule).filter(enabled=True, archived_at=None).exists()


def _settle(slot: ScheduleSlot, state: SlotState, *, note: str, backup: Backup | None = None) -> None:
    slot.state, slot.backup, slot.note = state, backup, note[:500]
    slot.save(update_fields=["state", "backup", "note"])


def _miss(schedule: Schedule, slots: Sequence[ScheduleSlot], now: datetime, why: str) -> None:
    """Silence would look like success: each of them becomes a backup in the state “missed”."""
    if not slots:
        return
    made = Backup.objects.bulk_create([_missed(schedule, slot, now) for slot in slots])
    for slot, backup in zip(slots, made, strict=True):
        slot.state, slot.backup, slot.note = SlotState.MISSED, backup, (slot.note or why)[:500]
    ScheduleSlot.objects.bulk_update(slots, ["state", "backup", "note"], batch_size=200)
    first, last = slots[0].due_at.isoformat(), slots[-1].due_at.isoformat()
    record(
        "schedule.missed", schedule, by=_actor(schedule), count=len(slots), first=first, last=last, why=slots[-1].note
    )


def _missed(schedule: Schedule, slot: ScheduleSlot, now: datetime) -> Backup:
    """A run that never was: no parts, at the time at which it should have been."""
    by = _actor(schedule)
    return Backup(
        type=BackupType(schedule.type), state=BackupState.MISSED, label=schedule.name, policy=schedule.policy,
        environment=schedule.environment, trigger=Trigger.SCHEDULE, created_at=slot.due_at, finished_at=now,
        requested_by_kind=by.kind, requested_by_name=by.name,
    )  # fmt: skip


def _actor(schedule: Schedule) -> Actor:
    return Actor(None, schedule.name, "schedule")
