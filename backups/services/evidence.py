"""What a verdict about a source looks at: its newest point, its newest check, its last failure.

A page judges a thousand sources at once: a fixed number of queries, and plain tuples in place of rows, of
which a thousand take longer to make than to find. Whoever wants more of a point asks for its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class Evidence(NamedTuple):
    """All of it about one source."""

    point: Point | None
    checked: Check | None
    failure: str | None  # why the newest run that ended brought no point; None: it did, or none has ended


def gathered(sources: QuerySet[Source], *columns: str) -> list[tuple[Any, ...]]:
    """(the columns of a source …, its evidence), of each of them: one query, and three about the few repositories and
    failures."""
    asked = [newest(points_of_a_source(), _POINT), newest(checks_of_a_source(), _CHECK), newest(_ended(), _RUN)]
    found = list(sources.order_by().values_list(*columns, *asked))
    known = _repositories({point["repository"] for *_own, point, _checked, _run in found if point})
    whys = _whys(run["part"] for *_rest, run in found if run and run["state"] == PartState.FAILED)
    return [
        (*own, Evidence(
            _point(point, known) if point else None, _check(check) if check else None,
            whys.get(run["part"]) if run else None))
        for *own, point, check, run in found
    ]  # fmt: skip


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


def _ended() -> QuerySet[BackupPart]:
    ended = BackupPart.objects.filter(source=OuterRef("pk"), state__in=[*STORED, PartState.FAILED])
    return ended.order_by("-created_at", "-pk")


# Facts of the newest row, by the name of the field.
_POINT = {"part": "pk", "repository": "repository_id", "at": "data_as_of", "size": "size_bytes"}
_CHECK = {"state": "state", "level": "level", "problems": "problems_count", "at": "finished_at"}
_RUN = {"part": "pk", "state": "state"}  # an index alone knows both


def newest(rows: QuerySet[Any, Any], facts: Mapping[str, str]) -> Subquery:
    """Facts of the first of the rows of each source: one jump into an index for each, and no join, for which PostgreSQL
    would read the whole table."""
    return Subquery(rows.values(found=JSONObject(**facts))[:1])


def _point(one: Mapping[str, Any], known: Mapping[str, tuple[Repository, bool]]) -> Point:
    repository, reachable = known[one["repository"]]
    return Point(UUID(one["part"]), repository, moment(one["at"]), one["size"], reachable)


def _check(one: Mapping[str, Any]) -> Check:
    return Check(one["state"], one["level"], one["problems"], moment(one["at"]))


def _whys(parts: Iterable[str]) -> dict[str, str]:
    """What the failed ones said, by the id as a database writes it into JSON."""
    ids = {key: UUID(key) for key in parts}
    rows = BackupPart.objects.filter(pk__in=ids.values()) if ids else BackupPart.objects.none()
    said = dict(rows.order_by().values_list("pk", "error_message"))
    return {key: said[pk] for key, pk in ids.items() if pk in said}


def _repositories(keys: Iterable[str]) -> dict[str, tuple[Repository, bool]]:
    """(the repository, is it in reach?) by its id as a database writes it into JSON. Thousands of points lie in a few:
    those are fetched once each, not beside every point."""
    ids = {key: UUID(key) for key in keys}
    rows = Repository.objects.select_related("storage").in_bulk(ids.values())
    lost = _out_of_reach(rows.values())
    return {key: (rows[pk], pk not in lost) for key, pk in ids.items()}


def _out_of_reach(repositories: Iterable[Repository]) -> frozenset[UUID]:
    """Those whose storage failed its last test, unless a run has ended there since: it must have reached it."""
    failed = {row.pk: row.storage.tested_at for row in repositories if row.storage.test_error}
    if not failed:
        return frozenset()
    stored = BackupPart.objects.filter(repository__in=failed, state__in=STORED).order_by()
    ended = dict(stored.values_list("repository").annotate(last=Max("finished_at")))
    return frozenset(key for key, at in failed.items() if at and not (ended.get(key) and ended[key] > at))


def moment(text: str) -> datetime:
    """As a database writes it into JSON; SQLite leaves out that it is UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
