"""What people do with repositories."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.models import Job
from aihub_backup.core.redaction import remember as mask
from backups import engine
from backups.engine.codec import LEVELS
from backups.engine.codec import Codec as EngineCodec
from backups.models import OwnProtection, Repository, RepositoryState, Source, Storage
from backups.models.repository import Codec
from backups.services import opening, placing, saving, storages, untold
from backups.services.recovery_kits import RecoveryKit
from backups.services.running import perform

PATIENCE = 300.0  # seconds; Argon2 and a slow place together
OWN_JOB = "own-protection"
ABANDONED_AFTER = timedelta(minutes=10)  # a creation that says nothing for so long was interrupted

# Why backups do not go there. A schedule's slot keeps the sentence, and pages tell it in the reader's language.
_NONE_YET = gettext_noop("There is no repository yet; create one before the first backup.")
_SEVERAL = gettext_noop(
    "There are several repositories, and the source names none: say where its backups go (%(repositories)s)."
)
_NOT_WRITTEN = gettext_noop("The repository “%(repository)s” is %(state)s; nothing is written to it.")
_SWITCHED_OFF = gettext_noop("The storage “%(storage)s” is switched off; enable it, or choose another repository.")
_UNPROVEN = gettext_noop(
    "The recovery kit of the repository “%(repository)s” was never proven: enter its printed code first, so"
    " that these backups can be opened when this console is lost."
)
_TAKEN_OVER = gettext_noop(
    "Another console has taken the repository “%(repository)s” over; this one may only read it. Go on there, or"
    " adopt it here once more and take it over (`aihub repository adopt --take-over`)."
)
REFUSALS = (_NONE_YET, _SEVERAL, _NOT_WRITTEN, _SWITCHED_OFF, _UNPROVEN, _TAKEN_OVER)

_LEVELS = {Codec.ZSTD: LEVELS[EngineCodec.ZSTD], Codec.GZIP: LEVELS[EngineCodec.GZIP]}  # the others have none


def create(
    name: str,
    storage: Storage,
    *,
    by: Actor,
    codec: str = "zstd",
    level: int = 1,
    passphrase: str = "",
    waive_kit: bool = False,
) -> RecoveryKit:
    """Make a repository in the storage: key slots for the application's keyfile, for the recovery code of the kit,
    and for the passphrase if one is given. When it fails for a passing reason, or is killed, the row stays with the
    keys: they may lock what is in the place by now, and asking again for the same storage goes on with them.

    Until `prove_kit` was done no backup is accepted, unless `waive_kit` (recorded in the audit).
    Invalid (level), Refused (name taken, storage in use), EngineError's sentences as Failure (place holds something
    else, …).
    """
    placing.must_be_here(storage.node, f"the storage “{storage}”")
    _check_level(codec, level)
    storages.reach(storage)
    first = not Repository.objects.filter(storage=storage).exists()
    repository = _begun(name, storage, codec, level)
    try:
        made = perform(_init_job(repository, passphrase), patience=PATIENCE)
    except Failure as failure:
        _let_go(repository, nothing_made=first and failure.permanent and failure.code != "internal-error")
        raise
    return _made(repository, made, by=by, waive_kit=waive_kit)


def prove_kit(repository: Repository, code: str, *, by: Actor) -> Repository:
    """Really open the repository with the printed code. Refused (“wrong-recovery-code”) when it does not.

    The first proof asks for the console's own protection in this repository (`services.console`).
    """
    mask([code])
    placing.must_be_here(repository.node, f"the repository “{repository}”")
    spec = {**opening.repository(repository), "secret": {"kind": "recovery", "value": code}, "next": None, "cache": ""}
    try:
        perform({"job": "unlock", "repository": spec}, patience=PATIENCE)
    except Failure as failure:
        if failure.code == "wrong-secret":
            raise Refused(failure.message, code="wrong-recovery-code") from None
        raise
    return note_proof(repository, by=by)


def note_proof(repository: Repository, *, by: Actor) -> Repository:
    """A printed code was typed, and opened the repository."""
    with transaction.atomic():
        repository.kit_proven_at = timezone.now()
        repository.save(update_fields=["kit_proven_at", "updated_at"])
        record("repository.kit.prove", repository, by=by)
        _ask_for_own_protection(repository)
    return repository


def _ask_for_own_protection(repository: Repository) -> None:
    if not OwnProtection.objects.exists():
        jobs.enqueue(OWN_JOB, target_id=repository.pk, queue="control", node=repository.node)


def waive_kit(repository: Repository, *, reason: str, by: Actor) -> Repository:
    """Accept backups without a proven kit; who said so and why is recorded.

    The console protects itself as soon as backups are accepted, here as after a proof.
    """
    repository.kit_waived_at, repository.kit_waived_by = timezone.now(), by.name[:200]
    with transaction.atomic():
        repository.save(update_fields=["kit_waived_at", "kit_waived_by", "updated_at"])
        record("repository.kit.waive", repository, by=by, reason=reason)
        _ask_for_own_protection(repository)
    return repository


_LEARNED = {"tampered": RepositoryState.TAMPERED, "taken-over": RepositoryState.TAKEN_OVER}  # code → what it means
_LEARNED_FROM = {  # a changed history weighs more than another owner: only the first can be accepted
    RepositoryState.TAMPERED: (RepositoryState.OK, RepositoryState.TAKEN_OVER),
    RepositoryState.TAKEN_OVER: (RepositoryState.OK,),
}
_OURS = (RepositoryState.OK, RepositoryState.TAMPERED)
IN_USE = (*_OURS, RepositoryState.TAKEN_OVER)


def default() -> Repository:
    """The only repository in use; one that another console took only where there is no other. Refused when there is
    none or more than one."""
    rows = Repository.objects.select_related("storage__node")
    found = list(rows.filter(state__in=_OURS)[:2] or rows.filter(state__in=IN_USE)[:2])
    if not found:
        raise Refused(_(_NONE_YET), code="source-not-ready")
    if len(found) > 1:
        raise Refused(_several(), code="source-not-ready")
    return found[0]


def must_be_clear(repository: Repository | None) -> None:
    """Invalid for a source that names none where several are in use: none of its backups could begin."""
    if repository is None and Repository.objects.filter(state__in=_OURS).count() > 1:
        raise Invalid(_several(), errors={"repository": _several()})


def _several() -> str:
    names = Repository.objects.filter(state__in=IN_USE).order_by("name").values_list("name", flat=True)
    return _(_SEVERAL) % {"repositories": ", ".join(names[:10])}


def keep_habits(added: Repository, *, by: Actor) -> None:
    """A second repository is in use now: sources that name none went to the only one so far, and go on doing so."""
    before = list(Repository.objects.filter(state__in=_OURS).exclude(pk=added.pk)[:2])
    if len(before) != 1:
        return
    for source in Source.objects.filter(repository=None):
        Source.objects.filter(pk=source.pk).update(repository=before[0])
        record("source.update", source, by=by, repository=before[0].name, because_of=added.name)


def of_job(job: Job) -> Repository:
    """The repository that a job works on, ready to be opened."""
    return Repository.objects.select_related("storage__node", "storage__environment").get(pk=str(job.target_id))


def must_take(repository: Repository) -> None:
    """Refused when its log must not grow: it is tampered, retired or being created. Asked again when the work begins,
    because it may have become so since it was asked for."""
    must_be_ours(repository)
    if repository.state != RepositoryState.OK:
        told = _(_NOT_WRITTEN) % {"repository": repository, "state": repository.get_state_display()}
        raise Refused(told, code="source-not-ready", facts={"repository_state": repository.state})


def must_be_ours(repository: Repository) -> None:
    """Refused (taken-over) when another console writes there now: it may forget what this one knows."""
    if repository.state == RepositoryState.TAKEN_OVER:
        raise Refused(_(_TAKEN_OVER) % {"repository": repository}, code="taken-over")


def must_be_writable(repository: Repository) -> None:
    """Refused, with the cure, unless backups may go into it now."""
    must_take(repository)
    if not repository.storage.enabled:
        raise Refused(_(_SWITCHED_OFF) % {"storage": repository.storage}, code="source-not-ready")
    if not repository.kit_settled:
        raise Refused(_(_UNPROVEN) % {"repository": repository}, code="recovery-kit-unproven")


def remember(repository: Repository, leaves: Iterable[str]) -> None:
    """Keep the log's leaves as anchors: whoever deletes or rolls back records is found out at the next opening.

    Of two runs that end together the one that saw more of the log wins, whichever is written down last.
    """
    seen = sorted(leaves)
    with transaction.atomic():
        row = Repository.objects.select_for_update().get(pk=repository.pk)
        if seen and _newest(seen) >= _newest(row.anchors):
            Repository.objects.filter(pk=repository.pk).update(anchors=seen)
            repository.anchors = seen


def accept_history(repository: Repository, *, reason: str, by: Actor) -> Repository:
    """An operator has looked at a tampered repository: what its log says now is the truth from here on.

    Everything remembered about it before is forgotten on every host, because the caches begin anew. What its log was
    not told meanwhile it is told now: the holds.
    """
    if repository.state != RepositoryState.TAMPERED:
        told = _("The repository “%(repository)s” is %(state)s; nothing is to be accepted.")
        raise Refused(told % {"repository": repository, "state": repository.get_state_display()})
    with transaction.atomic():
        repository.move_to(RepositoryState.OK, anchors=[], era=F("era") + 1)
        untold.tell_again(repository)
        record("repository.history.accept", repository, by=by, reason=reason)
    return repository


def learn(repository: Repository, failure: Failure) -> None:
    """What a job found out about it: whatever blocks writes until an operator has looked is kept in its state.

    Audited. Harmless when it is known already, and for failures that say nothing about the repository.
    """
    if (state := _LEARNED.get(failure.code)) is None:
        return
    with transaction.atomic():
        # No move_to: of two jobs that find out the same, the second is no error.
        if Repository.objects.filter(pk=repository.pk, state__in=_LEARNED_FROM[state]).update(state=state):
            record(f"repository.{state}", repository, by=SYSTEM, found=failure.message)


# --- creating -------------------------------------------------------------------------------------------------------


def _check_level(codec: str, level: int) -> None:
    low, high = _LEVELS.get(Codec(codec), (level, level))
    if not low <= level <= high:
        told = _("%(codec)s has the levels %(low)d to %(high)d, not %(level)d.")
        sentence = told % {"codec": Codec(codec).label, "low": low, "high": high, "level": level}
        raise Invalid(sentence, errors={"level": sentence})


def _begun(name: str, storage: Storage, codec: str, level: int) -> Repository:
    """The row first, with the keys sealed in it: whatever happens to us now, what is in the place can be opened."""
    with transaction.atomic():
        repository = _abandoned(storage) or _fresh(storage)
        repository.name, repository.codec, repository.level = name, codec, level
        _refuse_used_storage(repository)
        saving.checked(repository)
        saving.write(repository)
    return repository


def _abandoned(storage: Storage) -> Repository | None:
    """A creation in this place that did not end. Nobody has seen its kit, but its keys may be in the locks there."""
    old = Repository.objects.filter(state=RepositoryState.CREATING, updated_at__lte=timezone.now() - ABANDONED_AFTER)
    return old.filter(storage=storage).select_for_update().first()


def _fresh(storage: Storage) -> Repository:
    repository = Repository(storage=storage)
    repository.secrets = {
        "keyfile": base64.b64encode(engine.new_keyfile().value).decode(), "recovery_code": engine.new_recovery_code()
    }  # fmt: skip
    return repository


def _let_go(repository: Repository, *, nothing_made: bool) -> None:
    """Make way for the next attempt: at once, and with the same keys unless nothing can be locked with them."""
    row = Repository.objects.filter(pk=repository.pk, state=RepositoryState.CREATING)
    if nothing_made:
        row.delete()
    else:
        row.update(updated_at=timezone.now() - ABANDONED_AFTER)


def _refuse_used_storage(repository: Repository) -> None:
    storage = repository.storage
    used = Repository.objects.filter(storage=storage).exclude(pk=repository.pk).first()
    if used is not None:
        told = _("The storage “%(storage)s” holds the repository “%(repository)s” already.")
        raise Refused(told % {"storage": storage, "repository": used}, code="place-taken")


def _init_job(repository: Repository, passphrase: str) -> dict[str, Any]:
    slots = [
        {"kind": "keyfile", "value": opening.keyfile(repository), "label": "application"},
        {"kind": "recovery", "value": repository.secrets["recovery_code"], "label": "recovery kit"},
    ]
    if passphrase:
        mask([passphrase])
        slots.append({"kind": "passphrase", "value": passphrase, "label": "passphrase"})
    place = opening.store(repository.storage)
    return {"job": "init", "store": place, "slots": slots, **opening.surroundings(repository)}


def _made(repository: Repository, made: dict[str, Any], *, by: Actor, waive_kit: bool) -> RecoveryKit:
    code, keyfile = repository.secrets["recovery_code"], repository.secrets["keyfile"]
    repository.secrets = {"keyfile": keyfile}
    repository.engine_id, repository.anchors = made["id"], list(made["leaves"])
    with transaction.atomic():
        repository.save()
        repository.move_to(RepositoryState.OK)
        record("repository.create", repository, by=by, repository_id=made["id"], storage=str(repository.storage))
        keep_habits(repository, by=by)
        if waive_kit:
            _waived_at_birth(repository, by)
    return RecoveryKit(repository, made["id"], storages.place(repository.storage), code)


def _waived_at_birth(repository: Repository, by: Actor) -> None:
    waive_kit(repository, reason="waived when the repository was created", by=by)


def _newest(names: Iterable[str]) -> str:
    """Record names begin with their sequence number, so that the greatest is the newest."""
    return max(names, default="")
