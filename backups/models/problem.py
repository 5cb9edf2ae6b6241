"""How work that failed says why."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class CarriesError(models.Model):
    """Columns of a problem: its code (the API's slug), one sentence without secrets, and whether to try again."""

    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    error_message = models.TextField(_("error"), blank=True)
    error_permanent = models.BooleanField(_("trying again is useless"), null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def error(self) -> dict[str, Any] | None:
        """{"code", "detail", "retryable"} as the API embeds it, or None."""
        if not self.error_code:
            return None
        return {"code": self.error_code, "detail": self.error_message, "retryable": not self.error_permanent}
