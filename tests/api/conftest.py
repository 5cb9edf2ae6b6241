"""Callers of the API: people and programs with exactly the permissions a story needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from rest_framework.test import APIClient

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import User
from backups.models import Backup, Source
from tests.api.stories import Caller
from tests.backups.conftest import by, data, repository, source, storage
from tests.recovery.conftest import both, more, target
from tests.recovery.stories import backed_up

__all__ = ["both", "by", "data", "more", "repository", "source", "storage", "target"]


@pytest.fixture
def caller_with(db: None, api_for: Callable[[User], APIClient]) -> Callable[..., Caller]:
    """A program of somebody who holds exactly these permissions ("app.codename")."""

    def made(*permissions: str, name: str = "rita") -> Caller:
        user = User.objects.create_user(name, password="correct horse battery")
        for permission in permissions:
            app, _, codename = permission.partition(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        return Caller(api_for(User.objects.get(pk=user.pk)))

    return made


@pytest.fixture
def call(api: APIClient) -> Caller:
    """The owner's program."""
    return Caller(api)


@pytest.fixture
def backup(source: Source, by: Actor) -> Backup:
    """A finished backup of the source “docs”."""
    return backed_up(by, source)


@pytest.fixture
def path(target: Path) -> dict[str, str]:
    """A target that can be written to."""
    return {"kind": "new_place", "path": str(target)}
