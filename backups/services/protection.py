"""Is a source protected? One verdict, from what could be restored now; never from “the job ended well”."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import TextChoices
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups.models import OwnProtection, PartState, Policy, Repository, RepositoryState, Source
from backups.services import evidence, objectives
from backups.services.evidence import Check, Point


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


_DISTRUSTED = (RepositoryState.TAMPERED, RepositoryState.TAKEN_OVER)  # nothing is written, whatever the kit
_WORST_FIRST = (Standing.CRITICAL, Standing.WARNING, Standing.PROTECTED)


@dataclass(frozen=True)
class Finding:
    """What one test found. `tell` makes its sentence when somebody reads it: of a thousand sources few are shown."""

    aspect: Aspect
    standing: Standing
    tell: Callable[[], str]
    asked: bool = True  # False: nobody asks for it, so that it neither passed nor failed

    @property
    def sentence(self) -> str:
        """In the reader's language."""
        return self.tell()

    @property
    def word(self) -> str:
        """Passed, or how bad it is."""
        if not self.asked:
            return _("not asked")
        words = {Standing.PROTECTED: _("passed"), Standing.WARNING: _("needs a look")}
        return words.get(self.standing, _("failed"))


@dataclass(frozen=True)
class Verdict:
    """The worst finding counts. `point` is the newest one that could be restored, `checked` the newest integrity check
    that found something out."""

    standing: Standing
    findings: tuple[Finding, ...]
    point: Point | None
    checked: Check | None
    rpo: timedelta

    @property
    def data_as_of(self) -> datetime | None:
        """The time of the point's data; None without a point."""
        return self.point.data_as_of if self.point else None

    @property
    def reason(self) -> str:
        """The worst finding in words; empty when there is nothing to say."""
        return next((one.sentence for one in self.findings if one.standing == self.standing), "")


# What is read of a source that is judged: lists of a thousand need no more of those that they do not show.
JUDGED = ("name", "environment", "policy", "enabled", "archived_at", "holds_console")


def evaluate(sources: Sequence[Source], now: datetime | None = None) -> dict[UUID, Verdict]:
    """The verdict of each source, in a fixed number of queries however many there are. Policies should be fetched."""
    keys, moment = [source.pk for source in sources], now or timezone.now()
    points, checks, failures = evidence.points(keys), evidence.checks(keys), evidence.failures(keys)
    targets = objectives.rpo(sources)
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
    told = Finding(Aspect.SERVICE, Standing.CRITICAL, lambda: why)
    return {own.source_id: replace(judged, standing=Standing.CRITICAL, findings=(told, *judged.findings))}


def _verdict(
    source: Source,
    point: Point | None,
    checked: Check | None,
    failure: str | None,
    rpo: timedelta,
    now: datetime,
) -> Verdict:
    found = tuple(_findings(source.policy, point, checked, rpo, now))
    if failure is not None:
        found = (*found, Finding(Aspect.RUN, Standing.WARNING, partial(_failed, failure)))
    standing = next(one for one in _WORST_FIRST if any(finding.standing == one for finding in found))
    judged = standing if source.in_service else Standing.PAUSED
    return Verdict(judged, found, point, checked, rpo)


def _findings(
    policy: Policy | None, point: Point | None, checked: Check | None, rpo: timedelta, now: datetime
) -> Iterable[Finding]:
    if point is None:
        yield Finding(Aspect.FRESH, Standing.CRITICAL, _nothing)
        if checked is not None and not checked.passed:
            yield _verified(policy, checked, now)
        return
    yield _fresh(rpo, point.data_as_of, now)
    yield _verified(policy, checked, now)
    yield _copies(policy, point)
    yield _tested(policy)
    yield _keys(point.repository)


# --- the five tests -------------------------------------------------------------------------------------------------


def _fresh(rpo: timedelta, at: datetime, now: datetime) -> Finding:
    standing = Standing.PROTECTED if now - at <= rpo else Standing.CRITICAL
    return Finding(Aspect.FRESH, standing, partial(_how_old, standing, rpo, at, now))


