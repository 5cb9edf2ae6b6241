"""Which sources and which mode each of the eight types means."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from aihub_backup.core.failures import Invalid, Refused
from backups.kinds import FAMILIES, STRATEGIES
from backups.models import BackupType, Mode, Schedule, Source

# Why a run cannot be. A schedule's slot keeps the sentence, and pages tell it in the reader's language.
NOTHING = gettext_noop(
    "No enabled source is in scope, so there is nothing to back up; add one, or resume a paused one."
)
NOTHING_OF = gettext_noop(
    "No enabled source of the strategy “%(word)s” is in scope, so there is nothing to back up; add one, or resume a"
    " paused one."
)
NOT_YET = gettext_noop("This version has no strategy for “%(word)s” yet, so there is nothing of that kind to back up.")
ARCHIVED = gettext_noop("The source “%(source)s” is archived; resume it first.")

_MODES = {BackupType.INCREMENTAL: Mode.INCREMENTAL, BackupType.DIFFERENTIAL: Mode.DIFFERENTIAL}


def known_type(word: str) -> BackupType:
    """The type of that name. Invalid names the eight."""
    if word not in BackupType.values:
        told = _("There is no backup type “%(word)s”; the types are %(known)s.")
        sentence = told % {"word": word[:40], "known": ", ".join(BackupType.values)}
        raise Invalid(sentence, errors={"type": sentence})
    return BackupType(word)


def mode(kind: BackupType) -> Mode:
    """What each part reads again."""
    return _MODES.get(kind, Mode.FULL)


def check(kind: BackupType, named: Sequence[Source], family: str) -> None:
    """Would these words be understood by `choose`? Raises what it would raise, but needs no source in service."""
    kinds = _kinds(kind, family)
    for source in named:
        _must_fit(source, kinds, kind, family)


def is_possible(kind: BackupType, family: str) -> bool:
    """Has this version a strategy for it?"""
    kinds = _kinds(kind, family)
    return kinds is None or any(one in STRATEGIES for one in kinds)


def must_be_possible(kind: BackupType, family: str) -> None:
    """Refused, as a run would be, where this version could never back anything of it up."""
    if not is_possible(kind, family):
        raise Refused(_not_yet(kind, family), code="source-not-ready")


def choose(
    kind: BackupType, named: Sequence[Source] | None, family: str, within: QuerySet[Source] | None
) -> list[Source]:
    """The sources of a run, by name. None named: the enabled ones in `within` (None: all) that the type means.

    Invalid (unknown family, a source of another kind), Refused (nothing in scope, archived, no such strategy yet).
    """
    kinds = _kinds(kind, family)
    if named is None:
        return _in_service(kinds, within, kind, family)
    chosen = sorted({source.pk: source for source in named}.values(), key=lambda source: source.name)
    if not chosen:
        raise Invalid(
            _("No sources are named."), errors={"sources": _("Name at least one, or leave the list out.")}
        )  # fmt: skip
    for source in chosen:
        _must_fit(source, kinds, kind, family)
    return chosen


def reached(kind: BackupType, family: str, within: QuerySet[Source]) -> list[Source]:
    """The sources in service that a run over `within` would take; none is fine.

    The console's own database is taken by its name alone: it is no part of the platform, and has a schedule of its own.
    """
    return list(_complete(_fitting(kind, family, within.filter(holds_console=False))))


def means(schedule: Schedule, source: Source) -> bool:
    """Does a schedule that names no sources mean this one, paused or not?"""
    kinds = _kinds(BackupType(schedule.type), schedule.strategy)
    return (
        (kinds is None or source.kind in kinds)
        and not source.holds_console
        and schedule.environment_id in (None, source.environment_id)
        and schedule.tags.items() <= source.tags.items()
    )


def itself(kind: BackupType, family: str, within: QuerySet[Source]) -> list[Source]:
    """The console's own database, where it is in service and the type means it."""
    return list(_complete(_fitting(kind, family, within.exclude(own_protection=None))))


def _fitting(kind: BackupType, family: str, within: QuerySet[Source]) -> QuerySet[Source]:
    kinds = _kinds(kind, family)
    rows = within.filter(enabled=True, archived_at=None)
    return rows if kinds is None else rows.filter(kind__in=kinds)


def _kinds(kind: BackupType, family: str) -> tuple[str, ...] | None:
    """The strategy kinds that may take part; None: every kind."""
    if family and family not in FAMILIES:
        told = _("There is no strategy “%(word)s”; the strategies are %(known)s.")
        sentence = told % {"word": family[:40], "known": ", ".join(FAMILIES)}
        raise Invalid(sentence, errors={"strategy": sentence})
    named = kind if kind in FAMILIES else ""
    if named and family and named != family:
        told = _("A backup of the type %(type)s has the strategy %(strategy)s, not %(other)s.")
        sentence = told % {"type": kind, "strategy": named, "other": family}
        raise Invalid(sentence, errors={"strategy": sentence})
    return FAMILIES.get(named or family)


def _in_service(
    kinds: tuple[str, ...] | None, within: QuerySet[Source] | None, kind: BackupType, family: str
) -> list[Source]:
    found = reached(kind, family, Source.objects.all() if within is None else within)
    if not found:
        raise Refused(_nothing(kinds, kind, family), code="source-not-ready")
    return found


def _complete(rows: QuerySet[Source]) -> QuerySet[Source]:
    return rows.select_related("node", "environment", "policy", "repository__storage__node").order_by("name")


def _nothing(kinds: tuple[str, ...] | None, kind: BackupType, family: str) -> str:
    if not is_possible(kind, family):
        return _not_yet(kind, family)
    if kinds is None:
        return _(NOTHING)
    return _(NOTHING_OF) % {"word": family or kind}


def _not_yet(kind: BackupType, family: str) -> str:
    return _(NOT_YET) % {"word": family or kind}


def _must_fit(source: Source, kinds: tuple[str, ...] | None, kind: BackupType, family: str) -> None:
    if source.archived_at is not None:
        raise Refused(_(ARCHIVED) % {"source": source}, code="source-not-ready")
    if kinds is not None and source.kind not in kinds:
        told = _("The source “%(source)s” is of the kind %(kind)s, which “%(word)s” does not mean.")
        sentence = told % {"source": source, "kind": source.kind, "word": family or kind}
        raise Invalid(sentence, errors={"sources": sentence})
