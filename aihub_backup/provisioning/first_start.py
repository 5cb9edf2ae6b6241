"""The first storage, repository, schedule and objectives, as the variables say. Made once: what people do afterwards
(change, rename, delete) is never undone by another start.

A schedule without a source would back nothing up: the console protects itself as soon as backups are accepted, which
without a click they are when the kit was waived.
"""

from __future__ import annotations

from pathlib import Path

from django.db import models, transaction

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.commands import typed
from aihub_backup.core.models import AuditEvent
from aihub_backup.home import KIT
from aihub_backup.provisioning import kits, making
from aihub_backup.provisioning.making import Outcome
from aihub_backup.provisioning.wishes import Wishes
from backups.models import OwnProtection, Repository, RepositoryState, Schedule, Storage
from backups.services import console
from disaster.models import DRConfig

ACTOR = Actor(None, "environment", "system")


def provision(wishes: Wishes, *, home: Path) -> Outcome:
    """Make what is asked for and was never made. What cannot be made is told, and tried again by the next start."""
    outcome = Outcome()
    with outcome.telling():
        _place(wishes, outcome)
    with outcome.telling():
        _repository(wishes, outcome, str(home / KIT))
    with outcome.telling():
        _own(wishes, outcome)
    with outcome.telling():
        _own_backup()
    with outcome.telling():
        _rhythm(wishes, outcome)
    with outcome.telling():
        _targets(wishes, outcome)
    outcome.warnings += _unproven(home / KIT)
    return outcome


def _place(wishes: Wishes, outcome: Outcome) -> None:
    if wishes.place and not _was_made(Storage) and not Storage.objects.exists():
        _note(making.place(wishes.place, outcome, by=ACTOR))


def _repository(wishes: Wishes, outcome: Outcome, kit: str) -> None:
    known = Repository.objects.exclude(state=RepositoryState.CREATING).exists()
    storage = Storage.objects.filter(pk__in=_made(Storage)).first()
    if wishes.place and storage and not known and not _was_made(Repository):
        made = making.repository(storage, outcome, by=ACTOR, kit=kit, waive=wishes.waive_kit, cure=kits.FIXED)
        _note(made)


def _own(wishes: Wishes, outcome: Outcome) -> None:
    repository = Repository.objects.filter(pk__in=_made(Repository)).first()
    settled = repository is not None and repository.kit_settled
    if wishes.place and repository and settled and not _was_made(OwnProtection) and not OwnProtection.objects.exists():
        _note(making.own(repository, outcome, by=ACTOR))


def _own_backup() -> None:
    """The first one at once; apart from the protection, because a start before this one may have come no farther."""
    protection = OwnProtection.objects.select_related("source").first()
    if protection is not None and _was_made(OwnProtection):
        console.back_up_once(protection.source)


def _rhythm(wishes: Wishes, outcome: Outcome) -> None:
    if wishes.rhythm and not _was_made(Schedule) and not Schedule.objects.filter(own_protection=None).exists():
        _note(making.rhythm(wishes.rhythm, outcome, by=ACTOR))


def _targets(wishes: Wishes, outcome: Outcome) -> None:
    if wishes.objectives and not _was_made(DRConfig) and not DRConfig.objects.exists():
        _note(making.targets(wishes.objectives, outcome, by=ACTOR))


def _unproven(kit: Path) -> list[str]:
    """Told at every start until somebody has proved the kit: it is the one thing nobody can make good later."""
    rows = Repository.objects.filter(pk__in=_made(Repository), kit_proven_at=None, kit_waived_at__isnull=False)
    there = f"lies in {kit}" if kit.exists() else "is where you have kept it"
    return [
        f"backups are accepted though nobody has proved the recovery kit of “{row}”. It {there}: print it, keep it "
        f"away from this machine, and prove it with {typed('repository', 'prove', row)}. Without it these backups are "
        "lost together with this console."
        for row in rows
    ]


# --- what was made by an earlier start: the audit knows, also when the row is gone -----------------------------------


def _note(row: models.Model) -> None:
    with transaction.atomic():
        record("provision", row, by=ACTOR)


def _was_made(model: type[models.Model]) -> bool:
    return bool(_made(model))


def _made(model: type[models.Model]) -> list[str]:
    events = AuditEvent.objects.filter(action="provision", target_type=model._meta.label_lower)
    return list(events.values_list("target_id", flat=True))
