"""What a verdict about a source looks at: its newest point, its newest check, its last failure.

A page judges a thousand sources at once: a fixed number of queries, and plain tuples in place of rows, of
which a thousand take longer to make than to find. Whoever wants more of a point asks for its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

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


class Failed(NamedTuple):
    """A run that brought no point."""

    why: str


def points(keys: Sequence[UUID]) -> dict[UUID, Point]:
    """The newest restorable point of each source that has one, in two queries."""
    newest = points_of_a_source().values("pk")[:1]
    found = BackupPart.objects.filter(pk__in=_of_each(keys, newest)).order_by()
    rows = list(found.values_list("source", "repository", "pk", "data_as_of", "size_bytes"))
    # Thousands of points lie in a few repositories: those are fetched once each, not beside every point.
    repositories = Repository.objects.select_related("storage").in_bulk(
        {repository for _source, repository, *_rest in rows}
    )
    return {source: Point(part, repositories[key], at, size) for source, key, part, at, size in rows if at is not None}


def checks(keys: Sequence[UUID]) -> dict[UUID, Check]:
    """The newest of each source that has one."""
    newest = checks_of_a_source().values("pk")[:1]
    found = Verification.objects.filter(pk__in=_of_each(keys, newest)).order_by()
    at = Coalesce(F("finished_at"), F("created_at"))
    return {
        source: Check(*rest) for source, *rest in found.values_list("source", "state", "level", "problems_count", at)
    }


def failures(keys: Sequence[UUID]) -> dict[UUID, Failed]:
    """The newest part of a source that ended, where it ended badly."""
    ended = BackupPart.objects.filter(source=OuterRef("pk"), state__in=[*STORED, PartState.FAILED])
    newest = ended.order_by("-created_at", "-pk").values("pk")[:1]
    failed = BackupPart.objects.filter(pk__in=_of_each(keys, newest), state=PartState.FAILED).order_by()
    return {source: Failed(why) for source, why in failed.values_list("source", "error_message")}


def points_of_a_source() -> QuerySet[BackupPart]:
    """For a subquery of sources: what could be restored, the newest first."""
    return restorable.restorable_parts().filter(source=OuterRef("pk")).order_by("-data_as_of", "-pk")


def checks_of_a_source() -> QuerySet[Verification]:
    """The same of checks that found something out, of points that are there: what was found in others says nothing
    about what could be brought back."""
    ended = Verification.objects.filter(source=OuterRef("pk"), state__in=CONCLUSIVE, part__state__in=STORED)
    return ended.order_by("-finished_at", "-pk")


def _of_each(keys: Sequence[UUID], newest: QuerySet[Any, Any]) -> QuerySet[Source, Any]:
    """The id that `newest` finds for each source."""
    return Source.objects.filter(pk__in=keys).values_list(Subquery(newest), flat=True).order_by()
