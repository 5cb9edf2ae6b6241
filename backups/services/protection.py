"""Is a source protected? One verdict, from what could be restored now; never from “the job ended well”."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F, OuterRef, Q, QuerySet, Subquery, TextChoices, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups.models import (
    BackupPart,
    OwnProtection,
    PartState,
    Policy,
    RepositoryState,
    Source,
    Verification,
    VerificationState,
)
from backups.models.backup import STORED
from backups.services import objectives

CONCLUSIVE = (VerificationState.PASSED, VerificationState.FAILED)


class Standing(TextChoices):
    """From the best to the worst; paused sources are not judged."""

    PROTECTED = "protected", gettext_lazy("protected")
    WARNING = "warning", gettext_lazy("needs a look")
    CRITICAL = "critical", gettext_lazy("not protected")
    PAUSED = "paused", gettext_lazy("paused")


class Aspect(TextChoices):
    """What is asked of a source."""

    FRESH = "fresh", gettext_lazy("Fresh")
    VERIFIED = "verified", gettext_lazy("Verified")
    COPIES = "copies", gettext_lazy("Copies")
    TESTED = "tested", gettext_lazy("Restore-tested")
    KEYS = "keys", gettext_lazy("Recoverable keys")
    RUN = "run", gettext_lazy("Last run")
    SERVICE = "service", gettext_lazy("In service")


_WORST_FIRST = (Standing.CRITICAL, Standing.WARNING, Standing.PROTECTED)


@dataclass(frozen=True)
class Finding:
    """What one test found; `sentence` is in the reader's language."""

    aspect: Aspect
    standing: Standing
    sentence: str

    @property
    def word(self) -> str:
        """Passed, or how bad it is."""
        words = {Standing.PROTECTED: _("passed"), Standing.WARNING: _("needs a look")}
        return words.get(self.standing, _("failed"))


@dataclass(frozen=True)
class Verdict:
    """The worst finding counts. `point` is the newest one that could be restored, `checked` the newest integrity check
    that found something out."""

    standing: Standing
    findings: tuple[Finding, ...]
    point: BackupPart | None
    checked: Verification | None
    rpo: timedelta

    @property
    def data_as_of(self) -> datetime | None:
        """The time of the point's data; None without a point."""
        return self.point.data_as_of if self.point else None

    @property
    def reason(self) -> str:
        """The worst finding in words; empty when there is nothing to say."""
        return next((one.sentence for one in self.findings if one.standing == self.standing), "")


def evaluate(sources: Sequence[Source], now: datetime | None = None) -> dict[UUID, Verdict]:
    """The verdict of each source, in a fixed number of queries however many there are. Policies should be fetched."""
    keys, moment = [source.pk for source in sources], now or timezone.now()
    points, checks, failures, targets = _points(keys), _checks(keys), _failures(keys), objectives.rpo(sources)
    found = {
        source.pk: _verdict(
            source, points.get(source.pk), checks.get(source.pk), failures.get(source.pk), targets[source.pk], moment
        ) for source in sources
    }  # fmt: skip
    return found | _of_the_console(sources, found)


def resting(own: OwnProtection) -> str:
    """Why nothing backs the console up by itself, in the reader's language; empty when something does."""
    facts = {"source": own.source, "schedule": own.schedule}
    if not own.source.in_service:
        return _("The console is not protected: its own source “%(source)s” is paused. Resume it.") % facts
    if not own.schedule.enabled:
        return _("The console is not protected: the schedule “%(schedule)s” is disabled. Enable it.") % facts
    return ""


def _of_the_console(sources: Sequence[Source], found: Mapping[UUID, Verdict]) -> dict[UUID, Verdict]:
    """Its own source may rest like others, but never unnoticed: then nothing brings the console back one day."""
    keys = [source.pk for source in sources if source.holds_console]
    own = OwnProtection.objects.select_related("source", "schedule").filter(source__in=keys).first() if keys else None
    why = resting(own) if own else ""
    if own is None or not why:
        return {}
    judged = found[own.source_id]
    told = Finding(Aspect.SERVICE, Standing.CRITICAL, why)
    return {own.source_id: replace(judged, standing=Standing.CRITICAL, findings=(told, *judged.findings))}


