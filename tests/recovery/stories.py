"""Sentences the stories are told in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from aihub_backup.core import jobs
from aihub_backup.core.audit import Actor
from backups.models import Backup, Source
from backups.services import backups
from recovery.models import Recovery
from recovery.services import recoveries
from recovery.services.recoveries import Target

Tree = dict[str, tuple[Any, ...]]


def backed_up(by: Actor, *sources: Source, kind: str = "full") -> Backup:
    """A finished backup of the sources."""
    backup = backups.request(kind, by=by, sources=list(sources))
    for part in backup.parts.all():
        assert part.job is not None
        jobs.run(part.job.pk)
    found = backups.get(backup.pk)
    assert found.state in ("completed", "completed_with_warnings"), [part.error for part in found.parts.all()]
    return found


def asked(by: Actor, backup: Backup | None, target: Path, kind: str = "full", **more: Any) -> Recovery:
    """A recovery that waits for a worker."""
    return recoveries.request(kind, by=by, backup=backup, target=Target(path=str(target)), reason="INC-1", **more)


def done(recovery: Recovery) -> Recovery:
    """What became of it after a worker took it."""
    assert recovery.job is not None
    jobs.run(recovery.job.pk)
    return recoveries.get(recovery.pk)


def tree(root: Path) -> Tree:
    """Everything below a directory: kinds, modes, times, contents."""
    found: Tree = {}
    for folder, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = Path(folder, name)
            found[str(path.relative_to(root))] = _of(path)
    return found


def _of(path: Path) -> tuple[Any, ...]:
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return ("link", os.readlink(path))
    if stat.S_ISDIR(facts.st_mode):
        return ("directory", facts.st_mode, facts.st_mtime_ns)
    return ("file", facts.st_mode, facts.st_mtime_ns, path.read_bytes())


def names(root: Path) -> set[str]:
    """The files below a directory."""
    return {name for name, facts in tree(root).items() if facts[0] == "file"}
