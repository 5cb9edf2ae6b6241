"""Is a source protected? One verdict, from what could be restored now; never from “the job ended well”."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet, TextChoices
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backups.models import OwnProtection, PartState, Policy, RepositoryState, Source
from backups.services import evidence, objectives
from backups.services.evidence import Check, Evidence, Point


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
# By these names the tests compare what they find a thousand times: a member of an enumeration is slow to look up.
_GOOD, _DOUBTFUL, _BAD = Standing.PROTECTED, Standing.WARNING, Standing.CRITICAL


class Subject(NamedTuple):
    """A source as far as its verdict asks."""

    pk: UUID
    name: str
    environment_id: UUID
    policy: Policy | None
    in_service: bool
    holds_console: bool


class Case(NamedTuple):
    """All that the tests look at."""

    policy: Policy | None
    point: Point | None
    checked: Check | None
    failure: str | None
    rpo: timedelta
    now: datetime
    resting: str = ""  # why nothing backs the console up by itself


class Finding(NamedTuple):
    """What one test found."""

    aspect: Aspect
    standing: Standing
    sentence: str  # in the reader's language
    asked: bool = True  # False: nobody asks for it, so that it neither passed nor failed

    @property
    def word(self) -> str:
        """Passed, or how bad it is."""
        if not self.asked:
            return _("not asked")
        words = {Standing.PROTECTED: _("passed"), Standing.WARNING: _("needs a look")}
        return words.get(self.standing, _("failed"))


class Verdict(NamedTuple):
    """The worst finding counts. The tests judge at once; their sentences are made when somebody reads them: of a
    thousand sources few are shown."""

    standing: Standing
    case: Case

    @property
    def point(self) -> Point | None:
        """The newest one that could be restored."""
        return self.case.point

    @property
    def checked(self) -> Check | None:
        """The newest integrity check that found something out."""
        return self.case.checked

    @property
    def rpo(self) -> timedelta:
        """How old the newest point may be."""
        return self.case.rpo

    @property
    def data_as_of(self) -> datetime | None:
        """The time of the point's data; None without a point."""
        return self.case.point.data_as_of if self.case.point else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What each test found that was made."""
        return tuple(_findings(self.case))

    @property
    def reason(self) -> str:
        """The worst finding in words; empty when there is nothing to say."""
        worst, case = self.standing, self.case
        return next((tell(case, worst) for _aspect, judge, tell in _TESTS if judge(case) == worst), "")


def evaluate(sources: Iterable[Source], now: datetime | None = None) -> dict[UUID, Verdict]:
    """The verdict of each source, in a fixed number of queries however many there are."""
    rows = Source.objects.filter(pk__in=[source.pk for source in sources])
    return {subject.pk: verdict for subject, verdict in judged(rows, now)}


def judged(rows: QuerySet[Source], now: datetime | None = None) -> list[tuple[Subject, Verdict]]:
    """The same of all rows of a query, without making objects of them."""
    found, moment = _subjects(rows), now or timezone.now()
    targets, resting = objectives.rpo([subject for subject, _found in found]), _resting(one for one, _found in found)
    return [
        (subject, _verdict(subject, Case(
            subject.policy, *known, targets[subject.pk], moment, resting.get(subject.pk, ""))))
        for subject, known in found
    ]  # fmt: skip


def _subjects(rows: QuerySet[Source]) -> list[tuple[Subject, Evidence]]:
    columns = ("pk", "name", "environment_id", "policy_id", "enabled", "archived_at", "holds_console")
    found = evidence.gathered(rows, *columns)
    policies = Policy.objects.in_bulk({one[3] for one in found if one[3]})  # there are few
    return [
        (Subject(pk, name, environment, policies.get(policy), enabled and archived is None, console), known)
        for pk, name, environment, policy, enabled, archived, console, known in found
    ]


def _verdict(subject: Subject, case: Case) -> Verdict:
    found = [judge(case) for _aspect, judge, _tell in _TESTS]
    worst = _BAD if _BAD in found else _DOUBTFUL if _DOUBTFUL in found else _GOOD
    paused = not subject.in_service and not case.resting
    return Verdict(Standing.PAUSED if paused else worst, case)


def _findings(case: Case) -> Iterable[Finding]:
    for aspect, judge, tell in _TESTS:
        standing = judge(case)
        if standing is not None:
            yield Finding(aspect, standing, tell(case, standing), _is_asked(aspect, case))


def _is_asked(aspect: Aspect, case: Case) -> bool:
    """Does anybody ask for it?"""
    if aspect == Aspect.TESTED:
        return _wants_restore_tests(case.policy)
    return aspect != Aspect.VERIFIED or case.checked is not None or bool(_verify_hours(case.policy))


# --- the console's own database -------------------------------------------------------------------------------------


def resting(own: OwnProtection) -> str:
    """Why nothing backs the console up by itself, in the reader's language; empty when something does."""
    facts = {"source": own.source, "schedule": own.schedule}
    if not own.source.in_service:
        return _("The console is not protected: its own source “%(source)s” is paused. Resume it.") % facts
    if not own.schedule.enabled:
        return _("The console is not protected: the schedule “%(schedule)s” is disabled. Enable it.") % facts
    return ""


