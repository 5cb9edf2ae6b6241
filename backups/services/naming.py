"""How a refusal speaks of something that is in the way: by name to those who may see it, to nobody else."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext as _

from aihub_backup.core import access
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import User


def named(row: models.Model, *, by: Actor) -> str:
    """“the storage “disk””, or that it is something protected, where it lies out of the asker's reach."""
    if not _may_see(row, by):
        return _("something that is protected here")
    told = _("the %(kind)s “%(name)s”")
    return told % {"kind": row._meta.verbose_name, "name": row}


def _may_see(row: models.Model, by: Actor) -> bool:
    """The console itself, its schedules and its command line are no accounts: nothing bounds them."""
    if not by.user_id:
        return True
    user = User.objects.filter(pk=by.user_id).first()
    permission = f"{row._meta.app_label}.view_{row._meta.model_name}"
    return user is not None and access.covers(user, permission, row)
