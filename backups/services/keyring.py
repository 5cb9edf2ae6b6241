"""Who holds a way into a repository, and its keys: looked at, added, changed, removed, renewed.

The repository itself keeps all of this; our database knows our own keyfile, and whether a printed code was proven.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.redaction import remember as mask
from aihub_backup.core.secrets import SecretUnreadable
from backups import engine
from backups.models import Repository
from backups.services import opening, placing, repositories, storages
from backups.services.adopting import LABEL, Key
from backups.services.recovery_kits import RecoveryKit
from backups.services.running import perform

PATIENCE = 300.0  # seconds; Argon2 and a slow place together
RECOVERY, KEYFILE = "recovery", "keyfile"
_CODES = {"wrong-secret": "wrong-secret", "invalid-option": "not-possible"}  # the runner's → ours


@dataclass(frozen=True)
class Slot:
    """One way in. handle: what it is called by.

    kind     passphrase | keyfile | recovery
    works    it leads to the keys in use
    ours     this console's own
    follows  it can go along with new keys without its secret being typed
    """

    handle: str
    kind: str
    label: str
    created: datetime | None
    works: bool
    ours: bool
    follows: bool


@dataclass(frozen=True)
class Ways:
    """All ways in, and what the keys protect: packs and bytes count what is still under older master keys."""

    slots: tuple[Slot, ...]
    epoch: int
    packs: int = 0
    bytes: int = 0


def look(repository: Repository) -> Ways:
    """Opens the repository. Refused while it is being created, and with the runner's sentences."""
    return _told(_performed(repository, "key_slots", packs=True))


def draw(repository: Repository, *, by: Actor) -> RecoveryKit:
    """A new printed code. It opens nothing until it was typed back to `add`, which is its proof; kept nowhere."""
    repositories.must_take(repository)
    code = engine.new_recovery_code()
    mask([code])
    with transaction.atomic():
        record("repository.kit.draw", repository, by=by)
    return RecoveryKit(repository, repository.engine_id or "", storages.place(repository.storage), code, timezone.now())


def add(repository: Repository, secret: Key, label: str, *, by: Actor) -> Ways:
    """One more secret opens it. A recovery code that is added is proven by that.

    Refused: wrong-secret (no recovery code), not-possible (label, keyfile too short), the repository's state.
    """
    repositories.must_take(repository)
    done = _performed(repository, "key_add", slot={**secret.spec, "label": label})
    _noted(repository, "repository.key.add", done, by=by)
    if secret.kind == RECOVERY:
        repositories.note_proof(repository, by=by)
    return _told(done)


def change(repository: Repository, old: Key, new: Key, *, by: Actor) -> Ways:
    """The new secret opens it in the place of the old one. Refused: wrong-secret, when the old one opens nothing."""
    repositories.must_take(repository)
    done = _performed(repository, "key_change", old=old.spec, new=new.spec)
    _noted(repository, "repository.key.change", done, by=by)
    return _told(done)


def remove(repository: Repository, handle: str, *, reason: str, by: Actor) -> Ways:
    """This slot's secret opens it no more. Invalid without a reason. Refused: fewer than two would be left, it is our
    own, or it is the last printed code of a repository whose kit nobody waived."""
    repositories.must_take(repository)
    _must_say_why(reason)
    before = _told(_performed(repository, "key_slots"))
    _must_keep_paper(repository, before, handle)
    done = _performed(repository, "key_remove", handle=handle)
    _noted(repository, "repository.key.remove", done, by=by, reason=reason)
    if _newest_paper(before) == done["slot"]["handle"]:
        _ask_for_proof(repository)
    return _told(done)


def rotate(repository: Repository, others: Iterable[Key] = (), *, reason: str, by: Actor) -> Ways:
    """A new master key for everything that is written from now on. Needs nobody's secret; `others` are those of slots
    that an older version made (Refused names them). Invalid without a reason."""
    repositories.must_take(repository)
    _must_say_why(reason)
    done = _performed(repository, "key_rotate", others=[one.spec for one in others])
    with transaction.atomic():
        repositories.remember(repository, done["leaves"])
        record("repository.key.rotate", repository, by=by, epoch=done["epoch"], reason=reason)
    return _told(done)


def renew_own(repository: Repository, secret: Key | None = None, *, by: Actor) -> Ways:
    """A new keyfile of our own in the place of the old one. With a secret also where ours cannot be read any more,
    because the application key that sealed it is lost.

    Whenever we are killed the row's keyfile, or the one that was to follow it, opens the repository; where ours cannot
    be read, the secret that was given still does. Refused (not-possible) without a secret when ours cannot be read;
    Invalid with a keyfile: whoever opens with one counts as a console, and this one would shut it out.
    """
    if secret is not None:
        _must_be_a_persons(secret)
        _must_open(repository, secret)
    fresh = _next_keyfile(repository, given=secret is not None)
    done = _performed(
        repository, "key_renew", secret, keyfile=base64.b64decode(fresh), label=LABEL, own=secret is None
    )  # fmt: skip
    with transaction.atomic():
        _take_next(repository, fresh)
        repositories.remember(repository, done["leaves"])
        record("repository.key.renew", repository, by=by, opened_with=secret.kind if secret else "keyfile")
    return look(repository)


