"""Places that keep objects."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models import Environment, Node
from aihub_backup.core.reach import Reach
from aihub_backup.core.secrets import SecretsField
from backups.models.site import Site


class Storage(models.Model):
    """One place: a kind of `kinds.STORAGES` with its options. A local one names the node whose disk it is."""

    REACH: ClassVar[Reach] = Reach(environment="environment")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    kind = models.CharField(_("kind"), max_length=40)
    options = models.JSONField(_("options"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    secrets = SecretsField(_("secrets"))
    environment = models.ForeignKey(Environment, models.PROTECT, verbose_name=_("environment"), related_name="storages")
    site = models.ForeignKey(
        Site, models.PROTECT, null=True, blank=True, verbose_name=_("site"), related_name="storages"
    )
    node = models.ForeignKey(
        Node, models.PROTECT, null=True, blank=True, verbose_name=_("node"), related_name="storages",
        help_text=_("The only host that reaches this place; empty when every worker does."),
    )  # fmt: skip
    enabled = models.BooleanField(_("enabled"), default=True)

    capabilities = models.JSONField(_("capabilities"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    tested_at = models.DateTimeField(_("last tested"), null=True, blank=True)
    test_error = models.TextField(_("result of the last test"), blank=True, help_text=_("Empty: it passed."))

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("storage")
        verbose_name_plural = _("storages")
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=~models.Q(kind="local") | models.Q(node__isnull=False), name="local_storage_names_its_node"
            ),
        )

    def __str__(self) -> str:
        return self.name