def _verdict(
    source: Source,
    point: BackupPart | None,
    checked: Verification | None,
    failure: BackupPart | None,
    rpo: timedelta,
    now: datetime,
) -> Verdict:
    found = tuple(_findings(source.policy, point, checked, rpo, now))
    if failure is not None:
        found = (*found, Finding(Aspect.RUN, Standing.WARNING, _failed(failure)))
    standing = next(one for one in _WORST_FIRST if any(finding.standing == one for finding in found))
    judged = standing if source.in_service else Standing.PAUSED
    return Verdict(judged, found, point, checked, rpo)


def _findings(
    policy: Policy | None, point: BackupPart | None, checked: Verification | None, rpo: timedelta, now: datetime
) -> Iterable[Finding]:
    if point is None or point.data_as_of is None:
        yield Finding(
            Aspect.FRESH, Standing.CRITICAL, _("Nothing could be restored: there is no usable recovery point.")
        )
        if checked is not None and checked.state == VerificationState.FAILED:
            yield _verified(policy, checked, now)
        return
    yield _fresh(rpo, point.data_as_of, now)
    yield _verified(policy, checked, now)
    yield _copies(policy)
    yield _tested(policy)
    yield _keys(point)


# --- the five tests -------------------------------------------------------------------------------------------------


def _fresh(rpo: timedelta, at: datetime, now: datetime) -> Finding:
    facts = {"age": timesince(at, now), "rpo": _minutes(rpo)}
    if now - at <= rpo:
        told = _("The newest restorable point is %(age)s old; its target is %(rpo)s.") % facts
        return Finding(Aspect.FRESH, Standing.PROTECTED, told)
    told = _("The newest restorable point is %(age)s old, over its target of %(rpo)s. Back it up now.") % facts
    return Finding(Aspect.FRESH, Standing.CRITICAL, told)


def _verified(policy: Policy | None, checked: Verification | None, now: datetime) -> Finding:
    hours = policy.verify_interval_hours if policy else None
    if checked is None:
        told = _("It was never verified.")
        return Finding(Aspect.VERIFIED, Standing.WARNING if hours else Standing.PROTECTED, told)
    at = checked.finished_at or checked.created_at
    facts = {"level": checked.level, "age": timesince(at, now), "count": checked.problems_count}
    if checked.state == VerificationState.FAILED:
        told = _("The newest verification found damage (%(count)d problems). Back it up anew and verify.") % facts
        return Finding(Aspect.VERIFIED, Standing.CRITICAL, told)
    if hours and now - at > timedelta(hours=hours):
        told = _("It was verified %(age)s ago, longer than its policy allows. Verify it.") % facts
        return Finding(Aspect.VERIFIED, Standing.WARNING, told)
    return Finding(Aspect.VERIFIED, Standing.PROTECTED, _("Verified at level %(level)d, %(age)s ago.") % facts)


def _copies(policy: Policy | None) -> Finding:
    wanted = policy.required_copies if policy else 1
    if wanted > 1:
        told = _("One copy, and its policy asks for %(count)d: further copies are not made by this version.")
        return Finding(Aspect.COPIES, Standing.WARNING, told % {"count": wanted})
    return Finding(Aspect.COPIES, Standing.PROTECTED, _("One copy, as its policy asks."))


def _tested(policy: Policy | None) -> Finding:
    if policy is not None and policy.restore_test_interval_days:
        told = _("Its policy asks for restore tests, and this version makes none. Recover it to a new place and look.")
        return Finding(Aspect.TESTED, Standing.WARNING, told)
    return Finding(Aspect.TESTED, Standing.PROTECTED, _("No restore test is asked for."))