# --- pieces ---------------------------------------------------------------------------------------------------------


def _performed(repository: Repository, job: str, secret: Key | None = None, **more: Any) -> dict[str, Any]:
    placing.must_be_here(repository.node, f"the repository “{repository}”")
    spec = opening.repository(repository, secret.spec if secret else None)
    try:
        return perform({"job": job, "repository": spec, **more}, patience=PATIENCE)
    except Failure as failure:
        repositories.learn(repository, failure)
        if code := _CODES.get(failure.code):
            raise Refused(failure.message, code=code) from None
        raise


def _must_be_a_persons(secret: Key) -> None:
    if secret.kind == KEYFILE:
        told = _("A keyfile opens for one console only: give the recovery code or a passphrase of the repository.")
        raise Invalid(told, errors={"keyfile": told})


def _must_open(repository: Repository, secret: Key) -> None:
    """Before our old keyfile is given up."""
    spec = {"store": opening.store(repository.storage), "id": repository.engine_id, "secret": secret.spec}
    try:
        perform({"job": "unlock", "repository": {**spec, **opening.surroundings(repository)}}, patience=PATIENCE)
    except Failure as failure:
        raise Refused(failure.message, code=_CODES.get(failure.code, failure.code)) from None


def _next_keyfile(repository: Repository, *, given: bool) -> str:
    """The one to follow ours, written down before anything opens with it. Of two requests the second takes the first's.
    Beside one that we cannot read nothing is written: its application key may be found again."""
    with transaction.atomic():
        known = _known(repository)
        fresh = (known or {}).get("next") or base64.b64encode(engine.new_keyfile().value).decode()
        if known is not None:
            _keep(repository, {**known, "next": fresh})
        elif not given:
            told = _(
                "The application key that sealed the keyfile of “%(repository)s” is lost: give the recovery code or a"
                " passphrase of the repository."
            )
            raise Refused(told % {"repository": repository}, code="not-possible")
    return fresh


def _take_next(repository: Repository, fresh: str) -> None:
    """It is ours from now on, unless another request has gone further meanwhile."""
    known = _known(repository)
    if known is None or known.get("next") == fresh:
        _keep(repository, {"keyfile": fresh})


def _known(repository: Repository) -> dict[str, str] | None:
    """The secrets that the row holds now, which stays locked; None where the application key is lost."""
    row = Repository.objects.select_for_update().get(pk=repository.pk)
    try:
        return dict(row.secrets)
    except SecretUnreadable:
        return None


def _keep(repository: Repository, secrets: Mapping[str, str]) -> None:
    repository.secrets = dict(secrets)
    repository.save(update_fields=["secrets", "updated_at"])


def _noted(repository: Repository, action: str, done: Mapping[str, Any], *, by: Actor, **facts: str) -> None:
    slot = done["slot"]
    with transaction.atomic():
        repositories.remember(repository, done["leaves"])
        record(action, repository, by=by, slot=slot["handle"], kind=slot["kind"], label=slot["label"], **facts)


def _must_keep_paper(repository: Repository, ways: Ways, wanted: str) -> None:
    """wanted: a handle, a beginning of one, or a label, as the engine takes it."""
    paper = [slot for slot in ways.slots if slot.kind == RECOVERY and slot.works]
    left = [slot for slot in paper if slot.label != wanted and not slot.handle.startswith(wanted)]
    if paper and not left and repository.kit_waived_at is None:
        told = _("This is the last printed code of “%(repository)s”: print a new one, type it, then remove this one.")
        raise Refused(told % {"repository": repository}, code="not-possible")


def _must_say_why(reason: str) -> None:
    if not reason.strip():
        told = _("Say why: whoever finds the keys changed will ask.")
        raise Invalid(told, errors={"reason": told})


def _newest_paper(ways: Ways) -> str:
    paper = [slot for slot in ways.slots if slot.kind == RECOVERY]
    return paper[-1].handle if paper else ""


def _ask_for_proof(repository: Repository) -> None:
    """Of the printed codes that are left nobody knows whether one was ever typed."""
    repository.kit_proven_at = None
    repository.save(update_fields=["kit_proven_at", "updated_at"])


def _told(done: Mapping[str, Any]) -> Ways:
    slots = tuple(
        Slot(row["handle"], row["kind"], row["label"], parse_datetime(row["created"]), row["works"], row["opened"],
             row["follows"])
        for row in done["slots"]
    )  # fmt: skip
    return Ways(slots, done["epoch"], done.get("packs", 0), done.get("bytes", 0))
