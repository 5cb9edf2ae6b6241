"""What answers look like. `told` fills them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from aihub_backup.core.api.schema import Progress, Requester, WorkError
from aihub_backup.core.models.job import JobState
from backups.kinds import STORAGES, STRATEGIES
from backups.models import BackupState, BackupType, Mode, PartState, Trigger, VerificationState

STORAGE_KINDS = STORAGES.choices()
SOURCE_KINDS = STRATEGIES.choices()
ENTRY_KINDS = ["file", "directory", "symlink", "fifo", "character", "block"]
NEVER = "none"
RUNS = [(NEVER, NEVER), *JobState.choices]  # of work that a repository may never have seen
CHECKED = ["none", "running", "passed", "failed"]
SEVERITIES = ["warning", "error"]


class Reference(serializers.Serializer[Any]):
    """Another object."""

    id = serializers.UUIDField()
    name = serializers.CharField()


class SourceReference(Reference):
    """A source, with what tells it from others."""

    kind = serializers.CharField()
    environment = serializers.CharField()


class Checked(serializers.Serializer[Any]):
    """What integrity checks say: of several parts the least of them."""

    state = serializers.ChoiceField(CHECKED)
    level = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)


class Oddity(serializers.Serializer[Any]):
    """Something odd about one item. Bytes of a path that are no UTF-8 are shown as \\xNN."""

    path = serializers.CharField(allow_blank=True)
    action = serializers.CharField()
    message = serializers.CharField()
    severity = serializers.ChoiceField(SEVERITIES)


class PartShape(serializers.Serializer[Any]):
    """One source inside a backup."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(PartState.choices)
    source = SourceReference()  # type: ignore[assignment]  # the metaclass takes it out of the class
    repository = Reference()
    mode = serializers.ChoiceField(Mode.choices, help_text="What was read again; every point is complete by itself.")
    progress = Progress()
    items = serializers.IntegerField(allow_null=True)
    size_bytes = serializers.IntegerField(allow_null=True)
    stored_bytes = serializers.IntegerField(allow_null=True, help_text="What it added to the repository.")
    warnings_count = serializers.IntegerField()
    errors_count = serializers.IntegerField()
    oddities = Oddity(many=True, help_text="The first ones; empty in lists, and without backups.browse_backup.")
    data_as_of = serializers.DateTimeField(allow_null=True)
    verification = Checked()
    error = WorkError(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class BackupLinks(serializers.Serializer[Any]):
    """Where its neighbours are."""

    self = serializers.CharField()
    log = serializers.CharField()
    contents = serializers.CharField()
    cancel = serializers.CharField()
    verify = serializers.CharField()
    admin = serializers.CharField()


class BackupShape(serializers.Serializer[Any]):
    """A run and the recovery point it leaves. Treat an unknown status as not finished unless `finished_at` is set."""

    id = serializers.UUIDField()
    type = serializers.ChoiceField(BackupType.choices)
    status = serializers.ChoiceField(BackupState.choices)
    label = serializers.CharField(allow_blank=True)  # type: ignore[assignment]  # as above
    tags = serializers.DictField(child=serializers.CharField())
    environment = serializers.CharField(allow_null=True, help_text="null: its sources belong to several.")
    policy = serializers.CharField(allow_null=True)
    trigger = serializers.ChoiceField(Trigger.choices)
    requested_by = Requester()
    progress = Progress()
    restorable = serializers.BooleanField()
    restorable_reasons = serializers.ListField(child=serializers.CharField(), help_text="Why not.")
    verification = Checked()
    items = serializers.IntegerField(allow_null=True)
    size_bytes = serializers.IntegerField(allow_null=True)
    stored_bytes = serializers.IntegerField(allow_null=True)
    warnings_count = serializers.IntegerField()
    errors_count = serializers.IntegerField()
    data_as_of = serializers.DateTimeField(allow_null=True)
    hold_until = serializers.DateTimeField(allow_null=True)
    error = WorkError(allow_null=True)
    left_out = serializers.DictField(
        child=serializers.CharField(), help_text="Sources that a run over many could not take, and why."
    )
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True)
    parts = PartShape(many=True)
    links = BackupLinks()