def _keys(point: BackupPart) -> Finding:
    repository, facts = point.repository, {"name": point.repository.name}
    if repository.state == RepositoryState.TAMPERED:
        told = _("The history of the repository “%(name)s” was changed from outside. Look at it before you rely on it.")
        return Finding(Aspect.KEYS, Standing.CRITICAL, told % facts)
    if repository.kit_proven_at is not None:
        return Finding(Aspect.KEYS, Standing.PROTECTED, _("The recovery kit of “%(name)s” was proven.") % facts)
    if repository.kit_waived_at is not None:
        told = _("The recovery kit of “%(name)s” was waived, not proven. Print it and prove it.") % facts
        return Finding(Aspect.KEYS, Standing.WARNING, told)
    told = _("Nobody has proven the recovery kit of “%(name)s”. Without it a lost console cannot be replaced.") % facts
    return Finding(Aspect.KEYS, Standing.CRITICAL, told)


def _failed(failure: BackupPart) -> str:
    return _("The last run failed: %(why)s") % {"why": failure.error_message or failure.get_state_display()}


def _minutes(rpo: timedelta) -> str:
    return _("%(minutes)d minutes") % {"minutes": round(rpo.total_seconds() / 60)}


# --- what it looks at -----------------------------------------------------------------------------------------------


def restorable_parts() -> QuerySet[BackupPart]:
    """Recovery points whose newest conclusive check, where there is one, has passed."""
    newest = Verification.objects.filter(part=OuterRef("pk"), state__in=CONCLUSIVE).order_by("-finished_at", "-pk")
    stored = BackupPart.objects.filter(state__in=STORED, data_as_of__isnull=False)
    usable = stored.exclude(repository__state=RepositoryState.CREATING).annotate(
        found=Subquery(newest.values("state")[:1])
    )
    return usable.filter(Q(found__isnull=True) | ~Q(found=VerificationState.FAILED))


def _points(keys: Sequence[UUID]) -> dict[UUID, BackupPart]:
    newest = restorable_parts().filter(source=OuterRef("pk")).order_by("-data_as_of", "-pk").values("pk")[:1]
    found = Source.objects.filter(pk__in=keys).annotate(point=Subquery(newest)).values_list("point", flat=True)
    # Thousands of points lie in a few repositories: those are fetched once each, not beside every point.
    parts = BackupPart.objects.prefetch_related("repository__storage").defer("stats", "facts", "item_errors")
    return {part.source_id: part for part in parts.filter(pk__in=[*filter(None, found)])}


def _checks(keys: Sequence[UUID]) -> dict[UUID, Verification]:
    """In one pass over all their checks: asked for each source, they would be searched through a thousand times."""
    rank = Window(RowNumber(), partition_by=[F("part__source")], order_by=[F("finished_at").desc(), F("pk").desc()])
    ended = Verification.objects.filter(part__source__in=keys, state__in=CONCLUSIVE, part__state__in=STORED)
    newest = ended.annotate(of=F("part__source"), rank=rank).filter(rank=1).only(*_SAID)
    return {check.of: check for check in newest.order_by()}


_SAID = ("state", "level", "problems_count", "created_at", "finished_at", "part")  # of a check, by a verdict


def _failures(keys: Sequence[UUID]) -> dict[UUID, BackupPart]:
    """The newest part of a source that ended, where it ended badly."""
    ended = BackupPart.objects.filter(source=OuterRef("pk"), state__in=[*STORED, PartState.FAILED])
    newest = ended.order_by("-created_at", "-pk").values("pk")[:1]
    found = Source.objects.filter(pk__in=keys).annotate(newest=Subquery(newest)).values_list("newest", flat=True)
    failed = BackupPart.objects.filter(pk__in=[*filter(None, found)], state=PartState.FAILED)
    return {part.source_id: part for part in failed}
