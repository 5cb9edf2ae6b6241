"""scan(): what there is under some roots, as entries in depth-first byte order.

Entries carry absolute paths without the leading slash. The directories above the roots are entries too, so that a
restore brings back their owners and modes. Symbolic links are never followed: those above a root are resolved before
the scan, and a root that is itself a link is stored as a link and reported, as restic and Borg do. Sockets are
skipped and reported. Pseudo file systems (sysfs, cgroup …) are entered only where a root says so, and proc never.

Memory is the names of the directories from the root down to the present one; nothing is kept about what has passed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from backups.engine import kernel
from backups.engine.disk import LONGEST_PATH, DiskTree, Owners, Report, printable, reason
from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import SourceError
from backups.engine.patterns import Excludes, Pattern
from backups.engine.reserved import NOTHING, Reserved, ways

RACY_NS = 2_000_000_000  # what changed this shortly before the scan may change again within the same clock tick
CACHE_TAG, CACHE_SIGNATURE = b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55"
PSEUDO = frozenset(
    ("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl",
     "fuse.gvfsd-fuse", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs",
     "sysfs", "tracefs")
)  # fmt: skip
PROC = "It is on a proc file system, which shows processes and the secrets they were given, and holds no data."

_FORMAT = 0o170000  # the bits of a mode that S_IFMT() gives
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the tree below the roots is left out.

    excludes         patterns; a root is never left out, for it was named
    one_file_system  do not go into mounts; the mount point itself is kept, empty
    caches           skip what lies beside a valid CACHEDIR.TAG; the directory and the tag are kept
    reserved         left out and reported, unless a pattern has left it out already
    """

    excludes: Excludes = field(default_factory=Excludes)
    one_file_system: bool = False
    caches: bool = False
    reserved: Reserved = NOTHING


def scan(
    roots: Sequence[bytes],
    *,
    excludes: Iterable[Pattern] = (),
    one_file_system: bool = False,
    exclude_caches: bool = False,
    reserved: Reserved = NOTHING,
    report: Report,
    tree: bytes = b"/",
) -> Iterator[Entry]:
    """The entries of all roots and of the directories above them; overlapping roots come once.

    roots are absolute; tree is the directory that stands for "/". Raises SourceError at once for a root that is
    missing, unreadable, reserved or on a proc file system, InvalidPattern for a bad pattern; everything else goes to
    report.
    """
    scope = Scope(Excludes(excludes), one_file_system, exclude_caches, reserved)
    return _Walk(tree, _plan(examine(roots, report, tree, reserved)), scope, report).entries()


def examine(roots: Sequence[bytes], report: Report, tree: bytes = b"/", reserved: Reserved = NOTHING) -> list[bytes]:
    """resolve() the roots and look at each: SourceError when one is missing, unreadable, reserved or on proc."""
    disk, proc = DiskTree(tree), kernel.proc_devices()
    try:
        return [_checked(disk, root, report, reserved, proc) for root in resolve(roots, tree)]
    finally:
        disk.close()


def resolve(roots: Sequence[bytes], tree: bytes = b"/") -> list[bytes]:
    """The roots as entry paths, sorted: absolute, links above them resolved, no leading slash."""
    if not roots:
        raise SourceError("There is nothing to read: no path is named.")
    top = os.path.realpath(tree).rstrip(b"/")
    return sorted({_resolved(root, top) for root in roots})


def _resolved(root: bytes, top: bytes) -> bytes:
    if not root.startswith(b"/") or b"\0" in root:
        raise SourceError(f"{printable(root) or 'An empty path'} cannot be read: name it with its absolute path.")
    body = root.rstrip(b"/")
    if len(top) + len(body) >= kernel.PATH_MAX:  # too long for realpath(); a link in it is refused when it is opened
        return body.strip(b"/")
    parent, _, name = body.rpartition(b"/")
    whole = name in (b"", b".", b"..")
    found = _followed(top + (body if whole else parent) + b"/")
    found = found if whole else found.rstrip(b"/") + b"/" + name
    if not (found + b"/").startswith(top + b"/"):
        raise SourceError(f"{printable(root)} leads out of {printable(top)}.")
    return found[len(top) :].strip(b"/")


