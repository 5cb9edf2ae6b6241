"""The console protects itself: its own database is a source like others, and its keys lie sealed beside the backups."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext_lazy

from aihub_backup.core import nodes
from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job, Node
from backups.models import BackupType, OwnProtection, Policy, Repository, Schedule, Source, VerifyLevel
from backups.services import placing, policies, schedules, sealing, sources
from backups.services.saving import free_name

NAME = "console"
CRON = "15 3 * * *"  # UTC; behind the night's usual backups, so that it knows of them
KEPT_DAYS = 30
RPO_MINUTES = 26 * 60  # a day, and time for the run itself
POLICY = {"retention_days": KEPT_DAYS, "rpo_target_minutes": RPO_MINUTES, "verify_level": VerifyLevel.READABLE}
_SOCKETS = "/var/run/postgresql"  # where PostgreSQL's library looks when no host is named


def protect(repository: Repository, *, by: Actor, lease: Lease | None = None) -> OwnProtection:
    """Make the source, its daily schedule and the sealed keys in this repository; what is there is brought up to date.

    Refused when no host reaches both the database and the repository, or when nothing may be written to it.
    """
    row = OwnProtection.objects.select_related("source", "schedule").first()
    placing.node_for(Source(name=NAME, node=_node()), repository)
    with transaction.atomic():
        row = _updated(row, repository, by) if row else _made(repository, by)
    sealing.seal(repository, lease=lease)
    row.refresh_from_db()
    return row


class ProtectHandler(Handler):
    """The job that a repository's first proven kit asks for."""

    label = gettext_lazy("Protection of the console")

    def run(self, lease: Lease) -> None:
        """Once: what people do with it afterwards stays as they left it."""
        if not OwnProtection.objects.exists():
            protect(_of(lease.job), by=SYSTEM, lease=lease)

    def failed(self, job: Job, failure: Failure) -> None:
        """Told here; the doctor tells the cure."""
        record("console.protect.failed", _of(job), by=SYSTEM, code=failure.code, sentence=failure.message)


def database() -> tuple[str, dict[str, object]]:
    """(kind, options) of the source that is this console's database; the password is among the options."""
    facts = connection.settings_dict
    if connection.vendor == "sqlite":
        return "sqlite", {"path": str(facts["NAME"])}
    given: Mapping[str, Any] = facts.get("OPTIONS", {})
    options = {
        "host": facts["HOST"] or _SOCKETS, "port": int(facts["PORT"] or 5432), "database": facts["NAME"],
        "user": facts["USER"] or getpass.getuser(), "password": facts["PASSWORD"], "include_globals": False,
    }  # fmt: skip
    return "postgresql", options | {name: given[name] for name in ("sslmode", "sslrootcert") if given.get(name)}


def _of(job: Job) -> Repository:
    return Repository.objects.select_related("storage__node", "storage__environment").get(pk=str(job.target_id))


def _node() -> Node | None:
    """The host whose disk the database is on; None where it is on a server."""
    return nodes.here() if connection.vendor == "sqlite" else None


def _made(repository: Repository, by: Actor) -> OwnProtection:
    kind, options = database()
    policy = Policy.objects.filter(name=NAME, **POLICY).first()
    policy = policy or policies.create(free_name(Policy, NAME), by=by, **POLICY)
    source = sources.create(
        free_name(Source, NAME), kind, options, by=by, environment=repository.storage.environment, node=_node(),
        policy=policy, repository=repository, test=False,
    )  # fmt: skip
    schedule = schedules.create(
        free_name(Schedule, NAME), BackupType.DATABASE, CRON, by=by, sources=[source], policy=policy
    )
    row = OwnProtection.objects.create(source=source, schedule=schedule, repository=repository)
    record("console.protect", row, by=by, source=source.name, repository=repository.name)
    return row


def _updated(row: OwnProtection, repository: Repository, by: Actor) -> OwnProtection:
    """The database may have moved or its password changed; another repository may be meant."""
    _, options = database()
    sources.update(row.source, by=by, options=options, node=_node(), repository=repository)
    record("console.protect", row, by=by, source=row.source.name, repository=repository.name)
    return row