class Damage(serializers.Serializer[Any]):
    """What a check has found."""

    object = serializers.CharField(allow_blank=True)
    message = serializers.CharField()
    snapshots = serializers.ListField(child=serializers.CharField())
    paths = serializers.ListField(
        child=serializers.CharField(), help_text="The first files that are harmed; empty without backups.browse_backup."
    )
    paths_count = serializers.IntegerField()


class VerificationShape(serializers.Serializer[Any]):
    """An integrity check of one part. `failed` = damage was found; `error` = nothing could be found out."""

    id = serializers.UUIDField()
    backup = serializers.UUIDField()
    part = serializers.UUIDField()
    source = SourceReference()  # type: ignore[assignment]  # the metaclass takes it out of the class
    storage = Reference()
    level = serializers.IntegerField(min_value=1, max_value=3)
    status = serializers.ChoiceField(VerificationState.choices)
    progress = Progress()
    problems_count = serializers.IntegerField()
    problems = Damage(many=True, help_text="The first ones.")
    objects_checked = serializers.IntegerField(allow_null=True)
    bytes_checked = serializers.IntegerField(allow_null=True)
    trigger = serializers.ChoiceField(Trigger.choices)
    requested_by = Requester()
    error = WorkError(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    links = serializers.DictField(child=serializers.CharField())


class VerificationsShape(VerificationShape):
    """The check that was started, and with several parts the others too: one for each."""

    verifications = VerificationShape(many=True)


class EntryShape(serializers.Serializer[Any]):
    """Something inside a recovery point."""

    path = serializers.CharField(help_text="As it was on the host. Bytes that are no UTF-8 and backslashes: \\xNN.")
    kind = serializers.ChoiceField(ENTRY_KINDS)
    mode = serializers.CharField(help_text="Permission bits, octal.")
    uid = serializers.IntegerField()
    gid = serializers.IntegerField()
    user = serializers.CharField(allow_blank=True)
    group = serializers.CharField(allow_blank=True)
    mtime = serializers.DateTimeField()
    size_bytes = serializers.IntegerField()
    target = serializers.CharField(allow_null=True, help_text="Of a symbolic link.")
    unsure = serializers.BooleanField(help_text="It changed so shortly before that it will be read again next time.")
    changed_while_read = serializers.BooleanField()


class ChangeShape(serializers.Serializer[Any]):
    """A difference between two recovery points."""

    kind = serializers.CharField(
        help_text="added, removed, changed, attributes, or moved: then `before` has the old path."
    )
    path = serializers.CharField()
    before = EntryShape(allow_null=True)
    after = EntryShape(allow_null=True)


class DiffShape(serializers.Serializer[Any]):
    """What changed from one recovery point to another."""

    backup = serializers.UUIDField()
    against = serializers.UUIDField()
    source = SourceReference()  # type: ignore[assignment]  # the metaclass takes it out of the class
    truncated = serializers.BooleanField(help_text="There are more differences than `limit`.")
    results = ChangeShape(many=True)


class VersionShape(EntryShape):
    """A path with one content."""

    content = serializers.CharField(
        allow_blank=True, help_text="Names the content: two versions with the same are the same. Empty: no file."
    )
    backups = serializers.ListField(child=serializers.UUIDField(), help_text="Those that hold it, the newest first.")


class FoundShape(serializers.Serializer[Any]):
    """A path that some recovery points hold."""

    path = serializers.CharField()
    versions = VersionShape(many=True)


class FindShape(serializers.Serializer[Any]):
    """Where something is in a repository."""

    repository = serializers.UUIDField()
    points = serializers.IntegerField(help_text="How many recovery points were looked into: those the caller may see.")
    truncated = serializers.BooleanField(help_text="There are more paths than `limit`.")
    results = FoundShape(many=True)


class EventShape(serializers.Serializer[Any]):
    """One line of a log."""

    at = serializers.DateTimeField()
    action = serializers.CharField()
    by = Requester()
    target = serializers.CharField()
    facts = serializers.DictField()
    request_id = serializers.CharField(allow_blank=True)
