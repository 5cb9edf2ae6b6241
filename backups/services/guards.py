"""What nobody does with the console's own database: whoever reads one of its backups holds every secret there is.

`services.console` alone leads its source elsewhere, and a command on the console's host alone brings it back. A source
that once was the console's database stays guarded: its backups are still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Denied, Invalid, Refused
from backups.models import OwnProtection, Repository, Schedule, Source
from backups.services import loops, own_database, placing

ON_THE_HOST = "cli"  # the kind of an actor who typed the command on the console's machine

_PLACE = ("environment", "node", "repository")
_WHAT = ("type", "strategy", "tags", "environment")


def must_stay(source: Source, changes: Mapping[str, Any]) -> None:
    """Invalid, naming the fields, when the change leads the console's own source elsewhere."""
    moved = _moved(source, changes) if source.holds_console else []
    if moved:
        cure = "`aihub source console --repository NAME` on the console's host brings it up to date or moves it."
        told = (
            f"“{source}” is the database of this console and is led nowhere else: leave out {', '.join(moved)}. {cure}"
        )
        raise Invalid(told, errors=dict.fromkeys(moved, f"Of the console's own source this cannot be changed. {cure}"))


def must_be_protected(source: Source) -> None:
    """Refused when the source that is to be archived is the console's database."""
    if OwnProtection.objects.filter(source=source).exists():
        raise Refused(
            f"“{source}” is the database of this console, which stays protected as long as the console is in use;"
            " pause it if it must rest for a while."
        )


def must_go_home(source: Source, repository: Repository) -> None:
    """Refused when a backup of the console's database, and its keys with it, would go to another repository."""
    if source.holds_console and repository.pk != source.repository_id:
        raise Refused(
            f"“{source}” is the database of this console: its backups go to “{source.repository}” alone. Leave the"
            " repository out, or move it with `aihub source console --repository NAME` on the console's host.",
            code="source-not-ready",
        )


def must_not_be_read(sources: Iterable[Source], *, by: Actor | None = None) -> None:
    """Denied when one of them is the console's database, unless somebody on the console's host asks."""
    own = next((source for source in sources if source.holds_console), None)
    if own is not None and (by is None or by.kind != ON_THE_HOST):
        raise Denied(
            f"The backups of “{own}” hold every secret of this console, so nobody looks into them or recovers them"
            f" here. On the console's host: `aihub restore {own} --to DIR`, or `aihub engine restore` with the"
            " recovery kit."
        )


def must_not_hold_console(source: Source) -> None:
    """Refused when it would read the console's database or keys under another name, past all that is said here."""
    if source.holds_console or not placing.here(source.node):
        return
    found: str | Path | None = next((place for place in own_database.places() if loops.covers(source, place)), None)
    found = "the console's own database" if own_database.is_on_server(source) else found
    if found is not None:
        raise Refused(
            f"The source “{source}” holds {found}, with which every secret of this console can be read. Leave it out;"
            " the console backs itself up (`aihub source console`).",
            code="source-not-ready",
        )


def must_be_kept(schedule: Schedule) -> None:
    """Refused when the schedule that is to be deleted backs the console up."""
    if OwnProtection.objects.filter(schedule=schedule).exists():
        raise Refused(
            f"The schedule “{schedule}” backs the console itself up and stays as long as the console is in use;"
            " disable it if it must rest for a while."
        )


def must_keep_covering(schedule: Schedule, changes: Mapping[str, Any]) -> None:
    """Invalid, naming the fields, when the schedule that backs the console up would back up something else."""
    own = OwnProtection.objects.filter(schedule=schedule).first()
    if own is None:
        return
    other = [name for name in _WHAT if name in changes and changes[name] != getattr(schedule, name)]
    if "sources" in changes and [source.pk for source in changes["sources"]] != [own.source_id]:
        other.append("sources")
    if other:
        cure = "Its time, its policy and its name may be changed; add another schedule for other sources."
        told = f"The schedule “{schedule}” backs the console itself up and nothing else: leave out {', '.join(other)}."
        raise Invalid(f"{told} {cure}", errors=dict.fromkeys(other, f"Of this schedule it cannot be changed. {cure}"))


def _moved(source: Source, changes: Mapping[str, Any]) -> list[str]:
    """Fields whose new value is another one. A secret that is given is: equal or not, nobody finds out here."""
    found = [name for name in _PLACE if name in changes and changes[name] != getattr(source, name)]
    given: Mapping[str, Any] = changes.get("options") or {}
    plain = any(value != source.options.get(name) for name, value in given.items() if name not in source.secrets)
    hidden = any(value not in (None, "") for name, value in given.items() if name in source.secrets)
    return [*found, *(["options"] if plain or hidden else []), *(["secrets"] if "secrets" in changes else [])]