def _followed(path: bytes) -> bytes:
    """The path with its links resolved; SourceError when one of them keeps from us where it leads (/proc/1/root)."""
    try:
        return os.path.realpath(path)
    except OSError as error:
        where = printable(os.fsencode(error.filename or path))
        raise SourceError(f"{where} cannot be looked into ({error.strerror}). Name what it leads to.") from None


def _checked(disk: DiskTree, root: bytes, report: Report, reserved: Reserved, proc: frozenset[int]) -> bytes:
    """The root again, or SourceError when there is nothing to read."""
    try:
        st = disk.lstat(root)
        if any(disk.lstat(way).st_dev in proc for way in ways(root)):
            raise SourceError(f"/{printable(root)} is not read. {PROC} Name another path.")
        if reserved.reaches(disk, root):
            raise SourceError(f"/{printable(root)} is not read. {reserved.why} Name another path.")
        if stat.S_ISDIR(st.st_mode):
            os.close(disk.open_listing(root))
        elif stat.S_ISREG(st.st_mode):
            os.close(disk.open_file(root)[0])
        elif stat.S_ISLNK(st.st_mode):
            report(ItemError(root, "scan", _only_a_link(disk.readlink(root)), "warning"))
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"/{printable(root)} does not exist. Check the path, or mount what belongs there.") from None
    except PermissionError:
        raise SourceError(
            f"/{printable(root)} cannot be read: permission denied. Let the worker's account read it."
        ) from None
    except OSError as error:
        raise SourceError(f"/{printable(root)} cannot be read: {reason(error)}.") from None
    return root


def _only_a_link(target: bytes) -> str:
    return f"It is a symbolic link; only the link is kept. To keep what it points to, name {printable(target)} itself."


# the plan: the roots as a tree of names


@dataclass(slots=True)
class _Plan:
    """A directory on the way to a root (root False) or a root (True); below: names that lead to further roots."""

    root: bool = False
    below: dict[bytes, _Plan] = field(default_factory=dict)


def _plan(roots: Iterable[bytes]) -> _Plan:
    top = _Plan()
    for root in roots:
        node = top
        for name in root.split(b"/") if root else ():
            node = node.below.setdefault(name, _Plan())
        node.root = True
    return top


# the walk


@dataclass(slots=True)
class _Frame:
    """A directory whose names have not all passed."""

    path: bytes
    device: int
    names: list[bytes]  # in reverse order, taken from the end: their memory is given back as the walk proceeds
    plan: _Plan | None
    whole: bool  # everything in it is wanted; else only what leads to a root


