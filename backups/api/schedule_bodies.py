"""What requests about schedules say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from aihub_backup.core.api.bodies import Body, Choice, Flag, Named, Query, Text, Whole, Words
from aihub_backup.core.api.tokens import ENVIRONMENT
from backups.api.bodies import LONGEST_REASON, ConfiguredQuery, Tags
from backups.api.nouns import POLICY, SOURCE
from backups.kinds import FAMILIES
from backups.models import BackupType, Misfire
from backups.models.schedule import LONGEST_GRACE
from backups.services import policies

SYNONYMS = {"backup_type": "type", "strategy_name": "strategy", "cron": "cron_expression", "source_ids": "sources"}


class CreateSchedule(Body):
    """When what is backed up. Without sources and tags: all that the type means, in the environment if one is given."""

    SYNONYMS: ClassVar[Mapping[str, str]] = SYNONYMS

    name = Text(max_length=100)
    type = Choice(choices=BackupType.choices)
    strategy = Choice(choices=list(FAMILIES), required=False, help_text="Narrows full, incremental and differential.")
    sources = serializers.ListField(
        child=Named(SOURCE), required=False, min_length=1, max_length=500, help_text="Ids or names."
    )
    tags = Tags(required=False, help_text="Instead of sources: those that carry all of these.")
    environment = Named(ENVIRONMENT, required=False)
    cron_expression = Text(max_length=200, help_text="Five fields: minute, hour, day, month, weekday.")
    timezone = Text(max_length=63, required=False, help_text="A name such as Asia/Shanghai; UTC when left out.")
    policy = Named(POLICY, required=False)
    retention_days = Whole(
        min_value=1, max_value=policies.MOST_DAYS, required=False, help_text="The policy “keep N days”."
    )
    misfire = Choice(choices=Misfire.choices, required=False)
    grace_seconds = Whole(min_value=0, max_value=LONGEST_GRACE, required=False)
    enabled = Flag(default=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One promise, not two."""
        if attrs.get("policy") is not None and "retention_days" in attrs:
            raise ValidationError({"retention_days": "A policy is given already; give one of them."})
        return attrs


class ChangeSchedule(Body):
    """What may change of a schedule; whether it is enabled has an address of its own."""

    SYNONYMS: ClassVar[Mapping[str, str]] = SYNONYMS

    name = Text(max_length=100)
    type = Choice(choices=BackupType.choices)
    strategy = Choice(choices=list(FAMILIES), allow_blank=True)
    sources = serializers.ListField(child=Named(SOURCE), max_length=500, help_text="Empty: none are named any more.")
    tags = Tags()
    environment = Named(ENVIRONMENT, allow_null=True)
    cron_expression = Text(max_length=200)
    timezone = Text(max_length=63)
    policy = Named(POLICY, allow_null=True)
    retention_days = Whole(min_value=1, max_value=policies.MOST_DAYS, help_text="The policy “keep N days”.")
    misfire = Choice(choices=Misfire.choices)
    grace_seconds = Whole(min_value=0, max_value=LONGEST_GRACE)


class EnableSchedule(Body):
    """On or off; an empty body switches it on."""

    enabled = Flag(default=True)
    reason = Text(max_length=500, default="", allow_blank=True, help_text="Needed to disable it.")


class ScheduleQuery(ConfiguredQuery):
    """Which schedules."""

    type = Words(BackupType.values, required=False)
    source = Named(SOURCE, required=False)  # type: ignore[assignment]  # the metaclass takes it out
    environment = Named(ENVIRONMENT, required=False)
    policy = Named(POLICY, required=False)
    enabled = serializers.BooleanField(required=False)


class DeleteScheduleQuery(Query):
    """Why, and whether it may be the last one."""

    reason = Text(max_length=LONGEST_REASON, default="", allow_blank=True)
    confirm = serializers.BooleanField(default=False, help_text="Also when nothing else backs its sources up.")
