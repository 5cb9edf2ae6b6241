"""The first page of the console: is everything protected, what wants a person, what is going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Prefetch
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aihub_backup.core import showing
from aihub_backup.core.access import scope
from aihub_backup.core.models import Node, User
from backups.admin import charts
from backups.admin.places import seen_points
from backups.models import Backup, BackupPart, Repository, Schedule, Source, Storage, Verification
from backups.models.backup import BACKUP_ACTIVE
from backups.models.verification import VERIFICATION_ACTIVE
from backups.services import backups, protection, schedules, strips, usage
from backups.services.protection import Standing, Subject, Verdict
from backups.services.usage import Usage
from recovery.models import Recovery
from recovery.models.recovery import ACTIVE

MOST = 25  # lines of a list; the rest is behind its link
SOON = 5  # schedules under “next”
NEEDY = (Standing.CRITICAL, Standing.WARNING)  # they come first
_BY_NEED = {Standing.CRITICAL: 0, Standing.WARNING: 1, Standing.PROTECTED: 2, Standing.PAUSED: 3}


class Line(NamedTuple):
    """What is known of a source with its verdict."""

    subject: Subject
    verdict: Verdict


class Shown(NamedTuple):
    """A line that is shown, with what its days were like."""

    source: Source
    verdict: Verdict
    address: str
    strip: SafeString


class Work(NamedTuple):
    """Something that is going on."""

    what: str
    address: str
    bar: SafeString


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows, beside what every page has; everything only as far as the person may see it."""
    user = request.user
    assert isinstance(user, User)
    rows = scope(Source.objects.filter(archived_at=None), user, "backups.view_source")
    lines = [Line(*one) for one in protection.judged(rows)]
    lines.sort(key=lambda line: (_BY_NEED[line.verdict.standing], line.subject.name))
    judged = [line for line in lines if line.verdict.standing != Standing.PAUSED]
    shown, together = _shown(lines[:MOST]), strips.together(rows)
    return {
        **context, "checked_at": timezone.now(), "lines": shown, "lines_more": max(0, len(lines) - MOST),
        "needy": [one for one in shown if one.verdict.standing in NEEDY], "headline": _headline(judged),
        "tone": _tone(judged), "cards": _cards(together, judged),
        "together": charts.strip(together.strip) if lines else "",
        "working": _working(user), "next": _next(user), "nodes": _nodes(user), "repositories": _repositories(request),
        "steps": [] if any(_of_somebody(line) for line in lines) else _steps(user),
    }  # fmt: skip


# --- the verdict ----------------------------------------------------------------------------------------------------


def _shown(lines: Sequence[Line]) -> list[Shown]:
    """With the rows and the days of these, not of all: a thousand drawings would take longer than everything else."""
    rows = Source.objects.select_related("environment").in_bulk([line.subject.pk for line in lines])
    days = strips.strips(list(rows.values()))
    return [_drawn(rows[line.subject.pk], line.verdict, days) for line in lines if line.subject.pk in rows]


def _drawn(source: Source, verdict: Verdict, days: Mapping[UUID, strips.Strip]) -> Shown:
    page = reverse("admin:backups_source_change", args=[source.pk])
    return Shown(source, verdict, page, charts.strip(days[source.pk]))


def _headline(judged: Sequence[Line]) -> str:
    """The one sentence for whoever has five seconds."""
    good = sum(line.verdict.standing == Standing.PROTECTED for line in judged)
    if not judged:
        return _("Nothing is protected yet: there is no source in service.")
    if good == len(judged):
        return ngettext("The one source is protected.", "All %(count)d sources are protected.", good) % {"count": good}
    told = _("%(good)d of %(all)d sources are protected; %(bad)d need attention.")
    return told % {"good": good, "all": len(judged), "bad": len(judged) - good}


def _tone(judged: Sequence[Line]) -> str:
    worst = min((_BY_NEED[line.verdict.standing] for line in judged), default=1)
    return ("bad", "warn", "good")[worst]


def _cards(together: strips.Together, judged: Sequence[Line]) -> list[tuple[str, str, str]]:
    """(title, figure, remark)."""
    good, failed = together.good, together.failed
    share = f"{100 * good / (good + failed):.2f} %" if good + failed else showing.NOTHING
    remark = _("%(good)d ended with a recovery point, %(failed)d failed") % {"good": good, "failed": failed}
    return [
        (_("Backup success, 30 days"), share, remark),
        (_("Longest since a backup"), *_oldest(judged)),
        (_("Verified"), *_verified(judged)),
    ]


