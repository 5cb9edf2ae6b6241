"""What requests say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from aihub_backup.core.api.bodies import (
    Body,
    Choice,
    Flag,
    Moment,
    Named,
    Paged,
    Query,
    Scrolled,
    Text,
    Whole,
    Words,
)  # fmt: skip
from aihub_backup.core.api.tokens import ENVIRONMENT
from backups.api.nouns import BACKUP, NODE, POLICY, REPOSITORY, SITE, SOURCE, STORAGE
from backups.api.options import Kind, PluginOptions
from backups.kinds import FAMILIES, STORAGES, STRATEGIES
from backups.models import BackupState, BackupType, VerificationState
from backups.models.repository import Codec
from backups.services import policies

RUN = "backups.run_backup"
LONGEST_REASON = 1000
STORED_ONLY = "Stored; not applied by this version."
RPO = "A source whose newest restorable point is older counts as not protected; without it: its environment's, else 60."
RETENTION = "Points younger than this stay; counted back from the newest point of the source."


@extend_schema_field({"type": "integer", "minimum": 0, "maximum": 3})
class Level(serializers.Field[int, Any, int, Any]):
    """How deep to verify: 0 or “none”, 1 or “L1”, 2 or “L2”, 3 or “L3”. Unless `open`, others are refused here."""

    def __init__(self, *, open: bool = False, **options: Any) -> None:  # noqa: A002  # the plain word says it
        super().__init__(**options)
        self.open = open

    _WORDS: ClassVar[dict[str, int]] = {"none": 0, "L1": 1, "L2": 2, "L3": 3, "L4": 4}

    def to_internal_value(self, data: Any) -> int:
        """The level."""
        if isinstance(data, str) and data in self._WORDS:
            return self._WORDS[data]
        if isinstance(data, bool) or not isinstance(data, int):
            raise ValidationError("Give 0 (none), 1, 2 or 3.")
        if not self.open and not 0 <= data <= 3:
            raise ValidationError("Give 0 (none), 1 (objects are there), 2 (their SHA-256) or 3 (all decrypted).")
        return data

    def to_representation(self, value: int) -> int:
        """The number."""
        return value


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class Tags(serializers.Field[dict[str, str], Any, dict[str, str], Any]):
    """A mapping of names to texts."""

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """The mapping; the service looks at the lengths."""
        if not isinstance(data, Mapping) or not all(isinstance(value, str) for value in data.values()):
            raise ValidationError("This must be a mapping of names to texts.")
        return dict(data)

    def to_representation(self, value: dict[str, str]) -> dict[str, str]:
        """The mapping."""
        return value


class Reasoned(Body):
    """Why, for the audit."""

    reason = Text(max_length=LONGEST_REASON, default="", allow_blank=True)


class MustReason(Body):
    """Why: without an answer it is not done."""

    reason = Text(max_length=LONGEST_REASON)


# --- backups --------------------------------------------------------------------------------------------------------


class CreateBackup(Body):
    """A backup of one of the eight types. Without sources: all that the type means and the caller may back up."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"backup_type": "type", "strategy_name": "strategy"}

    type = Choice(choices=BackupType.choices)
    sources = serializers.ListField(child=Named(SOURCE, RUN), required=False, help_text="Ids or names.", max_length=500)
    strategy = Choice(choices=list(FAMILIES), required=False, help_text="Narrows full, incremental and differential.")
    repository = Named(REPOSITORY, required=False)
    policy = Named(POLICY, required=False)
    retention_days = Whole(
        min_value=1, max_value=policies.MOST_DAYS, required=False, help_text="The policy “keep N days”."
    )
    label = Text(max_length=200, default="", allow_blank=True)  # type: ignore[assignment]  # the metaclass takes it out
    tags = Tags(required=False)
    verify = Level(required=False, help_text="The level to verify at afterwards; absent: as the policy says.")
    hold_until = Moment(required=False, help_text="Nobody may delete it before; needs backups.hold_backup.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One promise, not two."""
        if "policy" in attrs and "retention_days" in attrs:
            raise ValidationError({"retention_days": "A policy is given already; give one of them."})
        return attrs


class VerifyBackup(Body):
    """How deep, and where."""

    level = Level(default=2, open=True, help_text="1, 2 or 3; restore tests (4) are not available yet.")
    parts = serializers.ListField(child=Text(max_length=100), default=list, help_text="Names of sources; empty: all.")
    storage = Named(STORAGE, required=False)


class HoldBackup(Body):
    """Until when, and why."""

    until = Moment(help_text="Nobody may delete it before; a hold is never shortened, only released.")
    reason = Text(max_length=500)


class DeleteQuery(Query):
    """Why."""

    reason = Text(max_length=LONGEST_REASON, default="", allow_blank=True)


class BackupQuery(Scrolled):
    """Which backups."""

    status = Words(BackupState.values, required=False)
    type = Words(BackupType.values, required=False)
    source = Named(SOURCE, required=False)  # type: ignore[assignment]  # the metaclass takes it out
    environment = Named(ENVIRONMENT, required=False)
    repository = Named(REPOSITORY, required=False)
    policy = Named(POLICY, required=False)
    tag = serializers.CharField(required=False, help_text="name:value, or a name.")
    created_after = Moment(required=False)
    created_before = Moment(required=False)
    verified = serializers.BooleanField(required=False, help_text="Every part has passed a check.")
    restorable = serializers.BooleanField(required=False)
    q = Text(required=False, max_length=200, help_text="Part of the label or of a source's name.")
    ordering = Choice(choices=["-created_at", "created_at"], default="-created_at")
    fields = Words(required=False, help_text="Only these members of each row.")  # type: ignore[assignment]  # as above


class VerificationQuery(Scrolled):
    """Which checks."""

    status = Words(VerificationState.values, required=False)
    backup = Named(BACKUP, required=False)
    level = serializers.IntegerField(min_value=1, max_value=3, required=False)


class ContentsQuery(Query):
    """What to look at inside a recovery point."""

    path = serializers.CharField(default="/", max_length=65_535, trim_whitespace=False, help_text="A directory.")
    depth = serializers.IntegerField(min_value=0, max_value=1000, default=1, help_text="0: everything below.")
    q = Text(required=False, max_length=500, help_text="A pattern (*, ?, **), or part of a name.")
    part = Text(required=False, max_length=100, help_text="The source, when there are several.")
    cursor = serializers.CharField(default="")
    page_size = serializers.IntegerField(min_value=1, max_value=500, default=200)


class DiffQuery(Query):
    """With what to compare."""

    against = Named(BACKUP, "backups.browse_backup")
    part = Text(required=False, max_length=100, help_text="The source, when there are several.")
    limit = serializers.IntegerField(min_value=1, max_value=5000, default=1000)


class FindQuery(Query):
    """What to look for in all recovery points of a repository."""

    path = serializers.CharField(
        max_length=65_535, trim_whitespace=False,
        help_text="A path that begins with “/”, a pattern (*, ?, **), or part of a name.",
    )  # fmt: skip
    source = Named(SOURCE, required=False)  # type: ignore[assignment]  # the metaclass takes it out
    limit = serializers.IntegerField(min_value=1, max_value=5000, default=500, help_text="Most paths.")


class LogQuery(Scrolled):
    """A page of a log."""


# --- what people configure ------------------------------------------------------------------------------------------


class ConfiguredQuery(Paged):
    """Which of them."""

    q = Text(required=False, max_length=200, help_text="Part of the name.")


class SourceQuery(ConfiguredQuery):
    """Which sources."""

    kind = Words(required=False)
    environment = Named(ENVIRONMENT, required=False)
    enabled = serializers.BooleanField(required=False)
    archived = serializers.BooleanField(default=False)
    tag = serializers.CharField(required=False, help_text="name:value, or a name.")


class StorageQuery(ConfiguredQuery):
    """Which storages."""

    kind = Words(required=False)
    environment = Named(ENVIRONMENT, required=False)


class CreateStorage(Body):
    """A place that keeps objects; it is tried out before it is stored."""

    name = Text(max_length=100)
    kind = Kind(STORAGES)
    options = PluginOptions(STORAGES)
    environment = Named(ENVIRONMENT, required=False)
    site = Named(SITE, required=False)
    node = Named(NODE, required=False)
    test = Flag(default=True)


class ChangeStorage(Body):
    """What may change of a storage. Secrets that are not given stay."""

    name = Text(max_length=100)
    options = PluginOptions(STORAGES)
    environment = Named(ENVIRONMENT)
    site = Named(SITE, allow_null=True)
    enabled = Flag()


class CreateRepository(Body):
    """A keyring and a deduplication domain in a storage of its own."""

    name = Text(max_length=100)
    storage = Named(STORAGE)
    codec = Choice(choices=Codec.choices, default=Codec.ZSTD)
    level = Whole(min_value=-7, max_value=19, default=1, help_text="zstd: -7 to 19; gzip: 1 to 9; none: ignored.")
    passphrase = Text(max_length=1000, default="", allow_blank=True, write_only=True, trim_whitespace=False)


class AdoptRepository(Body):
    """A repository that is there already, and one secret that opens it."""

    storage = Named(STORAGE)
    name = Text(max_length=100, default="", allow_blank=True, help_text="Absent: the one it had.")
    recovery_code = Text(max_length=500, default="", allow_blank=True, write_only=True)
    passphrase = Text(max_length=1000, default="", allow_blank=True, write_only=True, trim_whitespace=False)
    keyfile = Text(max_length=10_000, default="", allow_blank=True, write_only=True, help_text="In base64.")
    take_over = Flag(
        default=False, help_text="Though another console wrote within the last hour; from then on it can only read."
    )


class RepairRepository(Body):
    """Where right objects may come from, and whether anything is written."""

    copies = serializers.ListField(
        child=Named(STORAGE), default=list, max_length=20, help_text="Storages that hold copies of the repository."
    )
    preview = Flag(default=False, help_text="Only tell what would be done.")
    reason = Text(max_length=LONGEST_REASON, default="", allow_blank=True)


class OneSecret(Body):
    """One of three."""

    recovery_code = Text(max_length=500, default="", allow_blank=True, write_only=True)
    passphrase = Text(max_length=1000, default="", allow_blank=True, write_only=True, trim_whitespace=False)
    keyfile = Text(max_length=10_000, default="", allow_blank=True, write_only=True, help_text="In base64.")


class AddKey(OneSecret):
    """One more secret that opens a repository, and whose it is."""

    label = Text(max_length=100)  # type: ignore[assignment]  # a field of that name


class ChangeKey(OneSecret):
    """The new secret, and the old one."""

    old_recovery_code = Text(max_length=500, default="", allow_blank=True, write_only=True)
    old_passphrase = Text(max_length=1000, default="", allow_blank=True, write_only=True, trim_whitespace=False)
    old_keyfile = Text(max_length=10_000, default="", allow_blank=True, write_only=True, help_text="In base64.")


class RemoveKey(Body):
    """The slot, and why."""

    slot = Text(max_length=100, help_text="Its handle, or its label.")
    reason = Text(max_length=LONGEST_REASON)


class RotateKeys(OneSecret):
    """Why; and the secret of a slot that cannot follow without it."""

    reason = Text(max_length=LONGEST_REASON)


class RenewKey(OneSecret):
    """Nothing, or the secret that opens the repository where our own keyfile cannot be read."""


class ProveKit(Body):
    """The printed recovery code."""

    code = Text(max_length=500, write_only=True)


class WaiveKit(Body):
    """Why backups are accepted without a proven kit."""

    reason = Text(max_length=LONGEST_REASON)


class CreateSource(Body):
    """Something to protect; the strategy looks at it before it is stored."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"strategy": "kind", "strategy_name": "kind"}

    name = Text(max_length=100)
    kind = Kind(STRATEGIES)
    options = PluginOptions(STRATEGIES)
    environment = Named(ENVIRONMENT, required=False)
    node = Named(NODE, required=False)
    tags = Tags(required=False)
    policy = Named(POLICY, required=False)
    repository = Named(REPOSITORY, required=False)
    enabled = Flag(default=True)
    test = Flag(default=True)


class ChangeSource(Body):
    """What may change of a source. Secrets that are not given stay."""

    name = Text(max_length=100)
    options = PluginOptions(STRATEGIES)
    environment = Named(ENVIRONMENT)
    node = Named(NODE, allow_null=True)
    tags = Tags()
    policy = Named(POLICY, allow_null=True)
    repository = Named(REPOSITORY, allow_null=True)
    enabled = Flag()


def _bounded(field: str, **more: Any) -> Whole:
    """A number of a policy, within what the services allow."""
    least, most = policies.BOUNDS[field]
    return Whole(min_value=least, max_value=most, required=False, **more)


class CreatePolicy(Body):
    """A promise. Counts are recovery points to keep of each step; what any rule keeps stays, without rules all does."""

    name = Text(max_length=100)
    description = Text(max_length=2000, required=False, allow_blank=True)
    keep_last = _bounded("keep_last")
    keep_hourly = _bounded("keep_hourly")
    keep_daily = _bounded("keep_daily")
    keep_weekly = _bounded("keep_weekly")
    keep_monthly = _bounded("keep_monthly")
    keep_yearly = _bounded("keep_yearly")
    retention_days = _bounded("retention_days", allow_null=True, help_text=RETENTION)
    immutable_days = _bounded("immutable_days")
    required_copies = _bounded("required_copies", help_text=STORED_ONLY)
    verify_level = Level(required=False, help_text="After each backup.")
    verify_interval_hours = _bounded("verify_interval_hours", allow_null=True)
    restore_test_interval_days = _bounded("restore_test_interval_days", allow_null=True, help_text=STORED_ONLY)
    decode_every = _bounded("decode_every", help_text="Decode one frame in so many.")
    rpo_target_minutes = _bounded("rpo_target_minutes", allow_null=True, help_text=RPO)
    rto_target_minutes = _bounded("rto_target_minutes", allow_null=True, help_text=STORED_ONLY)
    max_attempts = _bounded("max_attempts")


class ChangePolicy(CreatePolicy):
    """What may change of a policy: everything."""
