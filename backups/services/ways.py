"""Where the paths of a source lead on this host: through no link that is shut, and to no process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from django.utils.translation import gettext as _

from aihub_backup.core.failures import Invalid, Refused
from backups.engine import kernel
from backups.engine.disk import printable
from backups.models import Source
from backups.services import loops
from backups.strategies.base import followed


def must_be_open(source: Source) -> None:
    """Invalid, naming the option, when a link on the way to one of its paths cannot be looked into."""
    for root in loops.roots(source):
        if error := _shut(root):
            where = printable(os.fsencode(error.filename or root))
            told = _("%(path)s cannot be looked into (%(why)s). Name what it leads to, or another path.")
            words = told % {"path": where, "why": error.strerror}
            raise Invalid(words, errors={_option(source, root): words})


def must_not_lead_into_processes(source: Source) -> None:
    """Refused when one of its paths is on a proc file system, or leads through one: what the processes of this console
    were given in their environment, the application key among it, could be read there."""
    proc = kernel.proc_devices()
    if found := [root for root in loops.roots(source) if any(_is_on(way, proc) for way in _ways(root))]:
        told = _(
            "The source “%(source)s” leads into a proc file system (%(found)s), where the secrets of running processes"
            " can be read, those of this console too, and which holds no data. Name other paths."
        )
        names = ", ".join(printable(os.fsencode(root)) for root in found)
        raise Refused(told % {"source": source, "found": names}, code="source-not-ready")


def _shut(root: Path) -> OSError | None:
    """Why a link cannot be followed. What is not there, or is in a directory that is shut, is told by the run."""
    try:
        os.path.realpath(root)
        os.lstat(root)
    except OSError as error:
        return error if _is_link(error.filename) or error.errno == errno.ELOOP else None
    return None


def _is_link(path: str | None) -> bool:
    return bool(path) and os.path.islink(str(path))


def _ways(root: Path) -> Iterator[Path]:
    """The path and all above it, as it is written and as its links resolve."""
    for path in (root, followed(root)):
        yield from (path, *path.parents)


def _is_on(path: Path, devices: frozenset[int]) -> bool:
    try:
        return os.lstat(path).st_dev in devices
    except OSError:
        return False


def _option(source: Source, root: Path) -> str:
    """The name of the option in which the path stands."""
    values = source.options.items()
    return next((name for name, value in values if value == str(root) or str(root) in _listed(value)), "")


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else []
