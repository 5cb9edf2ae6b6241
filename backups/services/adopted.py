"""Rows written from what a repository's log tells (`facts` wrote it): policies, sources, backups and their parts.

In batches of some hundreds, each in one transaction that only the holder of the job's lease gets through. Ids are those
of the console that made the backups, so that a second reading of the same log adds nothing.
"""

from __future__ import annotations

import copy
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, models, transaction
from django.utils.translation import gettext as _

from aihub_backup.core.audit import SYSTEM, record
from aihub_backup.core.failures import Refused
from aihub_backup.core.jobs import Lease, LostLease
from aihub_backup.core.models import Environment, Node
from aihub_backup.core.models.job import JobState
from backups.models import Backup, BackupPart, Mode, PartState, Policy, Repository, Source
from backups.models.backup import STORED
from backups.services import guards, states
from backups.services.policies import CHANGEABLE
from backups.services.saving import free_name

log = logging.getLogger(__name__)

ABSENT = "not-in-log"  # error code of parts that the log should hold and does not
_ABSENT_WORDS = "The repository's log holds nothing of this part: it failed, or it was never finished."

Told = Mapping[str, Any]

# What a fact that cannot be true ends in, on its way into a column. Never LostLease, nor a database that is gone.
_WRONG = (
    ValueError, KeyError, TypeError, AttributeError, ArithmeticError, OSError, ValidationError, DataError,
    IntegrityError,
)  # fmt: skip


