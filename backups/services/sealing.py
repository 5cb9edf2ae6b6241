"""The keys of this console, sealed in the repository its own database goes to: the recovery code alone opens them."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from aihub_backup.core import keys
from aihub_backup.core.audit import SYSTEM, record
from aihub_backup.core.failures import Refused
from aihub_backup.core.jobs import Lease
from backups.models import BackupPart, OwnProtection, Repository, Source
from backups.services import opening, own_database, repositories, sources
from backups.services.running import perform

PATIENCE = 300.0  # seconds


def with_own(part: BackupPart, lease: Lease) -> None:
    """Before the console's own database is backed up: is it the one in use, and are its keys in the same repository?

    Of other parts nothing. Refused when the console's database is of another kind by now.
    """
    if not OwnProtection.objects.filter(source=part.source_id).exists():
        return
    _bring_up_to_date(part.source)
    if part.repository_id == part.source.repository_id:  # else it was asked for before the console moved on
        seal(part.repository, lease=lease)


def seal(repository: Repository, *, lease: Lease | None = None) -> None:
    """Write the keys in use into the repository's log, unless they are there already; remember where.

    Refused when nothing may be written to it, and what the runner says.
    """
    repositories.must_take(repository)
    job = {"job": "seal", "repository": opening.repository(repository), "files": in_use()}
    done = perform(job, lease=lease, patience=None if lease else PATIENCE)
    with transaction.atomic():
        repositories.remember(repository, done["leaves"])
        _note(repository, done["record"], datetime.fromtimestamp(done["time"], UTC))


def in_use() -> dict[str, bytes]:
    """The keys by the names of their files in `keys/` of a console's home."""
    found = {
        "app_keys": keys.written(settings.AIHUB_APP_KEYS), "secret_key": settings.SECRET_KEY,
        "secret_key_fallbacks": ",".join(settings.SECRET_KEY_FALLBACKS),
    }  # fmt: skip
    return {name: f"{text}\n".encode() for name, text in found.items() if text}


def are_sealed(row: OwnProtection) -> bool:
    """Are the keys in use the ones that were sealed last, in the repository the database goes to?"""
    return row.repository_id == row.source.repository_id and hmac.compare_digest(row.keys_digest, _digest())


def _bring_up_to_date(source: Source) -> None:
    """A copy of where the database was yesterday would be green every night: a file that nobody uses any more."""
    kind, options = own_database.described()
    if source.kind != kind:
        raise Refused(
            f"The console's database is of the kind {kind} now, and its source “{source}” of the kind {source.kind}:"
            " say `aihub source console` on the console's host.",
            code="source-not-ready",
        )
    if own_database.differs(source):
        sources.move(source, by=SYSTEM, options=options)


def _note(repository: Repository, name: str, at: datetime) -> None:
    """Audited when the record is a new one."""
    row = OwnProtection.objects.select_for_update().first()
    if row is None or (row.keys_record, row.keys_digest) == (name, _digest()):
        return
    row.repository, row.keys_record, row.keys_digest, row.keys_sealed_at = repository, name, _digest(), at
    row.save(update_fields=["repository", "keys_record", "keys_digest", "keys_sealed_at", "updated_at"])
    record("console.keys.seal", row, by=SYSTEM, log_record=name, sealed_at=timezone.localtime(at).isoformat())


def _digest() -> str:
    """Tells whether keys are the same, to nobody who does not hold them."""
    content = b"\0".join(part for pair in sorted(in_use().items()) for part in (pair[0].encode(), pair[1]))
    return hmac.new(settings.SECRET_KEY.encode(), content, hashlib.sha256).hexdigest()
