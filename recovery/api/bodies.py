"""What requests about recoveries say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import serializers

from aihub_backup.core.api.bodies import Body, Choice, Flag, Moment, Named, Query, Scrolled, Text, Words
from aihub_backup.core.api.tokens import ENVIRONMENT
from backups.api.nouns import BACKUP, NODE, SOURCE
from recovery.models import Purpose, RecoveryState, RecoveryType, TargetKind

REQUEST = "recovery.request_recovery"
LONGEST_REASON = 1000
PURPOSES = [("recovery", Purpose.RECOVERY.label), ("test", Purpose.TEST.label)]
CONFLICTS = ("fail", "keep_both", "overwrite", "skip")


class TargetBody(Body):
    """Where to.

    `new_place` needs a path on the node's disk that does not exist or is empty, `new_database` the name of a database
    that the source's server does not have yet.
    """

    kind = Choice(choices=TargetKind.choices)
    path = Text(max_length=4000, required=False, trim_whitespace=False)
    node = Named(NODE, required=False, help_text="Whose disk; absent: the node that reaches the data.")
    database = Text(max_length=100, required=False, help_text="Name of the new database (new_database).")
    make_roles = Flag(default=False, help_text="Make roles that the server lacks, without the right to sign in.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A new place has a path, a new database a name."""
        if attrs["kind"] == TargetKind.NEW_DATABASE and not attrs.get("database"):
            raise serializers.ValidationError({"database": "A new database needs a name."})
        if attrs["kind"] == TargetKind.NEW_PLACE and not attrs.get("path"):
            raise serializers.ValidationError({"path": "A new place needs an absolute path."})
        return attrs


class RequestRecovery(Body):
    """Bring something back: of a backup, or the newest point of a source up to a moment."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"recovery_type": "type", "backup": "backup_id"}

    type = Choice(choices=RecoveryType.choices)
    backup_id = Named(BACKUP, REQUEST, required=False)
    source = Named(SOURCE, REQUEST, required=False)  # type: ignore[assignment]  # the metaclass takes it out
    at = Moment(required=False, help_text="The newest point of the source that is not younger.")
    parts = serializers.ListField(child=Text(max_length=100), default=list, help_text="Names of sources (partial).")
    include = serializers.ListField(
        child=Text(max_length=4000, trim_whitespace=False), default=list, max_length=1000,
        help_text="Paths (partial) or patterns (selective). With a leading slash: as on the host; else from the root.",
    )  # fmt: skip
    exclude = serializers.ListField(
        child=Text(max_length=4000, trim_whitespace=False), default=list, max_length=1000, help_text="Patterns."
    )
    target = TargetBody()
    conflict = Choice(choices=CONFLICTS, default="fail")
    purpose = Choice(choices=PURPOSES, default=Purpose.RECOVERY)
    reason = Text(max_length=LONGEST_REASON, help_text="For the audit: why, on whose word.")


class Reason(Body):
    """Why."""

    reason = Text(max_length=LONGEST_REASON)


class CancelQuery(Query):
    """Why."""

    reason = Text(max_length=LONGEST_REASON, default="", allow_blank=True)


class RecoveryQuery(Scrolled):
    """Which recoveries."""

    status = Words(RecoveryState.values, required=False)
    type = Words(RecoveryType.values, required=False)
    purpose = Words(Purpose.values, required=False)
    backup = Named(BACKUP, required=False)
    source = Named(SOURCE, required=False)  # type: ignore[assignment]  # the metaclass takes it out
    environment = Named(ENVIRONMENT, required=False)
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    q = Text(required=False, max_length=200, help_text="Part of the target or the reason.")
    ordering = Choice(choices=["-created_at", "created_at"], default="-created_at")
    fields = Words(required=False, help_text="Only these members of each row.")  # type: ignore[assignment]  # as above


class LogQuery(Scrolled):
    """A page of a log."""