class _Walk:
    def __init__(self, tree: bytes, plan: _Plan, scope: Scope, report: Report) -> None:
        self._tree, self._plan, self._scope, self._report = tree, plan, scope, report
        self._racy_from = time.time_ns() - RACY_NS
        self._owners, self._mounts, self._proc = Owners(), kernel.file_systems(), kernel.proc_devices()
        self._frames: list[_Frame] = []

    def entries(self) -> Iterator[Entry]:
        self._disk = DiskTree(self._tree)
        try:
            st = self._disk.lstat(b"")
            yield self._entry(b"", st, Kind.DIRECTORY)
            self._enter(b"", st.st_dev, self._plan, self._plan.root, self._plan.root)
            while self._frames:
                if self._frames[-1].names:
                    yield from self._siblings(self._frames[-1])
                else:
                    self._frames.pop()
        finally:
            self._disk.close()

    def _siblings(self, frame: _Frame) -> Iterator[Entry]:
        """The names of one directory, up to and including the next directory to go into."""
        try:
            fd = self._disk.open_directory(frame.path)
        except OSError as error:
            self._tell(frame.path, f"It cannot be read to its end: {reason(error)}.", "error")
            frame.names.clear()
            return
        names, device, choosy = frame.names, frame.device, self._is_choosy(frame)
        prefix = frame.path + b"/" if frame.path else b""
        while names:
            name = names.pop()
            path = prefix + name
            try:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                self._lost(path, error)
                continue
            kind = _KINDS.get(st.st_mode & _FORMAT)
            below, wanted = None, True
            if choosy or st.st_dev != device:
                below = frame.plan.below.get(name) if frame.plan else None
                whole = self._choice(frame, path, st, kind, below)
                if whole is None:
                    continue
                wanted = whole
            entry = self._entry_of(path, st, kind)
            if entry is not None:
                yield entry
            if kind is Kind.DIRECTORY:
                self._descend(frame, path, st.st_dev, below, wanted)
                return  # also when there was nothing to go into: fd may have been closed to make room

    def _is_choosy(self, frame: _Frame) -> bool:
        """Whether each name must be judged; else whatever is on the directory's own device is wanted."""
        ruled = bool(self._scope.excludes) or bool(self._scope.reserved)
        return ruled or frame.plan is not None or not frame.whole or frame.device in self._proc

    def _choice(
        self, frame: _Frame, path: bytes, st: os.stat_result, kind: Kind | None, below: _Plan | None
    ) -> bool | None:
        """Whether all of it is wanted, or only what leads to a root; None: nothing."""
        excludes, reserved = self._scope.excludes, self._scope.reserved
        wanted = below.root if below else False
        if not wanted:
            wanted = frame.whole and not (excludes and excludes.match(path, kind is Kind.DIRECTORY))
            if not wanted and below is None:
                return None
        if reserved and reserved.holds(path, st):
            self._tell(path, f"It is left out. {reserved.why}", "warning")
            return None
        if st.st_dev in self._proc and (below or kind is not Kind.DIRECTORY):  # a mount nobody named stays, empty
            self._tell(path, f"It is left out. {PROC}", "warning")
            return None
        return wanted

    def _descend(self, frame: _Frame, path: bytes, device: int, below: _Plan | None, whole: bool) -> None:
        """Put the directory's frame on top, unless nothing in it is wanted."""
        named = below is not None and below.root
        if device in self._proc:
            return
        if device != frame.device and not named:
            whole = whole and not self._scope.one_file_system and self._mounts.get(device) not in PSEUDO
        if whole or below is not None:
            self._enter(path, device, below, whole, named)

    def _enter(self, path: bytes, device: int, plan: _Plan | None, whole: bool, named: bool) -> None:
        if len(path) > LONGEST_PATH:
            self._tell(path, f"What lies below is left out: its path is longer than {LONGEST_PATH} bytes.", "error")
            return
        try:
            names = self._names(path, plan, whole, named)
        except OSError as error:
            self._lost(path, error)
            return
        names.sort(reverse=True)
        self._frames.append(_Frame(path, device, names, plan, whole))

    def _names(self, path: bytes, plan: _Plan | None, whole: bool, named: bool) -> list[bytes]:
        on_the_way = list(plan.below) if plan else []
        if not whole:
            return on_the_way
        names = self._disk.names(path)
        if self._scope.caches and not named and CACHE_TAG in names and self._is_cache(path):
            return list({CACHE_TAG, *on_the_way})
        return names

    def _is_cache(self, path: bytes) -> bool:
        try:
            with self._disk.opened(path + b"/" + CACHE_TAG if path else CACHE_TAG) as fd:
                return os.read(fd, len(CACHE_SIGNATURE)) == CACHE_SIGNATURE
        except OSError:
            return False

    # entries

    def _entry_of(self, path: bytes, st: os.stat_result, kind: Kind | None) -> Entry | None:
        if kind is None:
            self._tell(path, "It is a socket, which holds no data; it is skipped.", "warning")
            return None
        entry = self._entry(path, st, kind)
        if kind is Kind.SYMLINK:
            try:
                entry.target = self._disk.readlink(path)
            except OSError as error:
                self._lost(path, error)
                return None
        return entry

    def _entry(self, path: bytes, st: os.stat_result, kind: Kind) -> Entry:
        owners, ctime, uid, gid = self._owners, st.st_ctime_ns, st.st_uid, st.st_gid
        entry = Entry(
            path, kind, st.st_mode & 0o7777, uid, gid, owners.users[uid], owners.groups[gid],
            st.st_mtime_ns, ctime, st.st_dev, st.st_ino, st.st_nlink, st.st_size if kind is Kind.FILE else 0,
        )  # fmt: skip
        if ctime >= self._racy_from:
            entry.notes = Notes.UNSURE
        if kind is Kind.CHARACTER or kind is Kind.BLOCK:
            entry.rdev = st.st_rdev
        return entry

    def _lost(self, path: bytes, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            self._tell(path, "It vanished while the directory was being read.", "warning")
        else:
            self._tell(path, f"It cannot be read: {reason(error)}.", "error")

    def _tell(self, path: bytes, message: str, severity: str) -> None:
        self._report(ItemError(path, "scan", message, severity))