def _oldest(judged: Sequence[Line]) -> tuple[str, str]:
    """Of all sources the one whose newest restorable point is the oldest."""
    if not judged:
        return showing.NOTHING, ""
    now, ages = timezone.now(), dict[str, timedelta]()
    for line in judged:
        if line.verdict.data_as_of is None:
            return _("none"), _("“%(name)s” has no restorable point") % {"name": line.subject.name}
        ages[line.subject.name] = now - line.verdict.data_as_of
    oldest = max(ages, key=ages.__getitem__)
    within = sum(ages[line.subject.name] <= line.verdict.rpo for line in judged)
    told = _("“%(name)s”; %(within)d of %(all)d within their target")
    facts = {"name": oldest, "within": within, "all": len(judged)}
    return showing.duration(ages[oldest].total_seconds()), told % facts


def _verified(judged: Sequence[Line]) -> tuple[str, str]:
    """How many sources had a check that found nothing wrong."""
    passed = sum(line.verdict.checked is not None and line.verdict.checked.passed for line in judged)
    return f"{passed} / {len(judged)}", _("sources whose newest verification passed")


def _of_somebody(line: Line) -> bool:
    """Is there a recovery point of something that people added? The console makes one of itself."""
    return line.verdict.point is not None and not line.subject.holds_console


def _steps(user: User) -> list[tuple[str, str, bool]]:
    """(words, address, done): the way to the first backup, for whoever may go it."""
    if not user.has_perm("backups.add_storage"):
        return []
    known = [
        (_("Say where backups go: add a storage"), "storage", Storage.objects.exists()),
        (_("Make a repository in it and prove its recovery kit"), "repository", _settled()),
        (_("Say what is protected: add a source"), "source", Source.objects.filter(own_protection=None).exists()),
        (_("Open the source and press “Back up now”"), "source", False),
    ]
    return [(words, reverse(f"admin:backups_{name}_changelist"), done) for words, name, done in known]


def _settled() -> bool:
    """Is there a repository that takes backups?"""
    return any(row.kit_settled for row in Repository.objects.all())


# --- what is going on -----------------------------------------------------------------------------------------------


def _working(user: User) -> list[Work]:
    parts = Prefetch("parts", BackupPart.objects.select_related("source", "job"))
    running = scope(Backup.objects.filter(state__in=BACKUP_ACTIVE), user, "backups.view_backup")
    found = [_of_backup(row) for row in running.prefetch_related(parts)[:MOST]]
    checks = scope(Verification.objects.filter(state__in=VERIFICATION_ACTIVE), user, "backups.view_verification")
    found += [_of_check(row) for row in checks.select_related("part__source", "job")[:MOST]]
    restores = scope(Recovery.objects.filter(state__in=ACTIVE), user, "recovery.view_recovery")
    return found + [_of_recovery(row) for row in restores.select_related("job")[:MOST]]


def _of_backup(row: Backup) -> Work:
    names = ", ".join(part.source.name for part in row.parts.all())
    bar = showing.bar(backups.progress(row), row.get_state_display())
    what = _("Backup of %(names)s") % {"names": names}
    return Work(what, reverse("admin:backups_backup_change", args=[row.pk]), bar)


def _of_check(row: Verification) -> Work:
    bar = showing.bar(row.job.progress if row.job else {}, row.get_state_display())
    what = _("Verification of %(name)s") % {"name": row.part.source}
    return Work(what, reverse("admin:backups_verification_change", args=[row.pk]), bar)


def _of_recovery(row: Recovery) -> Work:
    what = _("Recovery to %(place)s") % {"place": row.target_path}
    bar = showing.bar(row.progress, row.get_state_display())
    return Work(what, reverse("admin:recovery_recovery_change", args=[row.pk]), bar)


def _next(user: User) -> list[tuple[Schedule, Any]]:
    """The schedules that run next, the soonest first."""
    rows = scope(Schedule.objects.filter(enabled=True), user, "backups.view_schedule")
    found = [(schedule, moments[0]) for schedule in rows if (moments := schedules.next_runs(schedule, 1))]
    return sorted(found, key=lambda pair: pair[1])[:SOON]


def _repositories(request: HttpRequest) -> list[tuple[Repository, Usage]]:
    """With what lies in each of them."""
    rows = list(scope(Repository.objects.select_related("storage"), request.user, "backups.view_repository"))
    found = usage.of_repositories(seen_points(request).filter(repository__in=rows))
    return [(row, found.get(row.pk, Usage())) for row in rows]


def _nodes(user: User) -> list[Node]:
    """Hosts with workers, as far as the person may see them."""
    return list(scope(Node.objects.filter(enabled=True), user, "core.view_node"))
