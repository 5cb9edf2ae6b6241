"""Could this be brought back now? Asked by lists, pages, verdicts, metrics, recoveries, retention and deletions alike.

Twice: of rows that somebody holds in their hands, with reasons; and of whole tables, in SQL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from backups.models import BackupPart, PartState, Repository, RepositoryState, Verification, VerificationState
from backups.models.backup import ACTIVE, STORED
from backups.models.verification import CONCLUSIVE
from backups.services import verifications


def restorable(parts: Iterable[BackupPart]) -> tuple[bool, list[str]]:
    """(yes, []) or (no, reasons): running, failed, cancelled, deleted, expired, damaged, repository-creating."""
    reasons = sorted({reason for part in parts for reason in _reasons(part)})
    return not reasons, reasons


def _reasons(part: BackupPart) -> list[str]:
    if not part.stored:
        return [_why_nothing(part.state)]
    reasons = ["repository-creating"] if part.repository.state == RepositoryState.CREATING else []
    check = verifications.latest(part)
    return reasons + (["damaged"] if check and check.state == VerificationState.FAILED else [])


def _why_nothing(state: str) -> str:
    if state in ACTIVE:
        return "running"
    return "deleted" if state == PartState.DELETING else state


# --- the same of whole tables ---------------------------------------------------------------------------------------


def restorable_parts() -> QuerySet[BackupPart]:
    """Recovery points in a repository that is there, whose newest conclusive check, if there is one, has passed."""
    return BackupPart.objects.filter(data_as_of__isnull=False).exclude(unrestorable())


def counts() -> Counter[UUID]:
    """How many there are of each source: what is stored, answered by an index alone, less the few that came to harm."""
    stored = BackupPart.objects.filter(data_as_of__isnull=False, state__in=STORED)
    # Two lists in one, where "in this or in that" would hold every point against both; and read, because nobody could
    # foretell a database how few they are.
    too_early = BackupPart.objects.filter(repository__in=_not_there_yet()).order_by().values_list("pk", flat=True)
    harmed = list(damaged_parts().union(too_early))
    return _by_source(stored) - (_by_source(stored.filter(pk__in=harmed)) if harmed else Counter())


def _by_source(parts: QuerySet[BackupPart]) -> Counter[UUID]:
    return Counter(dict(parts.values_list("source").annotate(count=Count("*")).order_by()))


def unrestorable() -> Q:
    """Of a part: nothing is stored, or its repository is not there yet, or it is damaged."""
    return ~Q(state__in=STORED) | _harmed()


def _harmed() -> Q:
    return Q(repository__in=_not_there_yet()) | Q(pk__in=damaged_parts())


def _not_there_yet() -> QuerySet[Repository, UUID]:
    return Repository.objects.filter(state=RepositoryState.CREATING).values_list("pk", flat=True)


def damaged_parts() -> QuerySet[Verification, UUID]:
    """Ids of the parts whose newest conclusive check found damage. Begins with the failed checks: they are few."""
    return newest_checks(VerificationState.FAILED).values_list("part", flat=True)


def newest_checks(state: str) -> QuerySet[Verification]:
    """The checks with that result after which none of the same part found something out."""
    same = Verification.objects.filter(part=OuterRef("part"), state__in=CONCLUSIVE)
    later = Q(finished_at__gt=OuterRef("finished_at")) | Q(finished_at=OuterRef("finished_at"), pk__gt=OuterRef("pk"))
    return Verification.objects.filter(~Exists(same.filter(later)), state=state).order_by()
