"""What people do with schedules. Each change is written through to the scheduler in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Invalid, Refused
from backups.models import Backup, BackupType, Schedule, Source, Trigger
from backups.services import beat, configured, cron, guards, policies, saving, scope, slots
from backups.services.sources import labels

CHANGEABLE = (
    "name", "type", "strategy", "sources", "tags", "environment", "cron_expression", "timezone", "policy", "misfire",
    "grace_seconds",
)  # fmt: skip

_TIMES = {"cron_expression", "timezone"}


@dataclass(frozen=True)
class Preset:
    """A schedule that many want: the words of `create`."""

    key: str
    name: str
    type: str
    cron_expression: str
    retention_days: int
    told: str | Promise


def presets() -> tuple[Preset, ...]:
    """The ready-made ones for which this version has a strategy."""
    return tuple(one for one in _presets() if scope.is_possible(BackupType(one.type), ""))


def _presets() -> tuple[Preset, ...]:
    return (
        Preset("daily-database", "Daily Database Backup", BackupType.DATABASE, "0 2 * * *", 7,
               _("every database, daily at 02:00, kept for 7 days")),
        Preset("weekly-files", "Weekly Files Backup", BackupType.FILES, "0 1 * * 0", 30,
               _("all files, on Sunday at 01:00, kept for 30 days")),
        Preset("hourly-redis", "Hourly Redis Backup", BackupType.REDIS, "0 * * * *", 2,
               _("every Redis, hourly, kept for 2 days")),
        Preset("monthly-config", "Monthly Config Backup", BackupType.CONFIG, "0 3 1 * *", 365,
               _("all configuration, on the first of the month at 03:00, kept for 365 days")),
    )  # fmt: skip


def preset(key: str) -> dict[str, Any]:
    """The words of `create` that the preset stands for; `create` refuses those of which nothing could come yet.
    Invalid names the presets."""
    found = next((one for one in _presets() if one.key == key), None)
    if found is None:
        told = gettext("There is no preset “%(word)s”; the presets are %(known)s.")
        sentence = told % {"word": key[:40], "known": ", ".join(one.key for one in presets())}
        raise Invalid(sentence, errors={"preset": sentence})
    return {name: value for name, value in asdict(found).items() if name not in ("key", "told")}


def create(
    name: str,
    type: str,  # noqa: A002  # the word of the API
    cron_expression: str,
    *,
    by: Actor,
    sources: Sequence[Source] = (),
    retention_days: int | None = None,
    enabled: bool = True,
    **fields: Any,
) -> Schedule:
    """Add a schedule; further fields are the model's (CHANGEABLE). Its first slot is the next one from now on.

    `retention_days` alone makes or reuses the policy “keep N days”. InvalidCron, Invalid (naming every wrong field),
    Refused (name taken, a source that is archived).
    """
    schedule = Schedule(name=name, type=type, cron_expression=cron_expression, enabled=enabled)
    configured.lay_over(schedule, fields, allowed=set(CHANGEABLE) - {"sources"})
    with transaction.atomic():
        schedule.policy = _policy(schedule.policy, retention_days, by)
        _check(schedule, sources)
        scope.must_be_possible(BackupType(schedule.type), schedule.strategy)
        beat.attach(schedule)
        saving.write(schedule)
        schedule.sources.set(sources)
        record("schedule.create", schedule, by=by, **_told(schedule, sources))
    return schedule


def change(schedule: Schedule, *, by: Actor, retention_days: int | None = None, **changes: Any) -> Schedule:
    """Change some fields; Invalid names every wrong one. Another time begins to count now."""
    guards.must_keep_covering(schedule, changes)
    sources = changes.pop("sources", None)
    configured.lay_over(schedule, changes, allowed=CHANGEABLE)
    chosen = list(schedule.sources.filter(archived_at=None) if sources is None else sources)
    if sources and "tags" not in changes:
        schedule.tags = changes["tags"] = {}
    with transaction.atomic():
        if retention_days is not None:
            given = changes.get("policy")
            schedule.policy = changes["policy"] = _policy(given, retention_days, by)
        _check(schedule, chosen)
        if {"type", "strategy"} & changes.keys():  # an old one may still be renamed or led elsewhere
            scope.must_be_possible(BackupType(schedule.type), schedule.strategy)
        _store(schedule, changes)
        if sources is not None:
            schedule.sources.set(chosen)
        named = sorted([*changes, *([] if sources is None else ["sources"])])
        record("schedule.update", schedule, by=by, changed=named)
    return schedule


def enable(schedule: Schedule, *, by: Actor) -> Schedule:
    """From now on; what was due meanwhile is not caught up with. Of an enabled one nothing changes."""
    return schedule if schedule.enabled else _switch(schedule, True, "", by)


def disable(schedule: Schedule, *, by: Actor, reason: str) -> Schedule:
    """No backup any more by itself, and what is waiting is withdrawn. Invalid without a reason."""
    if not reason.strip():
        sentence = gettext("Say why the schedule is disabled: whoever misses its backups will ask.")
        raise Invalid(sentence, errors={"reason": sentence})
    return _switch(schedule, False, reason.strip(), by) if schedule.enabled else schedule


def delete(schedule: Schedule, *, by: Actor, reason: str = "", confirm: bool = False) -> None:
    """Delete it with its slots; its backups stay.

    Refused (“last-schedule-of-source”) while it is the only one that backs some source up, unless `confirm`; always
    of the one that backs the console itself up.
    """
    guards.must_be_kept(schedule)
    left = [] if confirm else alone(schedule)
    if left:
        names = ", ".join(f"“{source}”" for source in left[:5])
        raise Refused(
            f"No other schedule makes backups of {names}; confirm that nothing shall, or add another schedule first.",
            code="last-schedule-of-source", facts={"sources": [source.name for source in left]},
        )  # fmt: skip
    with transaction.atomic():
        record("schedule.delete", schedule, by=by, reason=reason)
        key = schedule.pk
        schedule.delete()
        schedule.pk = key
        beat.detach(schedule)


def run_now(
    schedule: Schedule, *, by: Actor, trigger: str = Trigger.API, within: QuerySet[Source] | None = None
) -> Backup:
    """Its backup, now, beside its slots; also of a disabled one. `within`: what the caller may back up (None: all)."""
    with transaction.atomic():
        backup = slots.ask(schedule, by=by, trigger=trigger, within=within)
        record("schedule.run", schedule, by=by, backup=str(backup.pk))
    return backup


def next_runs(schedule: Schedule, count: int = 5) -> list[datetime]:
    """The next slots, in UTC; of a disabled one there are none."""
    if not schedule.enabled:
        return []
    return cron.following(schedule.cron_expression, schedule.zone, timezone.now(), count)


def alone(schedule: Schedule) -> list[Source]:
    """The sources in service that only this schedule backs up by itself."""
    if not schedule.enabled:
        return []
    others = [_reached(other) for other in Schedule.objects.filter(enabled=True).exclude(pk=schedule.pk)]
    elsewhere = {source.pk for rows in others for source in rows}
    return [source for source in _reached(schedule) if source.pk not in elsewhere]


def _reached(schedule: Schedule) -> list[Source]:
    """The sources in service that its next run would take."""
    return scope.reached(BackupType(schedule.type), schedule.strategy, slots.covered(schedule))


# --- checking and writing -------------------------------------------------------------------------------------------


def _policy(given: Any, days: int | None, by: Actor) -> Any:
    if days is None:
        return given
    if given is not None:
        sentence = gettext("A policy is given already; give one of them.")
        raise Invalid(sentence, errors={"retention_days": sentence})
    return policies.keep_days(days, by=by)


def _check(schedule: Schedule, sources: Sequence[Source]) -> None:
    """Everything that can be wrong, before anything is written."""
    schedule.cron_expression = cron.checked(schedule.cron_expression)
    cron.zone(schedule.timezone)
    schedule.tags = labels(schedule.tags)
    scope.check(scope.known_type(schedule.type), sources, schedule.strategy)
    if sources and schedule.tags:
        sentence = gettext("Name sources or tags, not both.")
        raise Invalid(sentence, errors={"tags": sentence})
    _refuse_foreign(schedule, sources)
    saving.checked(schedule, besides=("periodic_task", "crontab"))


def _refuse_foreign(schedule: Schedule, sources: Sequence[Source]) -> None:
    for source in sources:
        if schedule.environment is not None and source.environment_id != schedule.environment.pk:
            told = gettext(
                "The source “%(source)s” belongs to the environment “%(environment)s”, the schedule to “%(other)s”."
            )
            facts = {"source": source, "environment": source.environment, "other": schedule.environment}
            sentence = told % facts
            raise Invalid(sentence, errors={"sources": sentence})


def _store(schedule: Schedule, changes: Mapping[str, Any]) -> None:
    written = set(changes)
    if _TIMES & written:
        slots.begin_anew(schedule, timezone.now(), slots.ANOTHER_TIME)
        written.add("decided_until")
    saving.write(schedule, written)
    beat.follow(schedule)


def _switch(schedule: Schedule, enabled: bool, reason: str, by: Actor) -> Schedule:
    schedule.enabled, schedule.disabled_reason = enabled, reason[:500]
    with transaction.atomic():
        slots.begin_anew(schedule, timezone.now(), reason)
        saving.write(schedule, ["enabled", "disabled_reason", "decided_until"])
        beat.follow(schedule)
        record("schedule.enable" if enabled else "schedule.disable", schedule, by=by, reason=reason)
    return schedule


def _told(schedule: Schedule, sources: Sequence[Source]) -> dict[str, Any]:
    """The facts of the audit."""
    plain = ("type", "cron_expression", "timezone", "enabled", "tags")
    policy = schedule.policy.name if schedule.policy else None
    return {
        **{name: getattr(schedule, name) for name in plain}, "sources": [source.name for source in sources],
        "policy": policy,
    }  # fmt: skip
