"""Taking over a repository that is there already: its log tells every backup it holds.

A console that has lost its database, or that never had it, is pointed at the storage with one secret of the
repository. It gets a key slot of its own, and a job writes the rows (`adopted`).
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import jobs
from aihub_backup.core.audit import SYSTEM, Actor, record
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.jobs import Handler, Lease
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import ACTIVE
from aihub_backup.core.redaction import remember as mask
from backups import engine
from backups.models import Repository, RepositoryState, Storage
from backups.services import opening, placing, repositories, saving, untold
from backups.services.adopted import Rows
from backups.services.running import perform

JOB = "repository-adopt"
QUEUE = "backup"
PATIENCE = 300.0  # seconds; Argon2, a slow place and a long log together
STILL_WRITING = timedelta(minutes=60)  # a console whose last record is younger may be alive
DAMAGE_TOLD = 50  # sentences about records, at most
LABEL = "application"  # of the key slot that a console keeps for itself

_SECRETS = {"recovery_code": "recovery", "passphrase": "passphrase", "keyfile": "keyfile"}  # ours → the engine's


@dataclass(frozen=True)
class Key:
    """One secret that opens a repository. Its repr never shows the value."""

    kind: str  # recovery | passphrase | keyfile
    value: str | bytes = field(repr=False)

    @property
    def spec(self) -> dict[str, Any]:
        """For the runner's stdin only."""
        return {"kind": self.kind, "value": self.value}


def key(**given: str) -> Key | None:
    """The one of `recovery_code`, `passphrase` and `keyfile` (base64) that was given; None when none was.

    Invalid when there are several, or when the keyfile is not written in base64.
    """
    mask(given.values())
    found = {name: text for name, text in given.items() if text}
    if len(found) > 1:
        raise _wrong(list(found)[-1], _("Another secret is given already; one is enough."))
    if not found:
        return None
    ((name, text),) = found.items()
    return Key(_SECRETS[name], _decoded(text) if name == "keyfile" else text)


def must_be_one(secret: Key | None, prefix: str = "") -> Key:
    """Invalid when none was given; prefix: of the fields that it might have been in."""
    if secret is None:
        raise _wrong(f"{prefix}recovery_code", _("Give the recovery code, a passphrase or a keyfile."))
    return secret


def adopt(
    storage: Storage, secret: Key | None, *, by: Actor, name: str = "", take_over: bool = False
) -> tuple[Repository, Job]:
    """Make the repository in this storage one of ours, under its old id, and have its log read into rows by a job.

    One that is ours already is brought up to date; that needs no secret. Without a name it keeps the one it had.
    Refused: wrong-secret, another-console (it wrote within the last hour, and nobody said `take_over`), place-taken,
    and with the runner's words: nothing of ours there, a newer format, a storage that takes no key slot. Invalid (name,
    no secret).
    """
    placing.must_be_here(storage.node, f"the storage “{storage}”")
    known = Repository.objects.filter(storage=storage).select_related("storage__node").first()
    if known is not None and known.state != RepositoryState.CREATING:
        return known, _update(known, by=by, take_over=take_over)
    if secret is None:
        raise _wrong("recovery_code", _("Give the recovery code, a passphrase or a keyfile of the repository."))
    found = _surveyed({**_spec(storage), "secret": secret.spec})
    _refuse_taken(storage, known, found)
    if not take_over:
        _refuse_another(found)
    repository = known or _begun(storage, name, secret, found)
    leaves = _enrolled(repository, secret)
    return repository, _adopted(repository, secret, leaves, by=by, took_over=take_over)


def latest(repository: Repository) -> Job | None:
    """The job that reads, or last read, the repository's log into rows; None when nobody asked for it."""
    return Job.objects.filter(kind=JOB, target_id=repository.pk).order_by("-created_at").first()


def cancel(repository: Repository, *, by: Actor) -> Job:
    """Stop reading. What is written stays; adopting again goes on. Refused (“not-cancellable”) when nothing reads."""
    job = latest(repository)
    if job is None or not job.active:
        told = _("Nobody is reading the log of “%(repository)s” now.")
        raise Refused(told % {"repository": repository}, code="not-cancellable")
    with transaction.atomic():
        jobs.cancel(job, by=by)
        record("repository.adopt.cancel", repository, by=by)
    return job


