"""The files of this host that open the console's secrets, and what a run is told of them.

Judged by path where somebody configures a source, and once more by identity (device, inode) where it is read: a hard
link deep in a tree, a bind mount, or what was put in place of a directory since, shows itself only then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from backups.engine.patterns import escape
from backups.models import Source
from backups.services import own_database, running

WHY = "It belongs to this console, which backs itself up."


@dataclass(frozen=True)
class Place:
    """A file, or a directory with all that is in it; its path with links resolved."""

    path: Path
    directory: bool

    @property
    def pattern(self) -> str:
        """What leaves out exactly this."""
        return os.fsdecode(escape(os.fsencode(self.path)))


def places() -> list[Place]:
    """The keys, the private copies that runs lay down, the database, the recovery kit and the files of variables.

    Whether they are there now or not: a journal comes and goes. A key that is a link is guarded where it leads.
    """
    directories = [_resolved(path) for path in (_keys(), running.work())]
    own = [*own_database.files(), *_kits(), *_variables(), *_inside(_keys())]
    files = dict.fromkeys(map(_resolved, own))
    loose = [path for path in files if not any(path.is_relative_to(one) for one in directories)]
    return [*(Place(path, True) for path in directories), *(Place(path, False) for path in loose)]


def reserved(source: Source) -> dict[str, Any]:
    """For the runner: what a run of this source leaves alone. Nothing where it is the console's own source."""
    if source.holds_console:
        return {}
    paths = [place.path for place in places()]
    identities = [list(one) for one in _identities([*paths, *_inside(_keys())])]
    return {"paths": [os.fsencode(path).strip(b"/") for path in paths], "identities": identities, "why": WHY}


def _keys() -> Path:
    return Path(settings.AIHUB_APP_KEYS_PATH).parent


def _variables() -> list[Path]:
    return [path for path in settings.AIHUB_VARIABLE_FILES if path.is_file()]


def _kits() -> list[Path]:
    """Those written where nobody named a file; the later ones carry their repository's name."""
    first = Path(settings.AIHUB_KIT_PATH)
    return [first, *first.parent.glob(f"{first.stem}-*{first.suffix}")]


def _inside(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:  # not made, or another account's: then nobody of ours reads it either
        return []


def _identities(paths: Iterable[Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            st = path.stat()
        except OSError:
            continue
        yield st.st_dev, st.st_ino


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))
