"""Requests that were answered already: a repeated one gets the same answer and does nothing twice."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class AnsweredRequest(models.Model):
    """A POST with an Idempotency-Key. `status` is null while it is being answered.

    The body of the answer is sealed: some answers show a secret once (a token, a recovery kit).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    caller = models.CharField(max_length=160)
    path = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(_("status"), null=True)
    headers = models.JSONField(default=dict)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)

    class Meta:
        verbose_name = _("answered request")
        verbose_name_plural = _("answered requests")
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("caller", "path", "key"), name="answered_once"),)

    def __str__(self) -> str:
        return f"POST {self.path} {self.key}"