def _resting(subjects: Iterable[Subject]) -> dict[UUID, str]:
    """Its own source may rest like others, but never unnoticed: then nothing brings the console back one day."""
    keys = [subject.pk for subject in subjects if subject.holds_console]
    own = OwnProtection.objects.select_related("source", "schedule").filter(source__in=keys).first() if keys else None
    return {own.source_id: resting(own)} if own else {}


# --- the tests: what they find, None where they are not made; then in words, for whoever reads it --------------------


def _served(case: Case) -> Standing | None:
    return _BAD if case.resting else None


def _why_resting(case: Case, _standing: Standing) -> str:
    return case.resting


def _fresh(case: Case) -> Standing:
    return _GOOD if case.point and case.now - case.point.data_as_of <= case.rpo else _BAD


def _how_old(case: Case, standing: Standing) -> str:
    if case.point is None:
        return _("Nothing could be restored: there is no usable recovery point.")
    minutes = _("%(minutes)d minutes") % {"minutes": round(case.rpo.total_seconds() / 60)}
    told = _("The newest restorable point is %(age)s old, over its target of %(rpo)s. Back it up now.")
    if standing == Standing.PROTECTED:
        told = _("The newest restorable point is %(age)s old; its target is %(rpo)s.")
    return told % {"age": timesince(case.point.data_as_of, case.now), "rpo": minutes}


def _verified(case: Case) -> Standing | None:
    checked, hours = case.checked, _verify_hours(case.policy)
    if checked is not None and not checked.passed:
        return _BAD
    if case.point is None:
        return None
    if checked is None:
        return _DOUBTFUL if hours else _GOOD
    return _DOUBTFUL if hours and case.now - checked.at > timedelta(hours=hours) else _GOOD


def _verify_hours(policy: Policy | None) -> int | None:
    return policy.verify_interval_hours if policy else None


def _when_verified(case: Case, standing: Standing) -> str:
    if case.checked is None:
        return _("It was never verified.")
    if not case.checked.passed:
        told = _("The newest verification found damage (%(count)d problems). Back it up anew and verify.")
        return told % {"count": case.checked.problems}
    told = _("It was verified %(age)s ago, longer than its policy allows. Verify it.")
    if standing == Standing.PROTECTED:
        told = _("Verified at level %(level)d, %(age)s ago.")
    return told % {"level": case.checked.level, "age": timesince(case.checked.at, case.now)}


def _copied(case: Case) -> Standing | None:
    if case.point is None:
        return None
    if not case.point.reachable:
        return _BAD
    return _DOUBTFUL if _wanted_copies(case.policy) > 1 else _GOOD


def _wanted_copies(policy: Policy | None) -> int:
    return policy.required_copies if policy else 1


def _how_many_copies(case: Case, standing: Standing) -> str:
    if standing == Standing.CRITICAL:
        assert case.point is not None
        told = _("The only copy is out of reach: the storage of “%(name)s” failed its last test. Test it and mend it.")
        return told % {"name": case.point.repository.name}
    if standing == Standing.PROTECTED:
        return _("One copy, as its policy asks.")
    told = _("One copy, and its policy asks for %(count)d: further copies are not made by this version.")
    return told % {"count": _wanted_copies(case.policy)}


def _tested(case: Case) -> Standing | None:
    if case.point is None:
        return None
    return _DOUBTFUL if _wants_restore_tests(case.policy) else _GOOD


def _wants_restore_tests(policy: Policy | None) -> bool:
    return policy is not None and bool(policy.restore_test_interval_days)


def _which_restore_tests(_case: Case, standing: Standing) -> str:
    if standing == Standing.WARNING:
        return _("Its policy asks for restore tests, and this version makes none. Recover it to a new place and look.")
    return _("No restore test is asked for.")


def _keyed(case: Case) -> Standing | None:
    if case.point is None:
        return None
    repository = case.point.repository
    if repository.state in _DISTRUSTED or not (repository.kit_proven_at or repository.kit_waived_at):
        return _BAD
    return _GOOD if repository.kit_proven_at else _DOUBTFUL


def _which_keys(case: Case, _standing: Standing) -> str:
    assert case.point is not None
    repository = case.point.repository
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


def _ran(case: Case) -> Standing | None:
    return None if case.failure is None else _DOUBTFUL


def _why_failed(case: Case, _standing: Standing) -> str:
    return _("The last run failed: %(why)s") % {"why": case.failure or PartState.FAILED.label}


Judge = Callable[[Case], Standing | None]
Tell = Callable[[Case, Standing], str]

_TESTS: tuple[tuple[Aspect, Judge, Tell], ...] = (
    (Aspect.SERVICE, _served, _why_resting),
    (Aspect.FRESH, _fresh, _how_old),
    (Aspect.VERIFIED, _verified, _when_verified),
    (Aspect.COPIES, _copied, _how_many_copies),
    (Aspect.TESTED, _tested, _which_restore_tests),
    (Aspect.KEYS, _keyed, _which_keys),
    (Aspect.RUN, _ran, _why_failed),
)
