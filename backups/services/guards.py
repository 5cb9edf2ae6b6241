"""What nobody does with the console's own database: whoever reads one of its backups holds every secret there is.

`services.console` alone leads its source elsewhere, and a command on the console's host alone brings it back. A source
that once was the console's database stays guarded: its backups are still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext as _

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Denied, Invalid, Refused
from backups.models import OwnProtection, Repository, Schedule, Source
from backups.services import loops, own_database, own_places, placing, ways

ON_THE_HOST = "cli"  # the kind of an actor who typed the command on the console's machine

_PLACE = ("environment", "node", "repository")
_WHAT = ("type", "strategy", "tags", "environment")


def must_stay(source: Source, changes: Mapping[str, Any]) -> None:
    """Invalid, naming the fields, when the change leads the console's own source elsewhere."""
    moved = _moved(source, changes) if source.holds_console else []
    if moved:
        cure = _("`aihub source console --repository NAME` on the console's host brings it up to date or moves it.")
        told = _("“%(source)s” is the database of this console and is led nowhere else: leave out %(fields)s.")
        field = _("Of the console's own source this cannot be changed.")
        words = told % {"source": source, "fields": ", ".join(moved)}
        raise Invalid(f"{words} {cure}", errors=dict.fromkeys(moved, f"{field} {cure}"))


def must_be_protected(source: Source) -> None:
    """Refused when the source that is to be archived is the console's database."""
    if OwnProtection.objects.filter(source=source).exists():
        told = _(
            "“%(source)s” is the database of this console, which stays protected as long as the console is in use;"
            " pause it if it must rest for a while."
        )
        raise Refused(told % {"source": source})


def must_go_home(source: Source, repository: Repository) -> None:
    """Refused when a backup of the console's database, and its keys with it, would go to another repository."""
    if source.holds_console and repository.pk != source.repository_id:
        told = _(
            "“%(source)s” is the database of this console: its backups go to “%(repository)s” alone. Leave the"
            " repository out, or move it with `aihub source console --repository NAME` on the console's host."
        )
        raise Refused(told % {"source": source, "repository": source.repository}, code="source-not-ready")


def must_not_be_read(sources: Iterable[Source], *, by: Actor | None = None) -> None:
    """Denied when one of them is the console's database, unless somebody on the console's host asks."""
    own = next((source for source in sources if source.holds_console), None)
    if own is not None and (by is None or by.kind != ON_THE_HOST):
        told = _(
            "The backups of “%(source)s” hold every secret of this console, so nobody looks into them or recovers them"
            " here. On the console's host: `aihub restore %(source)s --to DIR`, or `aihub engine restore` with the"
            " recovery kit."
        )
        raise Denied(told % {"source": own})


def must_not_hold_console(source: Source) -> None:
    """Refused when it would read what opens the console's secrets, under whatever name, past all that is said here.
    Invalid when nobody can say, because a link on the way keeps where it leads.

    What another host has is judged there, by its worker.
    """
    if source.holds_console or not placing.here(source.node):
        return
    ways.must_be_open(source)
    ways.must_not_lead_into_processes(source)
    if own_database.is_on_server(source):
        told = _(
            "The source “%(source)s” is the database of this console, with which every secret of this console can be"
            " read. The console backs itself up (`aihub source console`)."
        )
        raise Refused(told % {"source": source}, code="source-not-ready")
    held = [place.pattern for place in own_places.places() if _reads(source, place)]
    if held:
        told = _(
            "The source “%(source)s” holds files with which every secret of this console can be read. Leave out"
            " %(found)s, or name other paths; the console backs itself up (`aihub source console`)."
        )
        raise Refused(told % {"source": source, "found": ", ".join(held)}, code="source-not-ready")


def must_be_kept(schedule: Schedule) -> None:
    """Refused when the schedule that is to be deleted backs the console up."""
    if OwnProtection.objects.filter(schedule=schedule).exists():
        told = _(
            "The schedule “%(schedule)s” backs the console itself up and stays as long as the console is in use;"
            " disable it if it must rest for a while."
        )
        raise Refused(told % {"schedule": schedule})


def must_keep_covering(schedule: Schedule, changes: Mapping[str, Any]) -> None:
    """Invalid, naming the fields, when the schedule that backs the console up would back up something else."""
    own = OwnProtection.objects.filter(schedule=schedule).first()
    if own is None:
        return
    other = [name for name in _WHAT if name in changes and changes[name] != getattr(schedule, name)]
    if "sources" in changes and [source.pk for source in changes["sources"]] != [own.source_id]:
        other.append("sources")
    if other:
        cure = _("Its time, its policy and its name may be changed; add another schedule for other sources.")
        told = _("The schedule “%(schedule)s” backs the console itself up and nothing else: leave out %(fields)s.")
        field = _("Of this schedule it cannot be changed.")
        words = told % {"schedule": schedule, "fields": ", ".join(other)}
        raise Invalid(f"{words} {cure}", errors=dict.fromkeys(other, f"{field} {cure}"))


def _reads(source: Source, place: own_places.Place) -> bool:
    return loops.covers(source, place.path, directory=place.directory) or loops.begins_in(source, place.path)


def _moved(source: Source, changes: Mapping[str, Any]) -> list[str]:
    """Fields whose new value is another one. A secret that is given is: equal or not, nobody finds out here."""
    found = [name for name in _PLACE if name in changes and changes[name] != getattr(source, name)]
    given: Mapping[str, Any] = changes.get("options") or {}
    plain = any(value != source.options.get(name) for name, value in given.items() if name not in source.secrets)
    hidden = any(value not in (None, "") for name, value in given.items() if name in source.secrets)
    return [*found, *(["options"] if plain or hidden else []), *(["secrets"] if "secrets" in changes else [])]
