"""Two worlds in one console: whoever has a role in the one must never notice that there is another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils import timezone

from aihub_backup.core import audit
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import Environment, Grant, Job, Node, User
from backups.models import (
    Backup,
    BackupPart,
    Policy,
    Repository,
    RepositoryState,
    Source,
    Storage,
    Verification,
)
from backups.services import schedules
from recovery.models import Recovery, RecoveryPart


@dataclass
class World:
    """One of each thing, by the word that addresses it."""

    environment: Environment
    rows: dict[str, Any]

    def id(self, word: str) -> str:
        """The id of its thing of that kind."""
        return str(self.rows[word].pk)


def world(name: str, tags: dict[str, str] | None = None, environment: Environment | None = None) -> World:
    """Everything there can be, in an environment of that name (or in the given one); nothing of it on any disk."""
    place = environment or Environment.objects.create(name=name)
    node, _made = Node.objects.get_or_create(name="host")
    storage = Storage.objects.create(
        name=f"{name}-disk", kind="local", environment=place, node=node, options={"path": f"/nowhere/{name}"}
    )
    repository = Repository.objects.create(name=f"{name}-main", storage=storage, state=RepositoryState.OK)
    source = Source.objects.create(
        name=f"{name}-docs", kind="files", environment=place, options={"paths": [f"/nowhere/{name}"]},
        tags=tags or {}, repository=repository,
    )  # fmt: skip
    rows: dict[str, Any] = {"storages": storage, "repositories": repository, "sources": source, "environment": place}
    rows |= _made_of(source, repository)
    rows["schedule"] = schedules.create(f"{name}-nightly", "files", "0 2 * * *", by=SYSTEM, sources=[source])
    return World(place, rows)


def _made_of(source: Source, repository: Repository) -> dict[str, models.Model]:
    backup = Backup.objects.create(
        type="full", state="completed", environment=source.environment, requested_by_name="x", label=source.name
    )
    part = BackupPart.objects.create(
        backup=backup, source=source, repository=repository, state="completed", data_as_of=timezone.now()
    )
    job = Job.objects.create(kind="verification", queue="backup", state="completed")
    check = Verification.objects.create(
        part=part, storage=repository.storage, level=1, state="passed", requested_by_name="x", job=job
    )
    recovery = Recovery.objects.create(
        type="full", backup=backup, state="completed", target_path="/nowhere/back", reason="x", requested_by_name="x"
    )
    RecoveryPart.objects.create(recovery=recovery, part=part)
    event = audit.record("backup.request", backup, by=SYSTEM)
    return {
        "backup_id": backup, "part": part, "verification_id": check, "recovery_id": recovery, "job": job,
        "event": event,
    }  # fmt: skip


def person(role: str, *environments: Environment, name: str = "rita", tags: dict[str, str] | None = None) -> User:
    """Somebody who holds the role in these environments, for what carries the tags."""
    user = User.objects.create_user(name, password="correct horse battery", is_staff=True)
    grant = Grant.objects.create(user=user, role=Group.objects.get(name=role), tags=tags or {})
    grant.environments.set(environments)
    return User.objects.get(pk=user.pk)


def policy() -> Policy:
    """What both worlds share."""
    return Policy.objects.create(name="keep a month")


__all__ = ["World", "person", "policy", "world"]
