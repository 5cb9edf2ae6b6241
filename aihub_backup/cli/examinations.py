"""What the doctor looks at. Each examination yields findings: a fixed id, a state, a sentence, and the cure."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from aihub_backup.core.commands import typed

SPACE_WARN, SPACE_FAIL = 2 * 10**9, 2 * 10**8  # bytes left where the console keeps its data
SILENCE = timedelta(minutes=5)  # of a worker or of the scheduler, before we say so
OWN_LATE = timedelta(days=2)  # without a copy of the console's own database
OWN_CURE = "aihub source console"
STARTING = timedelta(minutes=2)  # of `aihub up`: workers and scheduler need a moment to show themselves
STUCK = timedelta(minutes=5)  # that a job may wait although a worker is alive


class Finding(NamedTuple):
    """One thing looked at. `state` is ok, warn or fail."""

    id: str
    state: str
    text: str
    cure: str = ""


def of_the_machine() -> Iterator[Finding]:
    """Python and the libraries it brings."""
    version = sys.version.split()[0]
    yield Finding("python", "ok", f"Python {version} at {sys.executable}")
    old = sqlite3.sqlite_version_info < (3, 37, 0)
    cure = "use a Python with a newer SQLite, or PostgreSQL as the console's database"
    yield Finding("sqlite", "warn" if old else "ok", f"SQLite {sqlite3.sqlite_version}", cure)


def of_the_home(settings: Any) -> Iterator[Finding]:
    """The directory the console lives in: permissions, space, keys."""
    home = Path(settings.AIHUB_HOME)
    yield _permissions("home", home, 0o700)
    yield _space(home)
    keys = home / "keys"
    for path in sorted(keys.iterdir()) if keys.is_dir() else []:
        yield _permissions("keys", path, 0o600)
    if not settings.AIHUB_APP_KEYS:
        yield Finding("keys", "fail", "the application key is missing", "set AIHUB_APP_KEYS or AIHUB_APP_KEYS_FILE")


def of_the_services(settings: Any) -> Iterator[Finding]:
    """Database, cache, broker, workers, scheduler, jobs: each one apart, so that one broken hides no other."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")
    import django

    django.setup()
    database = list(_guarded("database", _database))
    yield from database
    yield from _guarded("broker", _broker)
    yield _supervisor(Path(settings.AIHUB_HOME))
    if all(finding.state != "fail" for finding in database):
        for name, look in _LOOKS.items():
            yield from _guarded(name, look)


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings, or the error as one: drivers and brokers have errors of their own."""
    from aihub_backup.core.redaction import scrub

    try:
        yield from look()
    except Exception as error:  # whatever it is, the person wants to read it here and see the rest too
        text = scrub(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        yield Finding(name, "fail", text, "start the console once with `aihub up`, or mend what the sentence names")


def _permissions(name: str, path: Path, most: int) -> Finding:
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if mode & ~most:
        return Finding(
            name, "fail", f"{path} has mode {mode:o}: others can reach it", f"chmod {most:o} {shlex.quote(str(path))}"
        )
    if facts.st_uid != os.geteuid() and os.geteuid() != 0:
        return Finding(name, "fail", f"{path} belongs to another account", "run the console as its owner")
    return Finding(name, "ok", f"{path} (mode {mode:o})")


def _space(home: Path) -> Finding:
    from aihub_backup.cli import output

    left = shutil.disk_usage(home).free
    state = "fail" if left < SPACE_FAIL else "warn" if left < SPACE_WARN else "ok"
    return Finding("space", state, f"{output.size(left)} left at {home}", "make room: the database cannot grow")


def _database() -> Iterator[Finding]:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    if waiting:
        yield Finding("database", "fail", f"{waiting} migrations are waiting", "aihub up, or aihub manage migrate")
        return
    yield Finding("database", "ok", f"{connection.vendor}, migrated")
    if connection.vendor == "sqlite":
        yield _sqlite_health(connection)


def _sqlite_health(connection: Any) -> Finding:
    with connection.cursor() as cursor:
        answers = {name: _pragma(cursor, name) for name in ("journal_mode", "synchronous", "quick_check")}
    if answers["quick_check"] != "ok":
        return Finding(
            "database", "fail", f"SQLite says: {answers['quick_check']}", "restore console.sqlite3 from a copy"
        )
    full = int(answers["synchronous"]) >= 2
    sound = answers["journal_mode"] == "wal" and full
    cure = "do not change these pragmas: a power cut could lose a job's state"
    told = f"journal {answers['journal_mode']}, {'full sync' if full else 'no full sync'}"
    return Finding("durability", "ok" if sound else "warn", told, cure)


def _pragma(cursor: Any, name: str) -> str:
    cursor.execute(f"PRAGMA {name}")
    return str(cursor.fetchone()[0])


def _cache() -> Iterator[Finding]:
    from django.conf import settings
    from django.core.cache import cache

    cache.set("aihub-doctor", "here", 30)
    works = cache.get("aihub-doctor") == "here"
    kind = settings.CACHES["default"]["BACKEND"].rpartition(".")[2]
    yield Finding("cache", "ok" if works else "warn", kind, "pages are slower without it; nothing else suffers")


def _broker() -> Iterator[Finding]:
    from celery import current_app

    with current_app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        yield Finding("broker", "ok", str(connection.transport_cls or connection.transport.driver_type))


def _supervisor(home: Path) -> Finding:
    from aihub_backup.cli import place

    owner = place.owner(home)
    if owner is None:
        return Finding("console", "warn", "no `aihub up` serves this home", "start it: aihub up")
    return Finding("console", "ok", f"`aihub up` runs as process {owner}")


def _workers() -> Iterator[Finding]:
    from aihub_backup.core.models import Node

    nodes = list(Node.objects.filter(enabled=True))
    if not nodes:
        yield _early("workers") or Finding("workers", "warn", "no worker has ever shown itself", "start one: aihub up")
    for node in nodes:
        seen = f"{node.name} was seen {_ago(node.seen_at)}"
        found = Finding("workers", "ok" if node.alive else "warn", seen, "start its worker, or disable the node")
        yield found if node.alive else (_early("workers") or found)


def _scheduler() -> Iterator[Finding]:
    from django.db.models import Max
    from django_celery_beat.models import PeriodicTask

    last = PeriodicTask.objects.filter(enabled=True).aggregate(last=Max("last_run_at"))["last"]
    fresh = last is not None and _age(last) < SILENCE
    told = Finding("scheduler", "ok" if fresh else "warn", f"ran something {_ago(last)}", "start it: aihub up")
    yield told if fresh else _early("scheduler") or told


def _early(name: str) -> Finding | None:
    """While `up` runs for less than two minutes nothing is late yet: its lock tells when it began."""
    from django.conf import settings

    from aihub_backup.cli import place

    lock = Path(settings.AIHUB_HOME) / "up.lock"
    if place.owner(lock.parent) is None or time.time() - lock.stat().st_mtime > STARTING.total_seconds():
        return None
    return Finding(name, "warn", "`aihub up` has just started", "look again in a minute")


def _jobs() -> Iterator[Finding]:
    from aihub_backup.core.models import Job

    states = {state: Job.objects.filter(state=state).count() for state in ("queued", "running", "committing")}
    oldest = Job.objects.filter(state="queued").order_by("created_at").first()
    stuck = oldest is not None and _age(oldest.created_at) > STUCK
    text = ", ".join(f"{count} {state}" for state, count in states.items())
    yield Finding("jobs", "warn" if stuck else "ok", text, "a job waits long: is a worker for its queue alive?")


def _own() -> Iterator[Finding]:
    """Can the console itself come back: its database, and the keys that open what it holds?"""
    from backups.models import OwnProtection, Repository
    from backups.services import own_database, protection, restorable, sealing

    row = OwnProtection.objects.select_related("source", "schedule", "repository").first()
    if row is None:
        lacking = Repository.objects.exists()
        text = "the console's own database is in no repository" if lacking else "no repository yet, nothing to lose"
        yield Finding("own database", "warn" if lacking else "ok", text, OWN_CURE)
        return
    resting = protection.resting(row)
    if resting or own_database.differs(row.source):
        text = resting or f"the console's database is not where its source “{row.source}” says"
        yield Finding("own protection", "warn", text, OWN_CURE)
    points = restorable.restorable_parts().filter(source=row.source).order_by("-data_as_of")
    point = points.values_list("data_as_of", flat=True).first()
    text = f"the newest copy of the console's database is {_hours(point)}" if point else "it was never backed up"
    late = point is None or _age(point) > OWN_LATE
    yield Finding("own database", "warn" if late else "ok", text, typed("backup", "run", row.source.name, "--wait"))
    sealed = sealing.are_sealed(row)
    text = f"sealed in “{row.repository}”, {_hours(row.keys_sealed_at)}" if sealed else "the keys in use are not sealed"
    yield Finding("own keys", "ok" if sealed else "warn", text, OWN_CURE)


def _kits() -> Iterator[Finding]:
    """A repository whose code nobody holds is lost together with the console."""
    from backups.models import Repository, RepositoryState

    names = Repository.objects.exclude(state=RepositoryState.CREATING).filter(kit_proven_at=None)
    unproven = list(names.order_by("name").values_list("name", flat=True))
    if unproven:
        text = f"nobody has proved the recovery kit of {', '.join(f'“{name}”' for name in unproven)}"
        yield Finding(
            "recovery kits", "warn", text, f"print it, keep it elsewhere: {typed('repository', 'prove', unproven[0])}"
        )
    elif Repository.objects.exists():
        yield Finding("recovery kits", "ok", "proved, each of them")


def _repositories() -> Iterator[Finding]:
    """A repository that is not written any more: its backups fail, and what is held there may be deleted elsewhere."""
    from backups.models import Repository, RepositoryState

    barred = Repository.objects.filter(state__in=(RepositoryState.TAMPERED, RepositoryState.TAKEN_OVER))
    rows = list(barred.select_related("storage").order_by("name"))
    for row in rows:
        told, cure = _BARRED[row.state]
        yield Finding("repositories", "fail", f"{told} “{row.name}”: nothing is backed up into it", cure(row))
    if not rows and Repository.objects.exists():
        yield Finding("repositories", "ok", "none was taken over, none was changed from outside")


def _schedules() -> Iterator[Finding]:
    """A schedule whose newest moment was missed, or cannot be begun: nothing else tells before the data is too old."""
    from backups.models import Schedule, SlotState

    rows = list(Schedule.objects.filter(enabled=True).order_by("name"))
    stuck = [(row, slot) for row in rows if (slot := row.slots.first()) and slot.state in _STUCK_SLOTS and slot.note]
    for row, slot in stuck:
        what = "was missed" if slot.state == SlotState.MISSED else "could not begin yet"
        text = f"“{row}”, due {slot.due_at:%Y-%m-%d %H:%M} UTC, {what}: {slot.note}"
        yield Finding("schedules", "warn", text, typed("schedule", "run", row.name))
    if rows and not stuck:
        yield Finding("schedules", "ok", f"{len(rows)} in service, none of them missed its last moment")


_STUCK_SLOTS = ("missed", "due")

_BARRED: dict[str, tuple[str, Callable[[Any], str]]] = {  # state → what happened to the repository, and the cure
    "taken_over": (
        "another console has taken over",
        lambda row: (
            "go on there, or take it back: "
            + typed("repository", "adopt", row.name, "--storage", row.storage.name, "--take-over")
        ),
    ),
    "tampered": (
        "somebody changed the history of",
        lambda row: (
            "look at it, then “Accept the changed history” on its page, or"
            f" POST /api/v1/backup/repositories/{row.pk}/accept-history"
        ),
    ),
}

_LOOKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "cache": _cache, "workers": _workers, "scheduler": _scheduler, "jobs": _jobs, "own database": _own,
    "recovery kits": _kits, "repositories": _repositories, "schedules": _schedules,
}  # fmt: skip


def _hours(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    minutes = _age(moment).total_seconds() / 60
    return f"{minutes:.0f} minutes old" if minutes < 120 else f"{minutes / 60:.0f} hours old"


def _age(moment: datetime) -> timedelta:
    from django.utils import timezone

    return timezone.now() - moment


def _ago(moment: datetime | None) -> str:
    return "never" if moment is None else f"{_age(moment).total_seconds():.0f} s ago"
