"""What people do about damage: a repair of a repository, after a preview that tells what it will do."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job, Node
from aihub_backup.core.models.job import ACTIVE
from backups.models import BackupPart, Repair, Repository, RepositoryState, Storage, Trigger, VerificationState
from backups.models.backup import STORED
from backups.services import opening, repositories, restorable, verifications
from backups.services.failing import printable_paths
from backups.services.running import perform

JOB = "repository-repair"
QUEUE = "backup"


def request(
    repository: Repository, *, by: Actor, copies: Sequence[Storage] = (), preview: bool = False, reason: str = ""
) -> Repair:
    """Heal what is damaged or missing, from storages that hold copies and from the repository itself; a preview only
    tells what would be done. Wrong bytes are kept in quarantine, nothing is taken away.

    Refused: state-conflict (being created, or a repair goes on), taken-over, worker-unavailable (no host reaches all
    places). Invalid (copies).
    """
    repositories.must_be_ours(repository)
    _must_be_there(repository)
    _must_be_elsewhere(repository, copies)
    node = _node(repository, copies)
    with transaction.atomic():
        Repository.objects.select_for_update().get(pk=repository.pk)  # of two requests the second sees the first's
        _must_be_alone(repository)
        return _added(repository, copies, node, by=by, preview=preview, reason=reason)


def latest(repository: Repository) -> Repair | None:
    """The newest one, going on or ended; None when nobody ever asked for one."""
    return Repair.objects.filter(repository=repository).select_related("job", "repository").first()


def cancel(repository: Repository, *, by: Actor) -> Repair:
    """End it. What is healed stays healed. Refused (“not-cancellable”) when none goes on."""
    repair = latest(repository)
    if repair is None or not repair.job.active:
        told = _("“%(repository)s” is not being repaired now.")
        raise Refused(told % {"repository": repository}, code="not-cancellable")
    with transaction.atomic():
        jobs.cancel(repair.job, by=by)
        record("repository.repair.cancel", repository, by=by)
    repair.job.refresh_from_db()
    return repair


def possible_copies(repository: Repository) -> list[Storage]:
    """Storages that hold no repository of ours: what lies there may be a copy."""
    free = Storage.objects.filter(repository=None, enabled=True).exclude(pk=repository.storage_id)
    return list(free.select_related("node"))


# --- asking ---------------------------------------------------------------------------------------------------------


def _must_be_there(repository: Repository) -> None:
    if repository.state == RepositoryState.CREATING:
        told = _("The repository “%(repository)s” is still being created.")
        raise Refused(told % {"repository": repository}, code="state-conflict")


def _must_be_elsewhere(repository: Repository, copies: Sequence[Storage]) -> None:
    for storage in copies:
        if storage.pk == repository.storage_id:
            told = _("“%(storage)s” is where the repository itself lies; name a storage that holds a copy of it.")
            sentence = told % {"storage": storage}
            raise Invalid(sentence, errors={"copies": sentence})


def _node(repository: Repository, copies: Sequence[Storage]) -> Node | None:
    """The host that reaches all of them; None when every worker does."""
    found = {place.node.pk: place.node for place in (repository.storage, *copies) if place.node}
    if len(found) > 1:
        told = _(
            "No host reaches all these places: they are on the nodes %(nodes)s. Bring a copy to where the repository"
            " is, or to a storage that every node reaches."
        )
        nodes = ", ".join(sorted(node.name for node in found.values()))
        raise Refused(told % {"nodes": nodes}, code="worker-unavailable")
    return next(iter(found.values()), None)


def _must_be_alone(repository: Repository) -> None:
    if Repair.objects.filter(repository=repository, job__state__in=ACTIVE).exists():
        told = _("“%(repository)s” is being repaired already; wait for the end, or cancel it.")
        raise Refused(told % {"repository": repository}, code="state-conflict")


def _added(
    repository: Repository, copies: Sequence[Storage], node: Node | None, *, by: Actor, preview: bool, reason: str
) -> Repair:
    key = uuid.uuid4()
    job = jobs.enqueue(JOB, target_id=key, queue=QUEUE, node=node)
    repair = Repair.objects.create(
        pk=key, repository=repository, preview=preview, job=job, reason=reason, requested_by_kind=by.kind,
        requested_by_id=by.user_id or "", requested_by_name=by.name[:200],
    )  # fmt: skip
    repair.copies.set(copies)
    word = "repository.repair.preview" if preview else "repository.repair"
    record(word, repository, by=by, copies=[str(one) for one in copies], reason=reason)
    return repair


# --- doing ----------------------------------------------------------------------------------------------------------


class RepairHandler(Handler):
    """The job. A kill costs only time: a second attempt finishes what the first one began."""

    label = gettext_lazy("Repair of a repository")

    def run(self, lease: Lease) -> None:
        """Let the runner repair, write down what it told, and have checked again what was found damaged."""
        repair = _of(lease.job)
        found = perform(_job(repair), lease=lease)
        leaves = found.pop("leaves")
        for loss in found["problems"]:
            loss["paths"] = printable_paths(loss["paths"])
        with transaction.atomic():
            Repair.objects.filter(pk=repair.pk).update(found=found)
            if not repair.preview:
                repositories.remember(repair.repository, leaves)
                record("repository.repaired", repair.repository, by=SYSTEM, **_counts(found))
                _check_again(repair.repository)
            lease.finish()

    def failed(self, job: Job, failure: Failure) -> None:
        """What was healed stays healed."""
        repair = _of(job)
        record("repository.repair.failed", repair.repository, by=SYSTEM, code=failure.code, sentence=failure.message)
        repositories.learn(repair.repository, failure)

    def cancelled(self, job: Job) -> None:
        """Somebody asked for the end."""
        record("repository.repair.cancelled", _of(job).repository, by=SYSTEM, asked_by=job.cancel_requested_by)


def _of(job: Job) -> Repair:
    rows = Repair.objects.select_related("repository__storage__node", "repository__storage__environment")
    return rows.get(job=job)


def _job(repair: Repair) -> dict[str, Any]:
    row = repair.repository
    return {
        "job": "repair", "repository": opening.repository(row), "anchors": list(row.anchors),
        "copies": [opening.store(storage) for storage in repair.copies.all()], "preview": repair.preview,
    }  # fmt: skip


def _counts(found: dict[str, Any]) -> dict[str, Any]:
    names = ("deeds_count", "bytes", "problems_count", "set_aside")
    return {**{name: found[name] for name in names}, "returned": len(found["returned"])}


def _check_again(repository: Repository) -> None:
    """Every point whose newest check found damage is checked anew, as deep as that one was."""
    damaged = restorable.newest_checks(VerificationState.FAILED).filter(part__repository=repository)
    depths = dict(damaged.order_by("level").values_list("part", "level"))
    parts = BackupPart.objects.filter(pk__in=depths, state__in=STORED).select_related(
        "backup", "source", "repository__storage__node"
    )
    for part in parts:
        verifications.request(part.backup, level=depths[part.pk], by=SYSTEM, trigger=Trigger.SYSTEM, parts=[part])
