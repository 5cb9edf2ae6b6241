"""The console protects itself: its own database is a source like others, and its keys lie sealed beside the backups."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy

from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure, Refused
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from backups.models import BackupType, OwnProtection, Policy, Repository, Schedule, Source, Trigger, VerifyLevel
from backups.services import backups, own_database, placing, policies, repositories, schedules, sealing, sources
from backups.services.saving import free_name

NAME = "console"
CRON = "15 3 * * *"  # UTC; behind the night's usual backups, so that it knows of them
KEPT_DAYS = 30
RPO_MINUTES = 26 * 60  # a day, and time for the run itself
POLICY = {"retention_days": KEPT_DAYS, "rpo_target_minutes": RPO_MINUTES, "verify_level": VerifyLevel.READABLE}


def protect(repository: Repository, *, by: Actor, lease: Lease | None = None) -> OwnProtection:
    """Make the source, its daily schedule and the sealed keys in this repository.

    What is there is brought up to date and put in service again, also when the database has become one of another kind
    meanwhile. Refused, before anything is written, when no host reaches both the database and the repository, and when
    backups may not go there; what the runner says when the keys cannot be sealed: then it is to be asked for again.
    """
    repositories.must_be_writable(repository)
    placing.node_for(Source(name=NAME, node=own_database.node()), repository)
    row = _laid_down(repository, by)
    sealing.seal(repository, lease=lease)
    row.refresh_from_db()
    return row


class ProtectHandler(Handler):
    """The job that a repository's first proven kit asks for: protection, and the first backup at once."""

    label = gettext_lazy("Protection of the console")

    def run(self, lease: Lease) -> None:
        """Once: what people do with it afterwards stays as they left it.

        An attempt before this one may have made the rows and not reached the repository: then the keys are missing.
        """
        row = OwnProtection.objects.select_related("source__repository").first()
        if row is None:
            row = protect(repositories.of_job(lease.job), by=SYSTEM, lease=lease)
        elif not row.keys_record and row.source.repository is not None:
            sealing.seal(row.source.repository, lease=lease)
        back_up_once(row.source)

    def failed(self, job: Job, failure: Failure) -> None:
        """Told here; the doctor tells the cure."""
        row = repositories.of_job(job)
        repositories.learn(row, failure)
        record("console.protect.failed", row, by=SYSTEM, code=failure.code, sentence=failure.message)


def back_up_once(source: Source) -> None:
    """Unless there was one: the schedule's first slot is up to a day away, and until then nothing is protected."""
    if not source.parts.exists():
        backups.request(BackupType.DATABASE, by=SYSTEM, trigger=Trigger.SYSTEM, sources=[source])


def _laid_down(repository: Repository, by: Actor) -> OwnProtection:
    """A kit proven twice, a command beside a job: of two at the same moment the second takes over the first one's."""
    try:
        return _made_or_updated(repository, by)
    except (IntegrityError, Refused):
        if not OwnProtection.objects.exists():
            raise
        return _made_or_updated(repository, by)


def _made_or_updated(repository: Repository, by: Actor) -> OwnProtection:
    with transaction.atomic():
        rows = OwnProtection.objects.select_for_update(of=("self",))
        row = rows.select_related("source__policy", "schedule").first()
        row = _updated(row, repository, by) if row else _made(repository, by)
        record("console.protect", row, by=by, source=row.source.name, repository=repository.name)
    return row


# --- the first time ---------------------------------------------------------------------------------------------------


def _made(repository: Repository, by: Actor) -> OwnProtection:
    policy = Policy.objects.filter(name=NAME, **POLICY).first()
    policy = policy or policies.create(free_name(Policy, NAME), by=by, **POLICY)
    source = _source(free_name(Source, NAME), repository, policy, by)
    schedule = schedules.create(
        free_name(Schedule, NAME), BackupType.DATABASE, CRON, by=by, sources=[source], policy=policy
    )
    return OwnProtection.objects.create(source=source, schedule=schedule, repository=repository)


def _source(name: str, repository: Repository, policy: Policy | None, by: Actor) -> Source:
    kind, options = own_database.described()
    return sources.create(
        name, kind, options, by=by, environment=repository.storage.environment, node=own_database.node(),
        policy=policy, repository=repository, test=False, own=True,
    )  # fmt: skip


# --- again ------------------------------------------------------------------------------------------------------------


def _updated(row: OwnProtection, repository: Repository, by: Actor) -> OwnProtection:
    """The database may have moved or its password changed; another repository may be meant; somebody paused it."""
    kind, options = own_database.described()
    if row.source.kind == kind:
        sources.move(
            row.source, by=by, options=options, node=own_database.node(), repository=repository,
            environment=repository.storage.environment,
        )  # fmt: skip
    else:
        _replace(row, repository, by)
    _put_in_service(row, by)
    return row


def _replace(row: OwnProtection, repository: Repository, by: Actor) -> None:
    """The backups of the former database stay those of a source of its kind: they come back as what they are."""
    former, name = row.source, row.source.name
    sources.move(former, by=by, name=free_name(Source, f"{name[:80]} ({former.kind})"))
    row.source = _source(name, repository, former.policy, by)
    row.save(update_fields=["source", "updated_at"])
    schedules.change(row.schedule, by=by, sources=[row.source])
    sources.archive(former, by=by, reason="the console's database is of another kind now")


def _put_in_service(row: OwnProtection, by: Actor) -> None:
    if not row.source.in_service:
        sources.resume(row.source, by=by)
    schedules.enable(row.schedule, by=by)