def _verified(policy: Policy | None, checked: Check | None, now: datetime) -> Finding:
    hours = policy.verify_interval_hours if policy else None
    if checked is None:
        standing = Standing.WARNING if hours else Standing.PROTECTED
        return Finding(Aspect.VERIFIED, standing, _never_verified, asked=bool(hours))
    if not checked.passed:
        return Finding(Aspect.VERIFIED, Standing.CRITICAL, partial(_damage, checked))
    standing = Standing.WARNING if hours and now - checked.at > timedelta(hours=hours) else Standing.PROTECTED
    return Finding(Aspect.VERIFIED, standing, partial(_when_verified, standing, checked.level, checked.at, now))


def _copies(policy: Policy | None, point: Point) -> Finding:
    if not point.reachable:
        return Finding(Aspect.COPIES, Standing.CRITICAL, partial(_no_copy, point.repository))
    wanted = policy.required_copies if policy else 1
    standing = Standing.WARNING if wanted > 1 else Standing.PROTECTED
    return Finding(Aspect.COPIES, standing, partial(_how_many_copies, wanted))


def _tested(policy: Policy | None) -> Finding:
    wanted = policy is not None and bool(policy.restore_test_interval_days)
    standing = Standing.WARNING if wanted else Standing.PROTECTED
    return Finding(Aspect.TESTED, standing, partial(_which_restore_tests, wanted), asked=wanted)


def _keys(repository: Repository) -> Finding:
    standing = Standing.CRITICAL
    if repository.state not in _DISTRUSTED and (repository.kit_proven_at or repository.kit_waived_at):
        standing = Standing.PROTECTED if repository.kit_proven_at else Standing.WARNING
    return Finding(Aspect.KEYS, standing, partial(_which_keys, repository))


# --- in words, for whoever reads them -------------------------------------------------------------------------------


def _nothing() -> str:
    return _("Nothing could be restored: there is no usable recovery point.")


def _how_old(standing: Standing, rpo: timedelta, at: datetime, now: datetime) -> str:
    minutes = _("%(minutes)d minutes") % {"minutes": round(rpo.total_seconds() / 60)}
    told = _("The newest restorable point is %(age)s old, over its target of %(rpo)s. Back it up now.")
    if standing == Standing.PROTECTED:
        told = _("The newest restorable point is %(age)s old; its target is %(rpo)s.")
    return told % {"age": timesince(at, now), "rpo": minutes}


def _never_verified() -> str:
    return _("It was never verified.")


def _damage(checked: Check) -> str:
    told = _("The newest verification found damage (%(count)d problems). Back it up anew and verify.")
    return told % {"count": checked.problems}


def _when_verified(standing: Standing, level: int, at: datetime, now: datetime) -> str:
    told = _("It was verified %(age)s ago, longer than its policy allows. Verify it.")
    if standing == Standing.PROTECTED:
        told = _("Verified at level %(level)d, %(age)s ago.")
    return told % {"level": level, "age": timesince(at, now)}


def _no_copy(repository: Repository) -> str:
    told = _("The only copy is out of reach: the storage of “%(name)s” failed its last test. Test it and mend it.")
    return told % {"name": repository.name}


def _how_many_copies(wanted: int) -> str:
    if wanted <= 1:
        return _("One copy, as its policy asks.")
    told = _("One copy, and its policy asks for %(count)d: further copies are not made by this version.")
    return told % {"count": wanted}


def _which_restore_tests(wanted: bool) -> str:
    if wanted:
        return _("Its policy asks for restore tests, and this version makes none. Recover it to a new place and look.")
    return _("No restore test is asked for.")


def _which_keys(repository: Repository) -> str:
    told = _("Nobody has proven the recovery kit of “%(name)s”. Without it a lost console cannot be replaced.")
    if repository.state == RepositoryState.TAMPERED:
        told = _("The history of the repository “%(name)s” was changed from outside. Look at it before you rely on it.")
    elif repository.state == RepositoryState.TAKEN_OVER:
        told = _("Another console has taken the repository “%(name)s” over: nothing is backed up into it from here.")
    elif repository.kit_proven_at is not None:
        told = _("The recovery kit of “%(name)s” was proven.")
    elif repository.kit_waived_at is not None:
        told = _("The recovery kit of “%(name)s” was waived, not proven. Print it and prove it.")
    return told % {"name": repository.name}


def _failed(why: str) -> str:
    return _("The last run failed: %(why)s") % {"why": why or PartState.FAILED.label}
