"""Giving back what an entry says about itself: owner, attributes, mode, ACLs, flags, times; in this order.

The owner comes before the mode and before capabilities, because a change of owner clears them; attributes come before
the mode, because without privileges they cannot be set on a file that its owner may not write.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass

from backups.engine import kernel
from backups.engine.disk import KEPT_FLAGS, Report, reason
from backups.engine.entry import Entry, ItemError, Kind

_EARLY_FLAGS = 0x0080_0004  # no copy-on-write, compressed: only an empty file takes them
_SET_IDS = 0o6000
_ACL = b"system."  # they are another view of the mode


@dataclass(frozen=True, slots=True)
class Rights:
    """What may be given back.

    owner       owners and groups; otherwise everything belongs to whoever restores
    privileges  setuid and setgid bits of files, file capabilities, trusted.* and security.* attributes, devices, and
                the append-only and immutable flags
    by_name     look owners up by name here; a name nobody has falls back to the number. For another host with the same
                accounts under other numbers; wrong for the files of containers, whose names are their own
    selinux     security.selinux, which is stored but fits only a host with the same policy
    """

    owner: bool
    privileges: bool
    by_name: bool = False
    selinux: bool = False


class Attributes:
    """Applies entries' attributes to open handles; what cannot be given back is reported, the rest is."""

    def __init__(self, rights: Rights, report: Report) -> None:
        self._rights, self._report = rights, report
        self._uids: dict[str, int] = {}
        self._gids: dict[str, int] = {}

    def begin(self, fd: int, entry: Entry) -> None:
        """The flags that only an empty file takes."""
        if entry.flags & _EARLY_FLAGS:
            self._try(entry, "flags", lambda: _add_flags(fd, entry.flags & _EARLY_FLAGS))

    def give_back(self, where: int | bytes, entry: Entry) -> None:
        """where: a descriptor open for reading or writing; or, for what cannot be opened, its /proc/self/fd path."""
        if self._is_plain(entry) and self._at_once(where, entry):
            return
        owned = self._owner(where, entry)
        for name, value in entry.xattrs or ():
            if not name.startswith(_ACL):
                self._xattr(where, entry, name, value)
        if entry.kind is not Kind.SYMLINK:
            self._mode(where, entry, owned)
        for name, value in entry.xattrs or ():
            if name.startswith(_ACL):
                self._xattr(where, entry, name, value)
        if entry.flags & KEPT_FLAGS and isinstance(where, int):
            self._flags(where, entry)
        else:
            self._times(where, entry)

    def _is_plain(self, entry: Entry) -> bool:
        """Whether it has an owner, a mode and times only, as nearly all have."""
        plain = not (entry.xattrs or entry.flags or entry.mode & _SET_IDS or self._rights.by_name)
        return plain and entry.kind is not Kind.SYMLINK

    def _at_once(self, where: int | bytes, entry: Entry) -> bool:
        """The same calls without the telling; False: one of them failed, so all are to be made again, and told."""
        try:
            if self._rights.owner:
                os.chown(where, entry.uid, entry.gid)
            os.chmod(where, entry.mode)
            os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns))
        except (OSError, OverflowError):
            return False
        return True

    def _owner(self, where: int | bytes, entry: Entry) -> bool:
        """Whether it belongs to its owner now."""
        rights = self._rights
        if not rights.owner:
            return False
        uid, gid = self._ids(entry) if rights.by_name else (entry.uid, entry.gid)
        return self._try(entry, "owner", lambda: os.chown(where, uid, gid))

    def _ids(self, entry: Entry) -> tuple[int, int]:
        uid = _cached(self._uids, entry.user, entry.uid, lambda name: pwd.getpwnam(name).pw_uid)
        return uid, _cached(self._gids, entry.group, entry.gid, lambda name: grp.getgrnam(name).gr_gid)

    def _mode(self, where: int | bytes, entry: Entry, owned: bool) -> None:
        """A program must never run as somebody it did not belong to; directories only hand their group down."""
        mode = entry.mode
        if mode & _SET_IDS and entry.kind is not Kind.DIRECTORY and not (self._rights.privileges and owned):
            mode &= ~_SET_IDS
            self._tell(entry, "Its setuid and setgid bits were not restored: that needs privileges and its owner.")
        self._try(entry, "mode", lambda: os.chmod(where, mode))

    def _xattr(self, where: int | bytes, entry: Entry, name: bytes, value: bytes) -> None:
        if name == b"security.selinux":
            if not self._rights.selinux:
                return
        elif name.startswith((b"security.", b"trusted.")) and not self._rights.privileges:
            self._tell(entry, f"Its attribute {os.fsdecode(name)} was not restored: that needs privileges.")
            return
        self._try(entry, f"attribute {os.fsdecode(name)}", lambda: os.setxattr(where, name, value))

    def _flags(self, fd: int, entry: Entry) -> None:
        """Locks come last of all: they forbid to set the times."""
        locks = entry.flags & kernel.LOCKS
        self._try(entry, "flags", lambda: _add_flags(fd, entry.flags & KEPT_FLAGS & ~kernel.LOCKS & ~_EARLY_FLAGS))
        self._times(fd, entry)
        if locks and not self._rights.privileges:
            self._tell(entry, "Its append-only or immutable flag was not restored: that needs privileges.")
        elif locks:
            self._try(entry, "flags", lambda: _add_flags(fd, locks))

    def _times(self, where: int | bytes, entry: Entry) -> None:
        self._try(entry, "time", lambda: os.utime(where, ns=(entry.mtime_ns, entry.mtime_ns)))

    def _try(self, entry: Entry, what: str, deed: Callable[[], None]) -> bool:
        try:
            deed()
        except (OSError, OverflowError) as error:
            why = reason(error) if isinstance(error, OSError) else "this system cannot express it"
            self._tell(entry, f"Its {what} could not be restored: {why}.")
            return False
        return True

    def _tell(self, entry: Entry, message: str) -> None:
        self._report(ItemError(entry.path, "restore", message, "warning"))


def _add_flags(fd: int, wanted: int) -> None:
    present = kernel.get_flags(fd)
    if wanted & ~present:
        kernel.set_flags(fd, present | wanted)


def _cached(known: dict[str, int], name: str, number: int, ask: Callable[[str], int]) -> int:
    """The number a name has here; the stored number where nobody has the name."""
    if not name:
        return number
    if name not in known:
        try:
            known[name] = ask(name)
        except KeyError:
            known[name] = -1
    return known[name] if known[name] >= 0 else number