# --- looking --------------------------------------------------------------------------------------------------------


def _spec(storage: Storage) -> dict[str, Any]:
    """As `opening.repository`, of a repository that has no row yet."""
    return {"store": opening.store(storage), "cache": "", "console": settings.AIHUB_PUBLIC_URL}


def _surveyed(spec: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return perform({"job": "survey", "repository": spec}, patience=PATIENCE)
    except Failure as failure:
        if failure.code == "wrong-secret":
            raise Refused(failure.message, code="wrong-secret") from None
        raise


def _refuse_taken(storage: Storage, known: Repository | None, found: Mapping[str, Any]) -> None:
    if known is not None and known.engine_id != found["id"]:
        told = _(
            "The storage “%(storage)s” is kept for the repository “%(repository)s”, whose making has not ended; make it"
            " again, or choose another storage."
        )
        raise Refused(told % {"storage": storage, "repository": known}, code="place-taken")
    other = Repository.objects.filter(engine_id=found["id"]).exclude(storage=storage).select_related("storage").first()
    if other is not None:
        told = _(
            "In “%(storage)s” lies the repository “%(repository)s”, which this console keeps in the storage “%(kept)s”."
            " If it was moved, change where that storage is."
        )
        facts = {"storage": storage, "repository": other, "kept": other.storage}
        raise Refused(told % facts, code="place-taken")


def _refuse_another(found: Mapping[str, Any], *, known: bool = False) -> None:
    last = found["newest"]
    if last is None or _is_ours(last["writer"], found["slot"], known=known):
        return
    at, writer = datetime.fromtimestamp(last["time"], UTC), last["writer"]
    if at > timezone.now() - STILL_WRITING:
        told = _(
            "The console %(console)s on the host %(host)s wrote into this repository at %(at)s UTC and may still be at"
            " work. Stop it, or take the repository over: from then on it can only read there."
        )
        facts = {"console": writer.get("console"), "host": writer.get("host"), "at": f"{at:%Y-%m-%d %H:%M}"}
        raise Refused(told % facts, code="another-console")


def _is_ours(writer: Mapping[str, Any], slot: str, *, known: bool) -> bool:
    """Consoles are told apart by their key slots: whoever has the row has the slot, under whatever address it is
    reached or the command line believes it to be. Without a row the keyfile may be another's, so the address counts."""
    same_address = writer.get("console") == settings.AIHUB_PUBLIC_URL
    return bool(slot) and writer["slot"] == slot and (known or same_address)


# --- making it ours -------------------------------------------------------------------------------------------------


def _begun(storage: Storage, name: str, secret: Key, found: Mapping[str, Any]) -> Repository:
    """The row first, with the keyfile sealed in it: once the slot is written nobody else could open it."""
    facts = found["facts"]
    keyfile = secret.value if secret.kind == "keyfile" else engine.new_keyfile().value
    assert isinstance(keyfile, bytes)
    row = Repository(
        pk=_free_key(facts.get("id")), storage=storage, engine_id=found["id"],
        name=name or saving.free_name(Repository, facts.get("name") or storage.name),
        codec=facts.get("codec", "zstd"), level=facts.get("level", 1),
    )  # fmt: skip
    row.secrets = {"keyfile": base64.b64encode(keyfile).decode()}
    with transaction.atomic():
        saving.checked(row)
        saving.write(row)
        Repository.objects.filter(pk=row.pk).update(created_at=facts.get("created_at") or found["created"])
    return row


def _free_key(told: object) -> uuid.UUID:
    """The id it had, unless another row has it here."""
    try:
        old = uuid.UUID(str(told))
    except ValueError:  # older records tell none, and a wrong one is no reason to leave a repository closed
        return uuid.uuid4()
    return uuid.uuid4() if Repository.objects.filter(pk=old).exists() else old


def _enrolled(repository: Repository, secret: Key) -> list[str]:
    """Our key slot is in the repository, and its log says that we write here. When it fails the row goes again."""
    spec = {**_spec(repository.storage), "secret": secret.spec, "id": repository.engine_id}
    try:
        done = perform({
            "job": "enrol", "repository": spec, "keyfile": opening.keyfile(repository), "label": LABEL,
        }, patience=PATIENCE)  # fmt: skip
    except Failure:
        Repository.objects.filter(pk=repository.pk, state=RepositoryState.CREATING).delete()
        raise
    return list(done["leaves"])


def _adopted(repository: Repository, secret: Key, leaves: list[str], *, by: Actor, took_over: bool) -> Job:
    proven = {"kit_proven_at": timezone.now()} if secret.kind == "recovery" else {}
    with transaction.atomic():
        repository.move_to(RepositoryState.OK, anchors=leaves, **proven)
        record(
            "repository.adopt", repository, by=by, repository_id=repository.engine_id, storage=str(repository.storage),
            opened_with=secret.kind, took_over=took_over,
        )  # fmt: skip
        repositories.keep_habits(repository, by=by)
        return _reading(repository)


def _update(repository: Repository, *, by: Actor, take_over: bool) -> Job:
    """It is ours. Taking it over means that another console had done so meanwhile."""
    spec = opening.repository(repository)
    if take_over:
        _must_be_takeable(repository)
        perform({"job": "enrol", "repository": spec, "keyfile": spec["secret"]["value"], "label": LABEL},
                patience=PATIENCE)  # fmt: skip
    else:
        _refuse_another(_surveyed(spec), known=True)
    with transaction.atomic():
        # Enrolling takes its time: a job may have learnt meanwhile that it was taken.
        repository.refresh_from_db(from_queryset=Repository.objects.select_for_update())
        if take_over and repository.state == RepositoryState.TAKEN_OVER:
            repository.move_to(RepositoryState.OK)
        if take_over and repository.state == RepositoryState.OK:
            untold.tell_again(repository)
        record("repository.adopt", repository, by=by, repository_id=repository.engine_id, took_over=take_over)
        return _reading(repository)


def _must_be_takeable(repository: Repository) -> None:
    """What was taken from us may be taken back; else as for everything that writes."""
    if repository.state != RepositoryState.TAKEN_OVER:
        repositories.must_take(repository)


def _reading(repository: Repository) -> Job:
    """The job; the one that is at it already, if there is one."""
    Repository.objects.select_for_update().get(pk=repository.pk)  # of two requests the second sees the first's job
    job = latest(repository)
    if job is not None and job.state in ACTIVE:
        return job
    return jobs.enqueue(JOB, target_id=repository.pk, queue=QUEUE, node=repository.storage.node)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("keyfile", _("The keyfile's bytes are to be given in base64.")) from None


def _wrong(name: str, sentence: str) -> Invalid:
    return Invalid(sentence, errors={name: sentence})


# --- reading --------------------------------------------------------------------------------------------------------


class AdoptHandler(Handler):
    """The job that writes rows. Each batch stands for itself and adds nothing when repeated: a kill costs only time."""

    label = gettext_lazy("Adoption of a repository")

    def run(self, lease: Lease) -> None:
        """Let the runner read, write what it tells."""
        repository = repositories.of_job(lease.job)
        rows = Rows(repository, lease)
        result = perform({
            "job": "adopt", "repository": opening.repository(repository),
        }, lease=lease, events=rows.take)  # fmt: skip
        told = _summary(result, rows)
        lease.progress({"items_done": result["points"], "items_total": result["points"], **told, "new": rows.counts})
        with transaction.atomic():
            repositories.remember(repository, result["leaves"])
            record("repository.adopted", repository, by=SYSTEM, **told, new=dict(rows.counts))
            lease.finish()

    def failed(self, job: Job, failure: Failure) -> None:
        """What was written stays; adopting again goes on."""
        repository = repositories.of_job(job)
        record("repository.adopt.failed", repository, by=SYSTEM, code=failure.code, sentence=failure.message)
        repositories.learn(repository, failure)

    def cancelled(self, job: Job) -> None:
        """Somebody asked for the end."""
        record("repository.adopt.cancelled", repositories.of_job(job), by=SYSTEM, asked_by=job.cancel_requested_by)


def _summary(result: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """What the runner found, with the records that it could read and we could not believe."""
    told = {name: result[name] for name in ("points", "passed_over")}
    damaged = [*result["damaged"], *rows.refused][:DAMAGE_TOLD]
    return {**told, "damaged": damaged, "damaged_count": result["damaged_count"] + len(rows.refused)}