class Rows:
    """What one repository's log tells, on its way into the database. `counts`: rows that are new, by kind; `refused`:
    a sentence for each record whose facts cannot become rows."""

    def __init__(self, repository: Repository, lease: Lease) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []
        self._repository, self._lease = repository, lease
        self._policies: dict[str, Policy] = {}
        self._sources: dict[str, uuid.UUID] = {}
        self._places: dict[str, Environment] = {}
        self._writers: dict[str, Callable[[Sequence[Told]], None]] = {
            "policy": self._take_policies, "source": self._take_sources, "point": self._take_points,
            "gone": self._take_gone,
        }  # fmt: skip

    def take(self, event: Told) -> None:
        """One batch of the runner's rows. LostLease when the job is another worker's by now."""
        if event.get("event") == "rows" and event["rows"]:
            try:
                self._write(event["rows"])
            except _WRONG:
                self._write_singly(event["rows"])

    def _write_singly(self, rows: Sequence[Told]) -> None:
        """One record may be wrong, by a fault of whoever wrote it; the others are no worse for that."""
        for row in rows:
            try:
                self._write([row])
            except _WRONG as error:
                log.warning("A record cannot be adopted.", exc_info=True)
                self.refused.append(_refusal(row, error))

    def _write(self, rows: Sequence[Told]) -> None:
        """All of them or none, also of what is remembered about them here."""
        before = [copy.copy(one) for one in (self.counts, self._policies, self._sources, self._places)]
        try:
            with transaction.atomic():
                self._must_hold()
                self._writers[rows[0]["is"]](rows)
        except BaseException:
            self.counts, self._policies, self._sources, self._places = before  # type: ignore[assignment]
            raise

    def _must_hold(self) -> None:
        held = self._lease.rows().select_for_update().filter(state=JobState.RUNNING)
        if not held.values_list("pk"):
            self._lease.check()
            raise LostLease("The lease of this job was lost; another worker may have it now.")

    # --- policies and sources -----------------------------------------------------------------------------------

    def _take_policies(self, rows: Sequence[Told]) -> None:
        for row in rows:
            rules = {name: row[name] for name in CHANGEABLE if name in row and name != "name"}
            self._policies[row["id"]] = self._known_policy(row, rules) or self._new_policy(row, rules)

    def _known_policy(self, row: Told, rules: Told) -> Policy | None:
        """The very one, or one of the same name and rules."""
        usual = Policy()
        same = {name: rules.get(name, getattr(usual, name)) for name in CHANGEABLE if name != "name"}
        known = Policy.objects
        return known.filter(pk=row["id"]).first() or known.filter(name=row["name"], **same).first()

    def _new_policy(self, row: Told, rules: Told) -> Policy:
        policy = Policy(pk=uuid.UUID(row["id"]), name=free_name(Policy, _fitting(Policy, row["name"])), **rules)
        _checked(policy).save(force_insert=True)
        record("policy.adopt", policy, by=SYSTEM, repository=self._repository.name, **rules)
        self.counts["policies"] += 1
        return policy

    def _take_sources(self, rows: Sequence[Told]) -> None:
        known = set(Source.objects.filter(pk__in=[row["id"] for row in rows]).values_list("pk", flat=True))
        for row in rows:
            key = uuid.UUID(row["id"])
            self._sources[row["id"]] = key if key in known else self._new_source(key, row).pk

    def _new_source(self, key: uuid.UUID, row: Told) -> Source:
        """Paused until somebody has tried it out from here: paths and servers may be others than they were there."""
        source = Source(
            pk=key, name=free_name(Source, _fitting(Source, row["name"])), kind=row["kind"], options=row["options"],
            environment=self._place(row["environment"]), node=Node.objects.filter(name=row.get("node") or "").first(),
            tags=row.get("tags", {}), policy=self._policy(row), repository=self._repository, enabled=False,
            holds_console=bool(row.get("holds_console")),  # its backups are as full of secrets here as there
        )  # fmt: skip
        _checked(source)
        source.test_error = _holds_console(source) or _why_paused(row)
        source.save(force_insert=True)
        record("source.adopt", source, by=SYSTEM, repository=self._repository.name, kind=source.kind)
        self.counts["sources"] += 1
        return source

    def _place(self, name: str) -> Environment:
        if name not in self._places:
            _checked(Environment(name=name))
            self._places[name] = Environment.objects.get_or_create(name=name)[0]
        return self._places[name]

    def _policy(self, row: Told) -> Policy | None:
        """What is promised, as the record tells it; older records tell the name alone."""
        promise = row.get("promise")
        if promise:
            if promise["id"] not in self._policies:  # what the newest record told of it was wrong
                self._take_policies([promise])
            return self._policies[promise["id"]]
        return Policy.objects.filter(name=row["policy"]).first() if row.get("policy") else None

    # --- recovery points ----------------------------------------------------------------------------------------

    def _take_points(self, rows: Sequence[Told]) -> None:
        told = (row["facts"]["source"] for row in rows)
        self._take_sources([one for one in told if one["id"] not in self._sources])  # the newest record was wrong
        BackupPart.objects.filter(pk__in=[row["snapshot"] for row in rows], error_code=ABSENT).delete()
        backups = {row["facts"]["backup"]["id"]: row for row in rows}
        self._write_backups(backups)
        self._write_parts(rows)
        deleted = {uuid.UUID(name): moment for name, row in backups.items() if (moment := _moment(row["forgotten_at"]))}
        states.refresh_many([uuid.UUID(name) for name in backups], deleted)

    def _write_backups(self, rows: Mapping[str, Told]) -> None:
        known = {str(backup.pk): backup for backup in Backup.objects.filter(pk__in=rows)}
        fresh = [_checked(self._backup(row)) for name, row in rows.items() if name not in known]
        Backup.objects.bulk_create(fresh)
        self.counts["backups"] += len(fresh)
        for name, backup in known.items():
            _lengthen(backup, *_hold(rows[name]))

    def _write_parts(self, rows: Sequence[Told]) -> None:
        ids = {uuid.UUID(row["snapshot"]) for row in rows}
        asked = {uuid.UUID(name) for row in rows if (name := row["parent"])} | ids
        known = set(BackupPart.objects.filter(pk__in=asked).values_list("pk", flat=True))
        parts = [_checked(self._part(row, known | ids)) for row in rows if uuid.UUID(row["snapshot"]) not in known]
        absent = [part for row in rows for one in row["absent"] if (part := self._absent(row, one))]
        BackupPart.objects.bulk_create(parts)
        BackupPart.objects.bulk_create(absent, ignore_conflicts=True)
        self.counts["parts"] += len(parts)

    def _backup(self, row: Told) -> Backup:
        told = row["facts"]["backup"]
        until, reason = _hold(row)
        return Backup(
            pk=uuid.UUID(told["id"]), type=told["type"], label=told["label"], tags=told["tags"],
            environment=self._place(told["environment"]) if told.get("environment") else None,
            policy=self._policy(told), verify_level=told.get("verify_level", 0), trigger=told["trigger"],
            requested_by_kind=told.get("requested_by_kind", "system"), requested_by_name=told["requested_by"],
            hold_until=until, hold_reason=reason, created_at=datetime.fromisoformat(told["created_at"]),
        )  # fmt: skip

    def _part(self, row: Told, known: set[uuid.UUID]) -> BackupPart:
        facts, stats = row["facts"], row["facts"].get("stats", {})
        parent = uuid.UUID(row["parent"]) if row["parent"] else None
        return BackupPart(
            pk=uuid.UUID(row["snapshot"]), backup_id=uuid.UUID(facts["backup"]["id"]), repository=self._repository,
            source_id=self._sources[facts["source"]["id"]], state=_state(row), mode=facts.get("mode", Mode.FULL),
            base_id=parent if parent in known else None, stats=stats, facts=facts.get("captured", {}),
            items=row["items"], size_bytes=row["size"], stored_bytes=stats.get("bytes_stored"),
            warnings_count=stats.get("warnings", 0), errors_count=stats.get("errors", 0), log_record=row["record"],
            data_as_of=_moment(facts.get("as_of", row["time"])), finished_at=_moment(row["time"]), **_begun(facts),
        )  # fmt: skip

    def _absent(self, row: Told, told: Told) -> BackupPart | None:
        source = self._sources.get(told["source"])
        if source is None:
            return None  # nothing of it was ever stored here, so nothing tells what it is
        return BackupPart(
            pk=uuid.UUID(told["id"]), backup_id=uuid.UUID(row["facts"]["backup"]["id"]), source_id=source,
            repository=self._repository, state=PartState.FAILED, error_code=ABSENT, error_message=_ABSENT_WORDS,
            error_permanent=True, finished_at=_moment(row["time"]), **_begun(row["facts"]),
        )  # fmt: skip

    def _take_gone(self, rows: Sequence[Told]) -> None:
        """Forgotten by another console since our rows were written."""
        parts = BackupPart.objects.filter(
            pk__in=[row["id"] for row in rows], repository=self._repository, state__in=STORED
        )
        backups = set(parts.values_list("backup", flat=True))
        self.counts["gone"] += parts.update(state=PartState.DELETED)
        states.refresh_many(backups)


