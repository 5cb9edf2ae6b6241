"""What tests of backups do again and again."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from aihub_backup.core import jobs
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, Job
from aihub_backup.core.models.job import JobState
from backups import engine
from backups.models import Backup, BackupPart, Repository, Source, Storage
from backups.services import backups, opening, repositories
from backups.services.recovery_kits import RecoveryKit


def ready(name: str, storage: Storage, *, by: Actor, **more: Any) -> RecoveryKit:
    """A repository that takes backups. The console's own protection, for which a waived kit asks, is taken back, so
    that a story has its own sources alone."""
    kit = repositories.create(name, storage, by=by, waive_kit=True, **more)
    Job.objects.filter(kind=repositories.OWN_JOB, state=JobState.QUEUED).delete()
    return kit


def work() -> int:
    """Do everything that is queued and due, as a worker would; how many jobs that were."""
    count = 0
    while job := Job.objects.filter(state=JobState.QUEUED).order_by("created_at").first():
        if not jobs.run(job.pk):
            break
        count += 1
    return count


def back_up(source: Source, by: Actor) -> Backup:
    """On demand, with the verification behind it."""
    made = backups.request("incremental", by=by, sources=[source])
    work()
    return Backup.objects.get(pk=made.pk)


def hurry() -> None:
    """Let nobody wait for the pause before the next attempt."""
    Job.objects.filter(state=JobState.QUEUED).update(not_before=job_epoch())


def job_epoch() -> str:
    """Long ago."""
    return "2000-01-01T00:00:00Z"


def part_of(backup: Backup) -> BackupPart:
    """The only part, fresh from the database."""
    return BackupPart.objects.select_related("job", "source", "repository__storage").get(backup=backup)


def opened(repository: Repository) -> engine.Repository:
    """The repository as the engine sees it, without any cache."""
    repository.refresh_from_db()
    spec = opening.store(repository.storage)
    store = engine.open_store(spec["kind"], spec["options"])
    return engine.Repository.open(store, engine.Secret.keyfile(base64.b64decode(repository.secrets["keyfile"])))


def restored(part: BackupPart, source: Path, target: Path) -> dict[str, bytes]:
    """The files of the part, brought back by the engine into the target: relative path → content."""
    repository = opened(part.repository)
    base = str(source).strip("/").encode()
    engine.restore(repository, repository.log.snapshot(part.snapshot_id), str(target).encode(), base=base)
    return files(target)


def files(root: Path) -> dict[str, bytes]:
    """Relative path → content of every file below."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def deeds() -> list[str]:
    """The audited actions, in order."""
    return list(AuditEvent.objects.order_by("at").values_list("action", flat=True))
