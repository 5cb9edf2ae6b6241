"""/create, /status, /list, /{backup}, /{backup}/cancel, /verify, /verifications."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.access import scope
from aihub_backup.core.api import names
from aihub_backup.core.api.endpoint import Endpoint
from aihub_backup.core.api.schema import operation, page_of
from aihub_backup.core.failures import Denied, Invalid
from backups.api import bodies, filters, shapes, told
from backups.api.nouns import API, BACKUP, VERIFICATION
from backups.api.sight import sees_names, with_sight
from backups.models import Backup, BackupPart, Source, Trigger, Verification
from backups.services import backups, policies, verifications

HOLD = "backups.hold_backup"
CREATE = [
    OpenApiExample("everything", {"type": "full", "label": "before the upgrade"}, request_only=True),
    OpenApiExample(
        "two databases", {"type": "database", "sources": ["orders", "users"], "verify": 3}, request_only=True
    ),
    OpenApiExample("since the last one", {"type": "incremental", "strategy": "files"}, request_only=True),
]


class Create(Endpoint):
    """Starting a backup."""

    @operation(
        "backup_create", needs=bodies.RUN, body=bodies.CreateBackup, answers={202: shapes.BackupShape},
        problems=(409, 422), summary="Start a backup", examples=CREATE, once=True,
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """One part for each source; of several sources it is a recovery set. Follow `Location`."""
        given = dict(self.given)
        if "retention_days" in given:
            given["policy"] = policies.keep_days(given.pop("retention_days"), by=self.actor)
        given["family"] = given.pop("strategy", "")
        within = scope(Source.objects.all(), self.user, bodies.RUN)
        if given.get("hold_until"):
            within = _holdable(self, within, given.get("sources"))
        made = backups.request(given.pop("type"), by=self.actor, trigger=Trigger.API, within=within, **given)
        return self.accepted(_told(self, made.pk), f"{API}/status/{made.pk}")


class Status(Endpoint):
    """How a backup is."""

    @operation(
        "backup_status", needs="backups.view_backup", answers={200: shapes.BackupShape}, problems=(404,),
        summary="State and progress of a backup", tagged=True,
    )  # fmt: skip
    def get(self, _request: Request, backup_id: UUID) -> Response:
        """200 in every state, for ever; a backup that failed says so in `status` and `error`."""
        row = _backup(self, backup_id, "backups.view_backup")
        return self.going_on(told.backup(row, names=sees_names(self, row)))


class Listing(Endpoint):
    """Backups."""

    @operation(
        "backup_list", needs="backups.view_backup", query=bodies.BackupQuery,
        answers={200: page_of(shapes.BackupShape, sparse=True)}, summary="List backups",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """Newest first; by a cursor that stays true while backups are added."""
        seen = scope(backups.listing_in_short(), self.user, "backups.view_backup")
        rows = filters.backups(seen, self.asked)
        return self.scrolled(rows, lambda row: told.backup(row, whole=False))


class One(Endpoint):
    """A backup."""

    @operation(
        "backup_get", needs="backups.view_backup", answers={200: shapes.BackupShape}, problems=(404,),
        summary="A backup (the same as its status)", tagged=True,
    )  # fmt: skip
    def get(self, _request: Request, backup_id: UUID) -> Response:
        """The same as its status."""
        row = _backup(self, backup_id, "backups.view_backup")
        return self.going_on(told.backup(row, names=sees_names(self, row)))

    @operation(
        "backup_delete", needs="backups.delete_backup", query=bodies.DeleteQuery, answers={202: shapes.BackupShape},
        problems=(404, 409, 410, 412), summary="Delete a backup, or cancel it while it runs",
    )  # fmt: skip
    def delete(self, _request: Request, backup_id: UUID) -> Response:
        """Its recovery points are forgotten; the space they took comes back with the next compaction. An active one
        is cancelled."""
        row = _backup(self, backup_id, "backups.delete_backup")
        self.require_version(told.backup(row, names=sees_names(self, row)))
        backups.delete(row, by=self.actor, reason=self.asked["reason"])
        return self.accepted(_told(self, row.pk), f"{API}/status/{row.pk}")


class Cancel(Endpoint):
    """Ending a backup."""

    @operation(
        "backup_cancel", needs="backups.cancel_backup", body=bodies.Reasoned, answers={202: shapes.BackupShape},
        problems=(404, 409), summary="Cancel a backup", once=True,
    )  # fmt: skip
    def post(self, _request: Request, backup_id: UUID) -> Response:
        """What is queued ends at once, what runs as soon as its worker hears of it."""
        row = _backup(self, backup_id, "backups.cancel_backup")
        backups.cancel(row, by=self.actor, reason=self.given["reason"])
        return self.accepted(_told(self, row.pk), f"{API}/status/{row.pk}")


class Verify(Endpoint):
    """Starting an integrity check."""

    @operation(
        "backup_verify", needs="backups.verify_backup", body=bodies.VerifyBackup,
        answers={202: shapes.VerificationsShape}, problems=(404, 409, 410, 422), summary="Verify a backup", once=True,
    )  # fmt: skip
    def post(self, _request: Request, backup_id: UUID) -> Response:
        """Level 1: objects are there; 2: their SHA-256; 3: everything decrypted and hashed again. One for each part."""
        row = _backup(self, backup_id, "backups.verify_backup")
        parts = _named_parts(row, self.given["parts"])
        started = verifications.request(
            row, level=self.given["level"], by=self.actor, parts=parts, storage=self.given.get("storage")
        )
        names_too = sees_names(self, row)
        found = [told.verification(verifications.get(one.pk), names=names_too) for one in started]
        several = f"{API}/verifications?backup={row.pk}"
        location = several if len(found) > 1 else found[0]["links"]["self"]
        return self.accepted({**found[0], "verifications": found}, location)


class Verifications(Endpoint):
    """Integrity checks."""

    @operation(
        "verification_list", needs="backups.view_verification", query=bodies.VerificationQuery,
        answers={200: page_of(shapes.VerificationShape)}, summary="List verifications", tag="verifications",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """Newest first."""
        rows = scope(verifications.listing(), self.user, "backups.view_verification")
        plain = {"status": "state__in", "backup": "part__backup", "level": "level"}
        chosen = {lookup: self.asked[name] for name, lookup in plain.items() if name in self.asked}
        seen = with_sight(rows.filter(**chosen), self.user)
        return self.scrolled(seen, lambda row: told.verification(row, names=row.names_seen))


class OneVerification(Endpoint):
    """An integrity check."""

    @operation(
        "verification_status", needs="backups.view_verification", answers={200: shapes.VerificationShape},
        problems=(404,), summary="State and findings of a verification", tagged=True, tag="verifications",
    )  # fmt: skip
    def get(self, _request: Request, verification_id: UUID) -> Response:
        """200 in every state."""
        row = _verification(self, verification_id, "backups.view_verification")
        return self.going_on(told.verification(row, names=sees_names(self, row)))


class CancelVerification(Endpoint):
    """Ending a check."""

    @operation(
        "verification_cancel", needs="backups.verify_backup", answers={202: shapes.VerificationShape},
        problems=(404, 409), summary="Cancel a verification", tag="verifications", once=True,
    )  # fmt: skip
    def post(self, _request: Request, verification_id: UUID) -> Response:
        """What was found so far is dropped."""
        row = _verification(self, verification_id, "backups.verify_backup")
        verifications.cancel(row, by=self.actor)
        shown = told.verification(verifications.get(row.pk), names=sees_names(self, row))
        return self.accepted(shown, f"{API}/verifications/{row.pk}")


# --- telling --------------------------------------------------------------------------------------------------------


def _told(endpoint: Endpoint, backup_id: UUID) -> dict[str, Any]:
    row = backups.get(backup_id)
    return told.backup(row, names=sees_names(endpoint, row))


# --- finding --------------------------------------------------------------------------------------------------------


def _rows(endpoint: Endpoint, permission: str) -> QuerySet[Backup]:
    checks = Verification.objects.defer("problems")
    rows = backups.listing().prefetch_related(Prefetch("parts__verifications", checks))
    return scope(rows, endpoint.user, permission)


def _backup(endpoint: Endpoint, backup_id: UUID, permission: str) -> Backup:
    found: Backup = names.find(BACKUP, str(backup_id), endpoint.user, rows=_rows(endpoint, permission))
    return found


def _verification(endpoint: Endpoint, verification_id: UUID, permission: str) -> Verification:
    rows: QuerySet[Any] = scope(verifications.listing(), endpoint.user, permission)
    found: Verification = names.find(VERIFICATION, str(verification_id), endpoint.user, rows=rows)
    return found


def _named_parts(backup: Backup, wanted: list[str]) -> list[BackupPart] | None:
    if not wanted:
        return None
    parts = {part.source.name: part for part in backup.parts.all()}
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        sentence = f"This backup has no part “{unknown[0]}”; it has: {', '.join(parts)}."
        raise Invalid(sentence, errors={"parts": sentence})
    return [parts[name] for name in wanted]


def _holdable(endpoint: Endpoint, within: QuerySet[Source], named: list[Source] | None) -> QuerySet[Source]:
    """Of the sources in reach those whose backups the caller may hold; Denied when a named one is not among them."""
    held = scope(within, endpoint.user, HOLD)
    if not endpoint.user.has_perm(HOLD) or (
        named and held.filter(pk__in=[one.pk for one in named]).count() < len(named)
    ):
        raise Denied(f"You need the permission “{HOLD}” to hold a backup; leave hold_until out.")
    return held
