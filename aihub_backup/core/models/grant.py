"""Who holds which role where."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from aihub_backup.core.models.people import User
from aihub_backup.core.models.place import Environment
from aihub_backup.core.reach import Bound


class Grant(models.Model):
    """A role for a person or a group, within environments and for sources that carry tags.

    Membership in a role's group means the role everywhere; a grant means it within bounds. Without environments it
    reaches nothing unless `every_environment` says so: an environment that is deleted never widens a grant.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        User, models.CASCADE, null=True, blank=True, verbose_name=_("person"), related_name="grants"
    )
    group = models.ForeignKey(
        Group, models.CASCADE, null=True, blank=True, verbose_name=_("group"), related_name="grants",
        help_text=_("Instead of a person: everybody who belongs to it."),
    )  # fmt: skip
    role = models.ForeignKey(Group, models.CASCADE, verbose_name=_("role"), related_name="granted")
    every_environment = models.BooleanField(_("every environment"), default=False)
    environments = models.ManyToManyField(
        Environment, blank=True, verbose_name=_("environments"), related_name="grants"
    )
    tags = models.JSONField(
        _("tags"), default=dict, blank=True, help_text=_("Only sources that carry all of these; empty: whatever.")
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("grant of a role")
        verbose_name_plural = _("grants of roles")
        ordering = ("created_at", "id")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(user__isnull=True) ^ models.Q(group__isnull=True), name="grant_has_one_holder",
                violation_error_message=_("Name a person or a group, one of them."),
            ),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.role}"

    def clean(self) -> None:
        """ValidationError unless the tags are a mapping of names to texts."""
        plain = isinstance(self.tags, dict) and all(isinstance(value, str) for value in self.tags.values())
        if not plain:
            raise ValidationError({"tags": _('Give a mapping of names to texts, such as {"team": "ml"}.')})

    @property
    def bound(self) -> Bound:
        """Where it holds."""
        named = frozenset(str(environment.pk) for environment in self.environments.all())
        return Bound(None if self.every_environment else named, dict(self.tags))