def _holds_console(source: Source) -> str:
    """Why it may not run here at all: the paths of another console's source may be this console's home."""
    try:
        guards.must_not_hold_console(source)
    except Refused as refused:
        return refused.message
    return ""


def _checked(row: models.Model) -> Any:
    """The row, whose own columns take what was told: kinds, lengths, choices. Raises what is wrong with it."""
    mappings = (row._meta.get_field(name) for name in ("options", "tags", "facts", "stats") if hasattr(row, name))
    if wrong := next((field.name for field in mappings if not isinstance(getattr(row, field.name), dict)), None):
        raise ValueError(f"{wrong} is no mapping")
    relations = [field.name for field in row._meta.fields if field.is_relation]
    row.clean_fields(exclude={*relations, "secrets"})
    return row


def _fitting(model: type[models.Model], name: object) -> Any:
    """The name, judged before a free one is made of it."""
    return model._meta.get_field("name").clean(name, None)  # type: ignore[union-attr]


def _refusal(row: Told, error: Exception) -> str:
    name = row.get("record") or row.get("id")
    why = "; ".join(error.messages) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
    told = _("What the log tells of the %(kind)s %(record)s cannot be, so it was passed over: %(why)s")
    return told % {"record": str(name)[:100], "kind": row["is"], "why": why[:300]}


def _why_paused(row: Told) -> str:
    lacking = ", ".join(row.get("secrets", ()))
    if lacking:
        return f"It needs its secrets ({lacking}), which are in no log: enter them, test it, then resume its backups."
    return "It was made by another console: test whether it is reached from here, then resume its backups."


def _state(row: Told) -> str:
    if row["forgotten_at"] is not None:
        return PartState.DELETED
    stats = row["facts"].get("stats", {})
    odd = stats.get("warnings") or stats.get("errors")
    return PartState.COMPLETED_WITH_WARNINGS if odd else PartState.COMPLETED


def _begun(facts: Told) -> dict[str, datetime | None]:
    """When the part was asked for and began; older records know only when its backup was asked for."""
    told = facts.get("part", {})
    asked = told.get("created_at") or facts["backup"]["created_at"]
    return {name: datetime.fromisoformat(told.get(name) or asked) for name in ("created_at", "started_at")}


def _hold(row: Told) -> tuple[datetime | None, str]:
    """(until, reason): the log's last word, else what the run itself knew."""
    if row["hold"] is not None:
        return _moment(row["hold"]["until"]), row["hold"]["reason"]
    told = row["facts"]["backup"]
    until = told.get("hold_until")
    return (datetime.fromisoformat(until), told.get("hold_reason", "")) if until else (None, "")


def _lengthen(backup: Backup, until: datetime | None, reason: str) -> None:
    """A hold of another console counts too; one is never shortened by reading."""
    if until is not None and (backup.hold_until is None or backup.hold_until < until):
        Backup.objects.filter(pk=backup.pk).update(hold_until=until, hold_reason=reason)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
