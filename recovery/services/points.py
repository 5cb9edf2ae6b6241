"""Which recovery points are meant: those of a backup, or the newest ones of a source up to a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import Max, Min, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from aihub_backup.core.failures import Invalid, Refused
from backups.models import Backup, BackupPart, Source
from backups.models.backup import STORED, BackupState
from recovery.models import RecoveryType

# Kept in the console's own language and told in the reader's (`core.retelling`).
CHOSEN = gettext_noop("The recovery point of %(at)s was chosen.")
EARLIER = gettext_noop("The recovery point of %(at)s was chosen. It lies %(gap)s seconds before the moment you named.")
NO_LOG = gettext_noop(
    "The recovery point of %(at)s was chosen. It lies %(gap)s seconds before the moment you named. A source of kind"
    " “%(kind)s” keeps no log of the changes between two backups."
)
NOTICES = (CHOSEN, EARLIER, NO_LOG)


class Chosen(NamedTuple):
    """The recovery points to bring back, and what should be said about the choice."""

    backup: Backup
    parts: list[BackupPart]
    notices: list[str]


def choose(
    kind: str, *, backup: Backup | None, source: Source | None, at: datetime | None, parts: Sequence[str]
) -> Chosen:
    """The points for a request. Invalid for contradictions, Refused when there is no such point."""
    if kind == RecoveryType.POINT_IN_TIME and (source is None or at is None):
        errors = {"source": _("Name the source."), "at": _("Name the moment.")}
        raise Invalid(_("A recovery to a point in time needs a source and a moment (at)."), errors=errors)
    if (backup is None) == (source is None):
        errors = {"backup_id": _("Give either a backup or a source.")}
        words = _("Say what to recover: a backup (backup_id), or a source with or without a moment (at).")
        raise Invalid(words, errors=errors)
    if source is not None:
        return _of_source(kind, source, at, parts)
    if at is not None:
        errors = {"at": _("Leave it out, or name a source instead of a backup.")}
        raise Invalid(_("A backup is a moment already."), errors=errors)
    assert backup is not None
    return _of_backup(kind, backup, parts)


def _of_backup(kind: str, backup: Backup, names: Sequence[str]) -> Chosen:
    if backup.state in (BackupState.DELETED, BackupState.DELETING):
        told = _("The backup %(backup)s was deleted; choose another one.")
        raise Refused(told % {"backup": backup.pk}, code="backup-deleted")
    every = list(backup.parts.select_related("source", "repository__storage__node").order_by("source__name"))
    parts = _named(every, names) if names else every
    missing = [part for part in parts if part.state not in STORED]
    if missing or not parts:
        raise _not_restorable(kind, backup, missing, every)
    return Chosen(backup, parts, [])


def _named(parts: Sequence[BackupPart], names: Sequence[str]) -> list[BackupPart]:
    """The parts whose source's name or id, or own id, is given."""
    keys = {key: part for part in parts for key in (str(part.pk), str(part.source_id), part.source.name)}
    unknown = [name for name in names if name not in keys]
    if unknown:
        told = _("This backup has no part “%(name)s”; it has: %(parts)s.")
        sentence = told % {"name": unknown[0][:100], "parts": ", ".join(part.source.name for part in parts)}
        raise Invalid(sentence, errors={"parts": sentence})
    return list(dict.fromkeys(keys[name] for name in names))


def _not_restorable(kind: str, backup: Backup, missing: Sequence[BackupPart], every: Sequence[BackupPart]) -> Refused:
    held = [part.source.name for part in every if part.state in STORED]
    what = ", ".join(f"{part.source} ({part.get_state_display()})" for part in missing) or _("it has no parts")
    told = _("The backup %(backup)s holds no recovery point of: %(parts)s; choose another backup.")
    if held and kind == RecoveryType.FULL:
        told = _(
            "The backup %(backup)s holds no recovery point of: %(parts)s; recover the others with type “partial” and"
            " parts %(held)s."
        )
    return Refused(told % {"backup": backup.pk, "parts": what, "held": held}, code="not-restorable")


# --- by time --------------------------------------------------------------------------------------------------------


def _of_source(kind: str, source: Source, at: datetime | None, names: Sequence[str]) -> Chosen:
    if names:
        raise Invalid(_("Parts are those of a backup."), errors={"parts": _("Leave them out, or name a backup.")})
    if at is not None and at > timezone.now():
        raise _out_of_range(source, _("%(at)s lies in the future") % {"at": _told(at)})
    points = _points(source)
    earlier = points if at is None else points.filter(data_as_of__lte=at)
    part = earlier.order_by("-data_as_of").select_related("backup", "source", "repository__storage__node").first()
    if part is None:
        raise _out_of_range(source, _none_before(at))
    return Chosen(part.backup, [part], _notices(kind, part, at))


def _points(source: Source) -> QuerySet[BackupPart]:
    return BackupPart.objects.filter(source=source, state__in=STORED, data_as_of__isnull=False)


def _notices(kind: str, part: BackupPart, at: datetime | None) -> list[str]:
    assert part.data_as_of is not None
    if at is None:
        return [CHOSEN % {"at": _told(part.data_as_of)}]
    gap = round((at - part.data_as_of).total_seconds())
    facts = {"at": _told(part.data_as_of), "gap": gap, "kind": part.source.kind}
    return [(NO_LOG if kind == RecoveryType.POINT_IN_TIME else EARLIER) % facts]


def _out_of_range(source: Source, why: str) -> Refused:
    """With the window in which there are points, so that the next try can be right."""
    found = _points(source).aggregate(earliest=Min("data_as_of"), latest=Max("data_as_of"))
    facts = {name: moment.isoformat() if moment else None for name, moment in found.items()}
    earliest, latest = found["earliest"], found["latest"]
    told = _("%(source)s: %(why)s.")
    if earliest and latest:
        told = _("%(source)s: %(why)s; its points lie between %(earliest)s and %(latest)s.")
        found = {name: _told(moment) for name, moment in found.items()}
    sentence = told % {"source": source, "why": why, **found}
    return Refused(sentence, code="point-in-time-out-of-range", facts={**facts, "pointer": "/at"})


def _none_before(at: datetime | None) -> str:
    if at is None:
        return _("there is no recovery point")
    return _("there is no recovery point up to %(at)s") % {"at": _told(at)}


def _told(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.get_default_timezone()):%Y-%m-%d %H:%M:%S %Z}"
