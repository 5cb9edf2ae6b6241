"""Where things belong and where they run."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.reach import Reach

NODE_SILENT_AFTER = timedelta(minutes=5)


class Environment(models.Model):
    """prod, staging, …: every source, storage and event has one."""

    REACH: ClassVar[Reach] = Reach(environment="pk")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.SlugField(_("name"), max_length=63, unique=True)
    description = models.TextField(_("description"), blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("environment")
        verbose_name_plural = _("environments")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Node(models.Model):
    """A worker host. Its workers take the queue `node.<name>` beside the common ones."""

    REACH: ClassVar[Reach] = Reach(shared=True)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.SlugField(_("name"), max_length=63, unique=True)
    description = models.TextField(_("description"), blank=True)
    host = models.CharField(_("host name"), max_length=255, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """The queue only this host reads."""
        return f"node.{self.name}"

    @property
    def alive(self) -> bool:
        """Did a worker of this host show itself lately?"""
        return self.seen_at is not None and timezone.now() - self.seen_at < NODE_SILENT_AFTER
