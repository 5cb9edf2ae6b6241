"""What a verdict about a source looks at: its newest point, its newest check, its last failure.

A page judges a thousand sources at once: a fixed number of queries, and plain tuples in place of rows, of
which a thousand take longer to make than to find. Whoever wants more of a point asks for its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject

from backups.models import BackupPart, PartState, Repository, Source, Verification, VerificationState
from backups.models.backup import STORED
from backups.models.verification import CONCLUSIVE
from backups.services import restorable


class Point(NamedTuple):
    """A recovery point: the id of its part, and what is judged of it."""

    part: UUID
    repository: Repository
    data_as_of: datetime
    size_bytes: int | None
    reachable: bool = True  # False: its storage failed the last test, and no run has ended there since


class Check(NamedTuple):
    """A check that found something out."""

    state: str
    level: int
    problems: int
    at: datetime

    @property
    def passed(self) -> bool:
        """Nothing was wrong."""
        return self.state == VerificationState.PASSED

    @property
    def told(self) -> str:
        """The result in the reader's language."""
        return str(VerificationState(self.state).label)


def points(keys: Sequence[UUID]) -> dict[UUID, Point]:
    """The newest restorable point of each source that has one, in two queries."""
    facts = {"part": "pk", "repository": "repository_id", "at": "data_as_of", "size": "size_bytes"}
    found = _newest(keys, points_of_a_source(), facts)
    # Thousands of points lie in a few repositories: those are fetched once each, not beside every point.
    few = Repository.objects.select_related("storage")
    repositories = few.in_bulk({UUID(one["repository"]) for one in found.values()})
    lost = _out_of_reach(repositories.values())
    return {
        source: Point(UUID(one["part"]), row := repositories[UUID(one["repository"])], _moment(one["at"]), one["size"],
                      row.pk not in lost)
        for source, one in found.items()
    }  # fmt: skip


def checks(keys: Sequence[UUID]) -> dict[UUID, Check]:
    """The newest of each source that has one."""
    facts = {"state": "state", "level": "level", "problems": "problems_count", "at": "finished_at"}
    found = _newest(keys, checks_of_a_source(), facts)
    return {
        source: Check(one["state"], one["level"], one["problems"], _moment(one["at"])) for source, one in found.items()
    }


def failures(keys: Sequence[UUID]) -> dict[UUID, str]:
    """Why the newest run of a source that ended brought no point; of those alone where it did not."""
    ended = BackupPart.objects.filter(source=OuterRef("pk"), state__in=[*STORED, PartState.FAILED])
    found = _newest(keys, ended.order_by("-created_at", "-pk"), {"state": "state", "why": "error_message"})
    return {source: one["why"] for source, one in found.items() if one["state"] == PartState.FAILED}


def points_of_a_source() -> QuerySet[BackupPart]:
    """For a subquery of sources: what could be restored, the newest first."""
    return restorable.restorable_parts().filter(source=OuterRef("pk")).order_by("-data_as_of", "-pk")


def checks_of_a_source() -> QuerySet[Verification]:
    """The same of checks that found something out, of points that are there: what was found in others says nothing
    about what could be brought back."""
    ended = Verification.objects.filter(
        source=OuterRef("pk"), state__in=CONCLUSIVE, finished_at__isnull=False, part__state__in=STORED
    )
    return ended.order_by("-finished_at", "-pk")


def _newest(keys: Sequence[UUID], rows: QuerySet[Any, Any], facts: Mapping[str, str]) -> dict[UUID, dict[str, Any]]:
    """Facts (name → field) of the first of the rows of each source: one jump into an index for each, and no join, for
    which PostgreSQL would read the whole table."""
    first = Subquery(rows.values(found=JSONObject(**facts))[:1])
    found = Source.objects.filter(pk__in=keys).values_list("pk", first).order_by()
    return {source: one for source, one in found if one is not None}


def _out_of_reach(repositories: Iterable[Repository]) -> frozenset[UUID]:
    """Those whose storage failed its last test, unless a run has ended there since: it must have reached it."""
    failed = {row.pk: row.storage.tested_at for row in repositories if row.storage.test_error}
    if not failed:
        return frozenset()
    stored = BackupPart.objects.filter(repository__in=failed, state__in=STORED).order_by()
    ended = dict(stored.values_list("repository").annotate(last=Max("finished_at")))
    return frozenset(key for key, at in failed.items() if at and not (ended.get(key) and ended[key] > at))


def _moment(text: str) -> datetime:
    """As a database writes it into JSON; SQLite leaves out that it is UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
