"""Objects as files below one directory of a mounted file system (disk, NFS, SMB).

The only order that survives a power cut, and the one put() keeps: write a hidden temporary file in the same
folder, fsync it, rename it, fsync the folder. What the kernel accepted without these is gone after the cut.

Nothing is preallocated: on local disks write() reports a full disk as early, and no gain was measured.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex

from backups.engine import store
from backups.engine.disk import printable
from backups.engine.errors import ForeignRepository, ObjectDamaged, ObjectMissing, StoreAbsent, StoreRefused
from backups.engine.store import Capabilities, Data, ObjectInfo
from backups.engine.stores import posix

# Left by create(). An unmounted mount point is an empty directory without it, and is never written to.
MARKER = ".aihub-store"

_COMPONENT = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}\Z")


class LocalStore:
    """Objects as read-only files below a directory; safe for threads, processes and hosts at once.

    Links inside the directory are not followed: a link in place of an object is no object, a link in place
    of a folder is refused. The directory itself may be reached through links.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._settled: set[str] = set()  # folders whose own entry is known to be on the disk
        self._doubtful: set[str] = set()  # objects whose folder could not be synced: to be written anew

    # ---------------------------------------------------------------- the owner's verbs

    def create(self) -> None:
        """Make the directory, with parents, and mark it as ours.

        ForeignRepository when there is something else in it; StoreRefused when the path is a file.
        """
        with self._told("creating it"):
            self._make_root()
            with self._root(new=True) as root:
                if not self._is_ours(root):
                    self._mark(root)

    def sweep(self, older_than_seconds: float) -> int:
        oldest = time.time() - older_than_seconds
        with self._told("sweeping it"):
            return sum(self._sweep_folder(folder, oldest) for folder in self._folders(""))

    # ---------------------------------------------------------------- the port

    def put(self, name: str, data: Data) -> None:
        folder, _, leaf = store.validate_name(name).rpartition("/")
        with self._told(f"writing {name}"), self._opened(folder, make=True) as parent:
            same = posix.holds(parent, leaf, data)
            if same is False:
                store.refuse_overwrite(name, data, self.describe())
            if same and name not in self._doubtful:
                os.fsync(parent)  # the writer who was first may not have come to that yet
            else:
                self._publish(parent, name, data, replace=same is not None)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self._told(f"reading {name}"), self._object(name) as file:
            try:
                return posix.read(file, start, store.span(name, os.fstat(file).st_size, start, length), name)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._must_answer()
                raise ObjectDamaged(name, "the disk cannot read it") from None

    def stat(self, name: str) -> ObjectInfo:
        with self._told(f"looking at {name}"), self._object(name) as file:
            return ObjectInfo(name, os.fstat(file).st_size)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        store.validate_prefix(prefix)
        return self._walk(prefix.rpartition("/")[0], prefix)

    def delete(self, name: str) -> None:
        folder, _, leaf = store.validate_name(name).rpartition("/")
        absent = suppress(FileNotFoundError, IsADirectoryError)
        with self._told(f"deleting {name}"), absent, self._opened(folder) as parent:
            os.unlink(leaf, dir_fd=parent)
            os.fsync(parent)

    def set_aside(self, name: str, aside: str) -> None:
        """A second name of the same file: no byte is read, so that sectors that are lost are no hindrance."""
        folder, _, leaf = store.validate_name(name).rpartition("/")
        beside, _, kept = store.validate_name(aside).rpartition("/")
        told, here = self._told(f"setting {name} aside"), self._object(name)
        with told, here as file, self._opened(folder) as parent, self._opened(beside, make=True) as other:
            if posix.lstat(kept, other) is None and not posix.linked(parent, leaf, other, kept):
                self.put(aside, posix.read(file, 0, os.fstat(file).st_size, name))
            os.fsync(other)

    def capabilities(self) -> Capabilities:
        with self._told("looking at it"), self._root() as root:
            facts = os.statvfs(root)
        return Capabilities(
            writable=not facts.f_flag & os.ST_RDONLY,
            free_bytes=facts.f_bavail * facts.f_frsize,
            free_objects=facts.f_favail if facts.f_files else None,  # btrfs and others count no inodes
        )

    def fresh(self) -> LocalStore:
        return LocalStore(self._path)

    def describe(self) -> str:
        return f"the directory {_shown(self._path)}"

    # ---------------------------------------------------------------- the root

    def _must_answer(self) -> None:
        """A lost sector is damage to one object. A disk that is gone, or a server that does not answer, is none: then
        the file system says nothing about itself either."""
        with self._root() as root:
            os.fstatvfs(root)
            os.listdir(root)

    @contextmanager
    def _root(self, *, new: bool = False) -> Iterator[int]:
        """The root, opened anew each time: a disk that was unmounted or mounted meanwhile is noticed.

        An empty mount point is no store without objects: whoever took it for one would tell of damage.
        """
        try:
            root = os.open(self._path, posix.FOLDER)
        except FileNotFoundError:
            raise self._unmounted() from None
        except NotADirectoryError:
            raise self._in_the_way(self._path) from None
        try:
            if not (new or self._is_ours(root) or self._holds_objects(root)):
                raise self._unmounted()
            yield root
        finally:
            os.close(root)

    def _holds_objects(self, root: int) -> bool:
        """A copy made by other means may lack the marker, and a damaged one the config."""
        return any(posix.lstat(name, root) for name in ("keys", "log", "packs"))

    def _is_ours(self, root: int) -> bool:
        return any(posix.lstat(name, root) for name in (MARKER, "config"))

    def _make_root(self) -> None:
        missing, path = [], self._path
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        if missing and not os.path.isdir(path):
            raise self._in_the_way(path)
        for path in reversed(missing):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700 if path == self._path else 0o755)
            posix.fsync_path(os.path.dirname(path))

    def _mark(self, root: int) -> None:
        strangers = sorted(set(os.listdir(root)) - {"lost+found"})
        if strangers:
            raise ForeignRepository(
                f"There are other files in {self.describe()}, as “{_shown(strangers[0])}”: "
                "choose an empty or a new directory."
            )
        os.close(os.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=root))
        os.fsync(root)

    def _unmounted(self) -> StoreAbsent:
        return StoreAbsent(
            f"There is no store of ours in {self.describe()}: mount the disk it is on, or create the repository first."
        )

    def _in_the_way(self, path: str) -> StoreRefused:
        while not os.path.lexists(path):  # what is in the way may be further up
            path = os.path.dirname(path)
        kind = "a symbolic link" if os.path.islink(path) else "a file"
        return StoreRefused(f"{_shown(path)} is {kind}; a real directory is needed there.")

    # ---------------------------------------------------------------- folders

    @contextmanager
    def _opened(self, folder: str, *, make: bool = False) -> Iterator[int]:
        """The folder's descriptor; FileNotFoundError when it is not there and not to be made."""
        with self._root() as root:
            if make and not self._is_ours(root):
                raise self._unmounted()
            here = os.dup(root)
            try:
                for depth, part in enumerate(parts := folder.split("/") if folder else []):
                    below = self._step(here, "/".join(parts[: depth + 1]), part, make=make)
                    os.close(here)
                    here = below
                yield here
            finally:
                os.close(here)

    def _step(self, here: int, folder: str, part: str, *, make: bool) -> int:
        try:
            below = self._found_or_made(here, folder, part) if make else _open_folder(here, part)
        except NotADirectoryError:
            if make or stat.S_ISLNK(os.lstat(part, dir_fd=here).st_mode):
                raise self._in_the_way(os.path.join(self._path, folder)) from None
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        if make and folder not in self._settled:
            os.fsync(here)  # also for a folder found: whoever made it may not have synced it yet
            self._settled.add(folder)
        return below

    def _found_or_made(self, here: int, folder: str, part: str) -> int:
        try:
            return _open_folder(here, part)
        except FileNotFoundError:
            self._settled.discard(folder)
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=here)
            return _open_folder(here, part)

    def _entries(self, folder: str) -> Sequence[tuple[str, int]]:
        """(key, size) in name order; the key of a folder ends in "/", so that sorting keys sorts whole names."""
        absent = suppress(FileNotFoundError)
        with self._told("listing it"), absent, self._opened(folder) as here, os.scandir(here) as found:
            return sorted(_listed(found))
        return []

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        above = f"{folder}/" if folder else ""
        every = above.startswith(prefix)
        for key, size in self._entries(folder):
            name = above + key
            if not key.endswith("/"):
                if every or name.startswith(prefix):
                    yield ObjectInfo(name, size)
            elif every or name.startswith(prefix) or prefix.startswith(name):
                yield from self._walk(name[:-1], prefix)

    def _folders(self, folder: str) -> Iterator[str]:
        yield folder
        for key, _ in self._entries(folder):
            if key.endswith("/"):
                yield from self._folders(f"{folder}/{key[:-1]}" if folder else key[:-1])

    def _sweep_folder(self, folder: str, oldest: float) -> int:
        swept = 0
        with suppress(FileNotFoundError), self._opened(folder) as here:
            for name in filter(_TEMPORARY.match, os.listdir(here)):
                facts = posix.lstat(name, here)
                if facts and facts.st_mtime <= oldest:
                    os.unlink(name, dir_fd=here)
                    swept += 1
        return swept

    # ---------------------------------------------------------------- objects

    @contextmanager
    def _object(self, name: str) -> Iterator[int]:
        """A finished object, open for reading; ObjectMissing when a regular file is not what is there."""
        folder, _, leaf = store.validate_name(name).rpartition("/")
        with self._opened_or_missing(folder, name) as parent:
            file = posix.open_regular(parent, leaf)
            if file is None:
                raise ObjectMissing(name, self.describe())
            try:
                yield file
            finally:
                os.close(file)

    @contextmanager
    def _opened_or_missing(self, folder: str, name: str) -> Iterator[int]:
        try:
            with self._opened(folder) as parent:
                yield parent
        except FileNotFoundError:
            raise ObjectMissing(name, self.describe()) from None

    def _publish(self, parent: int, name: str, data: Data, *, replace: bool) -> None:
        leaf, temporary = name.rpartition("/")[2], f".tmp-{token_hex(8)}"
        try:
            posix.write_synced(parent, temporary, data)
            if replace or store.promised_digest(name):
                os.rename(temporary, leaf, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                self._publish_first(parent, temporary, name, data)
        except BaseException:
            # Also after a failed fsync: the kernel reports lost pages once, so a file is written anew, not synced anew.
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        self._doubtful.add(name)
        os.fsync(parent)
        self._doubtful.discard(name)

    def _publish_first(self, parent: int, temporary: str, name: str, data: Data) -> None:
        """Give the file its name unless another writer was first with other bytes."""
        leaf = name.rpartition("/")[2]
        try:
            posix.rename_new(parent, temporary, leaf)
        except FileExistsError:
            if not posix.holds(parent, leaf, data):
                store.refuse_overwrite(name, data, self.describe())
            os.unlink(temporary, dir_fd=parent)

    # ---------------------------------------------------------------- errors

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise posix.translated(error, f"{self.describe()} (while {doing})", self._path) from error


def _open_folder(parent: int, name: str) -> int:
    return os.open(name, posix.FOLDER | os.O_NOFOLLOW, dir_fd=parent)


def _listed(found: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, int]]:
    """Key and size of the objects and folders among them; not of anything else, nor of what vanished meanwhile."""
    for entry in found:
        name = entry.name
        if not _COMPONENT.match(name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield name + "/", 0
            continue
        try:
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(facts.st_mode):
            yield name, facts.st_size


def _shown(path: str) -> str:
    return printable(os.fsencode(path))
