"""Keyrings with what was sealed under them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Node
from aihub_backup.core.reach import Reach
from aihub_backup.core.secrets import SecretsField
from aihub_backup.core.states import Stateful
from backups.models.storage import Storage


class RepositoryState(models.TextChoices):
    """What may be done with a repository."""

    CREATING = "creating", _("being created")
    OK = "ok", _("ok")
    TAMPERED = "tampered", _("tampered")  # log records seen earlier are gone: nothing is written any more
    TAKEN_OVER = "taken_over", _("taken over")  # by another console: read, never written, unless it is adopted again
    RETIRED = "retired", _("retired")  # read, never written


class Codec(models.TextChoices):
    """How data is made smaller."""

    ZSTD = "zstd", "Zstandard"
    GZIP = "gzip", "gzip"
    NONE = "none", _("none")


class Repository(Stateful):
    """One keyring and one deduplication domain, in one primary storage. Its truth is its log; this row is an index.

    `secrets` holds {"keyfile": base64 of 32 bytes}, our own key slot; while the repository is being created also
    {"recovery_code"}, and while our keyfile is being changed {"next"}. `anchors` are the names of the log's last known
    leaves.
    """

    REACH: ClassVar[Reach] = Reach(through="storage")
    State = RepositoryState
    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {
        RepositoryState.CREATING: frozenset({RepositoryState.OK}),
        RepositoryState.OK: frozenset({RepositoryState.TAMPERED, RepositoryState.TAKEN_OVER, RepositoryState.RETIRED}),
        RepositoryState.TAMPERED: frozenset({RepositoryState.OK, RepositoryState.RETIRED}),
        RepositoryState.TAKEN_OVER: frozenset({RepositoryState.OK, RepositoryState.TAMPERED, RepositoryState.RETIRED}),
        RepositoryState.RETIRED: frozenset({RepositoryState.OK, RepositoryState.TAMPERED}),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    state = models.CharField(
        _("state"), max_length=24, choices=RepositoryState.choices, default=RepositoryState.CREATING, db_index=True
    )
    storage = models.OneToOneField(
        Storage, models.PROTECT, verbose_name=_("primary storage"), related_name="repository"
    )
    engine_id = models.CharField(
        _("repository id"), max_length=32, unique=True, null=True, blank=True, editable=False,
        help_text=_("Written in the repository itself; 32 hexadecimal digits."),
    )  # fmt: skip
    secrets = SecretsField(_("secrets"))
    anchors = models.JSONField(_("last known log records"), default=list, blank=True, editable=False)
    era = models.PositiveIntegerField(  # what hosts remember of the log before the last acceptance counts no more
        _("histories accepted"), default=0, editable=False
    )

    codec = models.CharField(_("codec"), max_length=8, choices=Codec.choices, default=Codec.ZSTD)
    level = models.SmallIntegerField(_("compression level"), default=1)

    measured_bytes = models.BigIntegerField(null=True, editable=False)  # of its packs, when measured
    measured_added = models.BigIntegerField(default=0, editable=False)  # what its backups had added until then

    kit_proven_at = models.DateTimeField(_("recovery kit proven"), null=True, blank=True)
    kit_waived_at = models.DateTimeField(_("recovery kit waived"), null=True, blank=True)
    kit_waived_by = models.CharField(_("waived by"), max_length=200, blank=True)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("repository")
        verbose_name_plural = _("repositories")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def environment_id(self) -> uuid.UUID:
        """The environment of its storage."""
        return self.storage.environment_id

    @property
    def node(self) -> Node | None:
        """The only host that reaches its storage; None when every worker does."""
        return self.storage.node

    @property
    def kit_settled(self) -> bool:
        """Was the printed recovery code proven, or somebody's word given that it need not be?"""
        return self.kit_proven_at is not None or self.kit_waived_at is not None
