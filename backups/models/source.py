"""What is protected."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Environment, Node
from aihub_backup.core.reach import Reach
from aihub_backup.core.secrets import SecretsField
from backups.models.policy import Policy
from backups.models.repository import Repository


class Source(models.Model):
    """Something to protect: a kind of `kinds.STRATEGIES` with its options. `tags` is a mapping of names to texts."""

    REACH: ClassVar[Reach] = Reach(environment="environment", tags="tags", whole="holds_console")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=40)
    options = models.JSONField(_("options"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    secrets = SecretsField(_("secrets"))
    environment = models.ForeignKey(Environment, models.PROTECT, verbose_name=_("environment"), related_name="sources")
    node = models.ForeignKey(
        Node, models.PROTECT, null=True, blank=True, verbose_name=_("node"), related_name="sources",
        help_text=_("The only host that reaches this source; empty when every worker does."),
    )  # fmt: skip
    tags = models.JSONField(_("tags"), default=dict, blank=True)
    policy = models.ForeignKey(
        Policy, models.PROTECT, null=True, blank=True, verbose_name=_("policy"), related_name="sources"
    )
    repository = models.ForeignKey(
        Repository, models.PROTECT, null=True, blank=True, verbose_name=_("repository"), related_name="sources",
        help_text=_("Where its backups go; empty when there is only one repository."),
    )  # fmt: skip
    enabled = models.BooleanField(_("enabled"), default=True)
    holds_console = models.BooleanField(
        _("this console's own database"), default=False, editable=False,
        help_text=_("Or it was once: its backups hold every secret of the console."),
    )  # fmt: skip
    archived_at = models.DateTimeField(_("archived"), null=True, blank=True)

    tested_at = models.DateTimeField(_("last tested"), null=True, blank=True)
    test_error = models.TextField(_("result of the last test"), blank=True, help_text=_("Empty: it passed."))

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("source")
        verbose_name_plural = _("sources")
        ordering = ("name",)
        indexes = (models.Index(fields=("kind", "enabled"), name="source_by_kind"),)

    def __str__(self) -> str:
        return self.name

    @property
    def untried(self) -> bool:
        """Was it adopted from a repository's log, and has nobody tried it out or set it up here yet?"""
        return self.tested_at is None and bool(self.test_error)

    @property
    def in_service(self) -> bool:
        """Does it take part in runs that name no sources?"""
        return self.enabled and self.archived_at is None
