"""Where a recovery may write: a new place on a host's disk, never over anything that is there.

Names are judged twice: when the recovery is asked for, and again on the host that carries it out, just before the
first byte, because symbolic links and directories may have changed meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext as _

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Node
from backups.models import Source, Storage
from backups.services.naming import named

# Nothing below these is anybody's data, or the system obeys what stands there (/var/spool holds crontabs).
SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/snap", "/sys",
    "/usr", "/var/cache", "/var/lib/apt", "/var/lib/cloud", "/var/lib/containerd", "/var/lib/docker", "/var/lib/dpkg",
    "/var/lib/kubelet", "/var/lib/pam", "/var/lib/polkit-1", "/var/lib/private", "/var/lib/snapd", "/var/lib/sudo",
    "/var/lib/systemd", "/var/run", "/var/snap", "/var/spool",
)  # fmt: skip
OURS = (str(settings.BASE_DIR), sys.prefix)  # the program itself: what stands there is run with our rights
HOMES = ("/home", "/root")
# These hold data, but are themselves nobody's to fill.
COMMON = ("/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/lib", "/var/tmp")  # noqa: S108
LONGEST = 4000  # bytes; the stage's name and the files below must still be reachable


def normal(path: str) -> str:
    """The path as we keep it, without doubled slashes; Refused when it is not a plain absolute path."""
    if not path.startswith("/"):
        raise refused(
            path, _("The target %(path)s must be absolute: it is a path on the host that carries out the recovery.")
        )
    names = [name for name in path.split("/") if name]
    if any(name in (".", "..") for name in names):
        raise refused(path, _("The target %(path)s must not contain “.” or “..”."))
    if len(os.fsencode(path)) > LONGEST or any(len(os.fsencode(name)) > 255 for name in names):
        raise refused(path, _("The target %(path)s is longer than file systems allow."))
    return "/" + "/".join(names)


def judge(path: str, node: Node | None, *, by: Actor) -> None:
    """Refused with the reason and the cure unless the (normal) path is a place that may be written to.

    Of a node's disk only what is known by name can be judged elsewhere; `judge_here` completes it on the host. What is
    in the way is named to `by` only where they may see it.
    """
    _judge_name(path)
    _judge_roots(path)
    _judge_neighbours(path, node, by)


def judge_here(path: str, node: Node | None, *, by: Actor) -> str:
    """The same on the host itself, with symbolic links followed and the place looked at.

    Returns where the path really leads: whoever writes there follows no further link.
    """
    judge(path, node, by=by)
    true = real(path)
    if true != path:
        judge(true, node, by=by)
    if os.path.lexists(path):
        _judge_existing(path)
    return true


def real(path: str) -> str:
    """Where the path really leads, as far as it exists."""
    return os.path.realpath(path)


def inside(path: str, place: str) -> bool:
    """Is the path the place, or below it?"""
    return path == place or path.startswith(place.rstrip("/") + "/")


def overlap(path: str, place: str) -> bool:
    """Is one of them the other, or below it?"""
    return inside(path, place) or inside(place, path)


def refused(path: str, told: str, **facts: object) -> Refused:
    """What to say about a target: a sentence with a place for the path, and for the facts."""
    words = told % {"path": path[:200], **facts}
    return Refused(words, code="target-incompatible", facts={"pointer": "/target/path"})


def _judge_name(path: str) -> None:
    if path in COMMON:
        raise refused(path, _("The target %(path)s is a directory of the system; choose a new directory below it."))
    system = next((place for place in SYSTEM if inside(path, place)), None)
    if system:
        told = _("The target %(path)s lies in %(system)s, which belongs to the operating system; choose another place.")
        raise refused(path, told, system=system)
    if any(overlap(path, place) for place in OURS):
        raise refused(path, _("The target %(path)s overlaps with the console's own program; choose another place."))
    if "/.aihub-" in path:
        told = _(
            "The target %(path)s has a name that begins with “.aihub-”, as unfinished work does; choose another one."
        )
        raise refused(path, told)
    if any(inside(path, home) for home in HOMES) and "/." in path:
        told = _(
            "The target %(path)s is hidden in a home directory, where programs obey what they find; choose another"
            " place."
        )
        raise refused(path, told)


def _judge_roots(path: str) -> None:
    roots: list[str] = settings.AIHUB_RECOVERY_ROOTS
    if roots and not any(inside(path, root) and path != root.rstrip("/") for root in roots):
        told = _("The target %(path)s is outside of the places allowed for recoveries: %(places)s.")
        raise refused(path, told, places=", ".join(roots))


def _judge_neighbours(path: str, node: Node | None, by: Actor) -> None:
    """Not into the console's own files, a repository, or a source that is alive."""
    if overlap(path, str(settings.AIHUB_HOME)):
        raise refused(path, _("The target %(path)s overlaps with the console's own directory; choose another place."))
    for storage in Storage.objects.filter(kind="local", node=node):
        if any(overlap(path, place) for place in paths_in(storage.options)):
            told = _("The target %(path)s overlaps with %(what)s; choose another place.")
            raise refused(path, told, what=named(storage, by=by))
    for source in Source.objects.filter(Q(node=node) | Q(node=None), archived_at=None):
        if any(_inside_living(path, place) for place in paths_in(source.options)):
            told = _("The target %(path)s lies in %(what)s itself; choose a new place outside of it.")
            raise refused(path, told, what=named(source, by=by))


def _inside_living(path: str, place: str) -> bool:
    """A source that was lost may come back to where it was; one that is there may not be touched."""
    return inside(path, place) and os.path.lexists(place)


def paths_in(options: object) -> Iterator[str]:
    """Every absolute path among a plug-in's options, as written and as it really is."""
    if isinstance(options, dict):
        options = options.values()
    if isinstance(options, str):
        if options.startswith("/"):
            yield from {os.path.normpath(options), real(options)}
    elif isinstance(options, Iterable):
        for value in options:
            yield from paths_in(value)


def _judge_existing(path: str) -> None:
    if Path(path).is_symlink() or not os.path.isdir(path):
        raise refused(path, _("The target %(path)s exists and is not a directory; choose a new place."))
    if os.path.ismount(path):
        told = _("The target %(path)s is a mount point, which cannot be swapped; choose a new directory inside of it.")
        raise refused(path, told)
    try:
        occupied = bool(os.listdir(path))
    except OSError as error:
        told = _("The target %(path)s cannot be looked into (%(why)s).")
        raise refused(path, told, why=error.strerror) from None
    if occupied:
        told = _("The target %(path)s is not empty; choose a directory that is empty or does not exist yet.")
        raise refused(path, told)
